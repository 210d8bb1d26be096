/* The low-level SHA-256 of libcrypto is marked deprecated, but it is the only one that works in the caller's memory: an
 * EVP_MD_CTX allocates whenever it begins anew, and lane keys are derived on the packet path. */
#define OPENSSL_SUPPRESS_DEPRECATED

#include "wire/zr_seal.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/sha.h>

#include "base/zr_bytes.h"
#include "base/zr_err.h"

#if defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

#define LABEL     "zlink lane"
#define LABEL_LEN (sizeof LABEL - 1)
#define BLOCK     64u /* of SHA-256 */
#define HASH      32u

static const uint8_t key_bytes[ZR_CIPHER_COUNT] = { 0, 16, 32 };

enum zr_cipher zr_cipher_default(void)
{
#if defined(__x86_64__)
    bool fast = __builtin_cpu_supports("aes") && __builtin_cpu_supports("pclmul");
#elif defined(__aarch64__)
    const unsigned long needed = HWCAP_AES | HWCAP_PMULL;
    bool fast = (getauxval(AT_HWCAP) & needed) == needed;
#else
    bool fast = false;
#endif
    return fast ? ZR_CIPHER_AES_128_GCM : ZR_CIPHER_CHACHA20_POLY1305;
}

int zr_seal_kit_open(zr_seal_kit *kit)
{
    static const char *const names[ZR_CIPHER_COUNT] = { NULL, "AES-128-GCM", "ChaCha20-Poly1305" };

    *kit = (zr_seal_kit){ { NULL } };
    for (int i = ZR_CIPHER_PLAIN + 1; i < ZR_CIPHER_COUNT; i++) {
        kit->ciphers[i] = EVP_CIPHER_fetch(NULL, names[i], NULL);
        if (kit->ciphers[i] == NULL) {
            zr_seal_kit_close(kit);
            return ZR_E_os;
        }
    }
    return ZR_OK;
}

void zr_seal_kit_close(zr_seal_kit *kit)
{
    for (int i = 0; i < ZR_CIPHER_COUNT; i++)
        EVP_CIPHER_free(kit->ciphers[i]);
    *kit = (zr_seal_kit){ { NULL } };
}

void zr_seal_init(zr_seal *seal)
{
    *seal = (zr_seal){ .cipher = ZR_CIPHER_PLAIN };
}

int zr_seal_prepare(zr_seal *seal, const zr_seal_kit *kit, enum zr_cipher cipher, bool to_seal)
{
    static const uint8_t zero[ZR_SEAL_KEY_MAX];

    if (cipher == ZR_CIPHER_PLAIN || seal->contexts[cipher] != NULL)
        return ZR_OK;
    EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
    /* With a key and an IV at once: whatever libcrypto puts off to the first use happens here. */
    if (context == NULL || EVP_CipherInit_ex2(context, kit->ciphers[cipher], zero, zero, to_seal ? 1 : 0, NULL) != 1) {
        EVP_CIPHER_CTX_free(context);
        return ZR_E_os;
    }
    seal->contexts[cipher] = context;
    return ZR_OK;
}

void zr_seal_fini(zr_seal *seal)
{
    for (int i = 0; i < ZR_CIPHER_COUNT; i++)
        EVP_CIPHER_CTX_free(seal->contexts[i]); /* wipes it */
    zr_wipe(seal, sizeof *seal);
}

static void hmac(uint8_t out[HASH], const uint8_t secret[ZR_SECRET_BYTES], const uint8_t *data, size_t len)
{
    uint8_t pad[BLOCK];
    SHA256_CTX hash;

    for (size_t i = 0; i < BLOCK; i++)
        pad[i] = (i < ZR_SECRET_BYTES ? secret[i] : 0) ^ 0x36;
    SHA256_Init(&hash);
    SHA256_Update(&hash, pad, BLOCK);
    SHA256_Update(&hash, data, len);
    SHA256_Final(out, &hash);
    for (size_t i = 0; i < BLOCK; i++)
        pad[i] ^= 0x36 ^ 0x5C;
    SHA256_Init(&hash);
    SHA256_Update(&hash, pad, BLOCK);
    SHA256_Update(&hash, out, HASH);
    SHA256_Final(out, &hash);
    zr_wipe(pad, sizeof pad);
    zr_wipe(&hash, sizeof hash);
}

