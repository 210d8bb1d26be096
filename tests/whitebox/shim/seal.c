#include <openssl/evp.h>

#include "wire/zr_seal.h"

static int wb_seal_prepare(zr_seal *seal, const zr_seal_kit *kit, int cipher, bool to_seal)
{
    return zr_seal_prepare(seal, kit, (enum zr_cipher)cipher, to_seal);
}

static void wb_seal_key(zr_seal *seal, int cipher, const uint8_t *secret, uint8_t from, uint8_t to, uint16_t epoch)
{
    zr_seal_key(seal, (enum zr_cipher)cipher, secret, from, to, epoch);
}

static int wb_seal_key_raw(zr_seal *seal, int cipher, const uint8_t *key, const uint8_t *iv)
{
    seal->cipher = (uint8_t)cipher;
    memcpy(seal->iv, iv, ZR_SEAL_IV);
    return EVP_CipherInit_ex2(seal->contexts[cipher], NULL, key, NULL, -1, NULL) == 1 ? 0 : -1;
}
