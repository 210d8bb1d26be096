#include "wire/zr_xchacha.h"

#include <openssl/evp.h>

#include "base/zr_bytes.h"
#include "base/zr_err.h"
#include "wire/zr_seal.h"

#define DOUBLE_ROUNDS 10

int zr_xchacha_open(zr_xchacha *x)
{
    x->ctx = EVP_CIPHER_CTX_new();
    if (x->ctx != NULL && EVP_EncryptInit_ex(x->ctx, EVP_chacha20_poly1305(), NULL, NULL, NULL) == 1)
        return ZR_OK;
    zr_xchacha_close(x);
    return ZR_E_os;
}

void zr_xchacha_close(zr_xchacha *x)
{
    EVP_CIPHER_CTX_free(x->ctx);
    x->ctx = NULL;
}

static uint32_t rotated(uint32_t v, int by)
{
    return v << by | v >> (32 - by);
}

static void quarter_round(uint32_t *a, uint32_t *b, uint32_t *c, uint32_t *d)
{
    *a += *b, *d = rotated(*d ^ *a, 16);
    *c += *d, *b = rotated(*b ^ *c, 12);
    *a += *b, *d = rotated(*d ^ *a, 8);
    *c += *d, *b = rotated(*b ^ *c, 7);
}

void zr_hchacha20(uint8_t subkey[32], const uint8_t key[ZR_XCHACHA_KEY], const uint8_t nonce[16])
{
    uint32_t s[16] = { 0x61707865, 0x3320646e, 0x79622d32, 0x6b206574 }; /* "expand 32-byte k" */

    for (int i = 0; i < 8; i++)
        s[4 + i] = zr_get32(key + 4 * i);
    for (int i = 0; i < 4; i++)
        s[12 + i] = zr_get32(nonce + 4 * i);
    for (int n = 0; n < DOUBLE_ROUNDS; n++) {
        for (int i = 0; i < 4; i++) /* columns */
            quarter_round(&s[i], &s[4 + i], &s[8 + i], &s[12 + i]);
        for (int i = 0; i < 4; i++) /* diagonals */
            quarter_round(&s[i], &s[4 + (i + 1) % 4], &s[8 + (i + 2) % 4], &s[12 + (i + 3) % 4]);
    }
    for (int i = 0; i < 4; i++) {
        zr_put32(subkey + 4 * i, s[i]);
        zr_put32(subkey + 16 + 4 * i, s[12 + i]);
    }
    zr_wipe(s, sizeof s);
}

void zr_xchacha_seal(zr_xchacha *x, uint8_t *to, const uint8_t key[ZR_XCHACHA_KEY],
                     const uint8_t nonce[ZR_XCHACHA_NONCE], const uint8_t *ad, int ad_len, const uint8_t *data, int len)
{
    uint8_t subkey[32], iv[12] = { 0 };
    int got = 0, end = 0;

    zr_hchacha20(subkey, key, nonce);
    memcpy(iv + 4, nonce + 16, 8);
    bool done = EVP_EncryptInit_ex(x->ctx, NULL, NULL, subkey, iv) == 1 &&
                EVP_EncryptUpdate(x->ctx, NULL, &got, ad, ad_len) == 1 &&
                EVP_EncryptUpdate(x->ctx, to, &got, data, len) == 1 &&
                EVP_EncryptFinal_ex(x->ctx, to + got, &end) == 1 &&
                EVP_CIPHER_CTX_ctrl(x->ctx, EVP_CTRL_AEAD_GET_TAG, ZR_XCHACHA_TAG, to + len) == 1;
    zr_wipe(subkey, sizeof subkey);
    ZR_CHECK(done && got + end == len);
}