void zr_hkdf_expand(const uint8_t secret[ZR_SECRET_BYTES], const uint8_t *info, size_t info_len, uint8_t *out,
                    size_t out_len)
{
    uint8_t block[HASH + 64 + 1], hash[HASH];
    size_t before = 0; /* T(0) is empty */

    ZR_CHECK(info_len <= 64 && out_len <= 64);
    for (uint8_t n = 1; out_len > 0; n++) {
        size_t take = ZR_MIN(out_len, (size_t)HASH);
        memcpy(block, hash, before);
        memcpy(block + before, info, info_len);
        block[before + info_len] = n;
        hmac(hash, secret, block, before + info_len + 1);
        memcpy(out, hash, take);
        out += take;
        out_len -= take;
        before = HASH;
    }
    zr_wipe(block, sizeof block);
    zr_wipe(hash, sizeof hash);
}

void zr_seal_key(zr_seal *seal, enum zr_cipher cipher, const uint8_t secret[ZR_SECRET_BYTES], uint8_t sending_lane,
                 uint8_t receiving_lane, uint16_t epoch)
{
    uint8_t info[LABEL_LEN + 4], made[ZR_SEAL_KEY_MAX + ZR_SEAL_IV];
    size_t key_len = key_bytes[cipher];

    memcpy(info, LABEL, LABEL_LEN);
    info[LABEL_LEN] = sending_lane;
    info[LABEL_LEN + 1] = receiving_lane;
    zr_put16(info + LABEL_LEN + 2, epoch);
    zr_hkdf_expand(secret, info, sizeof info, made, key_len + ZR_SEAL_IV);
    seal->cipher = (uint8_t)cipher;
    memcpy(seal->iv, made + key_len, ZR_SEAL_IV);
    int rc = EVP_CipherInit_ex2(seal->contexts[cipher], NULL, made, NULL, -1, NULL);
    ZR_CHECK(rc == 1);
    zr_wipe(made, sizeof made);
}

void zr_seal_wipe(zr_seal *seal)
{
    static const uint8_t zero[ZR_SEAL_KEY_MAX];

    if (seal->cipher == ZR_CIPHER_PLAIN)
        return;
    /* Freeing it would wipe it, too, but it could not be made again without the allocator. */
    int rc = EVP_CipherInit_ex2(seal->contexts[seal->cipher], NULL, zero, zero, -1, NULL);
    ZR_CHECK(rc == 1);
    seal->cipher = ZR_CIPHER_PLAIN;
    zr_wipe(seal->iv, sizeof seal->iv);
}

/* The context, ready for one datagram: nonce set, header taken in. */
static EVP_CIPHER_CTX *begin(zr_seal *seal, uint64_t counter, const uint8_t *head)
{
    EVP_CIPHER_CTX *context = seal->contexts[seal->cipher];
    uint8_t nonce[ZR_SEAL_IV];
    int taken;

    memcpy(nonce, seal->iv, sizeof nonce);
    zr_put64(nonce + 4, zr_get64(nonce + 4) ^ counter);
    ZR_CHECK(EVP_CipherInit_ex2(context, NULL, NULL, nonce, -1, NULL) == 1 &&
             EVP_CipherUpdate(context, NULL, &taken, head, ZR_ENV_HEAD) == 1);
    return context;
}

void zr_seal_put(zr_seal *seal, uint64_t counter, uint8_t *datagram, size_t len)
{
    EVP_CIPHER_CTX *context = begin(seal, counter, datagram);
    uint8_t *body = datagram + ZR_ENV_HEAD, *tag = datagram + len - ZR_ENV_TAG;
    int done;

    ZR_CHECK(EVP_CipherUpdate(context, body, &done, body, (int)(tag - body)) == 1 &&
             EVP_CipherFinal_ex(context, tag, &done) == 1 &&
             EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_GET_TAG, ZR_ENV_TAG, tag) == 1);
}

bool zr_seal_open(zr_seal *seal, uint64_t counter, uint8_t *datagram, size_t len)
{
    EVP_CIPHER_CTX *context = begin(seal, counter, datagram);
    uint8_t *body = datagram + ZR_ENV_HEAD, *tag = datagram + len - ZR_ENV_TAG;
    int done;

    ZR_CHECK(EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_SET_TAG, ZR_ENV_TAG, tag) == 1);
    /* libcrypto compares the tag in constant time. */
    return EVP_CipherUpdate(context, body, &done, body, (int)(tag - body)) == 1 &&
           EVP_CipherFinal_ex(context, body + done, &done) == 1;
}

void zr_wipe(void *mem, size_t bytes)
{
    OPENSSL_cleanse(mem, bytes);
}

bool zr_same_secret(const void *a, const void *b, size_t bytes)
{
    return CRYPTO_memcmp(a, b, bytes) == 0;
}
