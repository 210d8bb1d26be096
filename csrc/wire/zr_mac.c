#include "wire/zr_mac.h"

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <string.h>

#include "base/zr_err.h"
#include "wire/zr_seal.h"

int zr_mac_open(zr_mac *mac)
{
    size_t size = ZR_MAC_BYTES;
    OSSL_PARAM params[] = { OSSL_PARAM_construct_size_t(OSSL_MAC_PARAM_SIZE, &size), OSSL_PARAM_construct_end() };
    EVP_MAC *blake2s = EVP_MAC_fetch(NULL, "BLAKE2SMAC", NULL);

    mac->ctx = blake2s == NULL ? NULL : EVP_MAC_CTX_new(blake2s);
    EVP_MAC_free(blake2s); /* the context holds it */
    if (mac->ctx != NULL && EVP_MAC_CTX_set_params(mac->ctx, params) == 1)
        return ZR_OK;
    zr_mac_close(mac);
    return ZR_E_os;
}

void zr_mac_close(zr_mac *mac)
{
    EVP_MAC_CTX_free(mac->ctx);
    mac->ctx = NULL;
}

void zr_mac_of(zr_mac *mac, uint8_t out[ZR_MAC_BYTES], const uint8_t *key, size_t key_len, const uint8_t *data,
               size_t len)
{
    size_t got = 0;
    bool done = EVP_MAC_init(mac->ctx, key, key_len, NULL) == 1 && EVP_MAC_update(mac->ctx, data, len) == 1 &&
                EVP_MAC_final(mac->ctx, out, &got, ZR_MAC_BYTES) == 1;

    ZR_CHECK(done && got == ZR_MAC_BYTES);
}

bool zr_mac_eq(const uint8_t a[ZR_MAC_BYTES], const uint8_t b[ZR_MAC_BYTES])
{
    return zr_same_secret(a, b, ZR_MAC_BYTES);
}

int zr_mac_key(uint8_t key[ZR_MAC_KEY_BYTES], const char label[8], const uint8_t public[32], const uint8_t mesh[32])
{
    uint8_t joined[8 + 32 + 32];
    size_t got = 0;

    memcpy(joined, label, 8);
    memcpy(joined + 8, public, 32);
    memcpy(joined + 40, mesh, 32);
    bool done = EVP_Q_digest(NULL, "BLAKE2S-256", NULL, joined, sizeof joined, key, &got) == 1;
    zr_wipe(joined, sizeof joined);
    return done && got == ZR_MAC_KEY_BYTES ? ZR_OK : ZR_E_os;
}
