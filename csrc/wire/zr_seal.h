/*
 * zr_seal.h - the seal of a datagram between relays: AEAD over libcrypto, in place.
 *
 *   0        16                 n-16      n
 *   | header | plain or sealed  | tag     |       additional data: the whole clear header (zr_env.h)
 *
 *   key, IV = HKDF-Expand(SHA-256, direction secret,
 *                         "zlink lane" | u8 sending lane | u8 receiving lane | u16 epoch of the sending lane)
 *   nonce   = IV xor counter in the last 8 bytes, little-endian
 *
 * One zr_seal is one key in one direction. It is keyed again and again, and holds one libcrypto context per cipher it
 * was made for: made at start, because making one allocates. They are all that is not in the caller's memory, about
 * 1.2 KiB each. Keying, sealing, opening and wiping allocate nothing.
 */
#ifndef ZR_SEAL_H
#define ZR_SEAL_H

#include "wire/zr_env.h"

#define ZR_SECRET_BYTES 32u
#define ZR_SEAL_IV      12u
#define ZR_SEAL_KEY_MAX 32u
#define ZR_SEAL_CONTEXT 1200u /* bytes of heap for one of libcrypto's contexts, about */

enum zr_cipher { ZR_CIPHER_PLAIN, ZR_CIPHER_AES_128_GCM, ZR_CIPHER_CHACHA20_POLY1305, ZR_CIPHER_COUNT };

/* What a handshake gives to the lanes. */
typedef struct zr_keys {
    uint8_t cipher; /* enum zr_cipher */
    bool initiator; /* sends under these keys at once; else after the first valid datagram under them */
    uint8_t send[ZR_SECRET_BYTES], recv[ZR_SECRET_BYTES];
    uint32_t age_ms; /* of the handshake */
} zr_keys;

/* The algorithms, fetched once. */
typedef struct zr_seal_kit {
    struct evp_cipher_st *ciphers[ZR_CIPHER_COUNT];
} zr_seal_kit;

typedef struct zr_seal {
    struct evp_cipher_ctx_st *contexts[ZR_CIPHER_COUNT];
    uint8_t cipher; /* ZR_CIPHER_PLAIN: not keyed */
    uint8_t iv[ZR_SEAL_IV];
} zr_seal;

/* AES where the CPU computes it, else ChaCha20: what this machine is fastest at. */
enum zr_cipher zr_cipher_default(void);

/* ZR_OK; ZR_E_os: libcrypto has not got the algorithms. */
int zr_seal_kit_open(zr_seal_kit *kit);
void zr_seal_kit_close(zr_seal_kit *kit);

/* In memory that may hold anything. */
void zr_seal_init(zr_seal *seal);
/* Makes the context for one more cipher, to seal or to open; ZR_OK also when it is there. ZR_E_os: no memory. */
int zr_seal_prepare(zr_seal *seal, const zr_seal_kit *kit, enum zr_cipher cipher, bool to_seal);
void zr_seal_fini(zr_seal *seal);

/* The key of one pair of lanes. The seal was prepared for `cipher`. */
void zr_seal_key(zr_seal *seal, enum zr_cipher cipher, const uint8_t secret[ZR_SECRET_BYTES], uint8_t sending_lane,
                 uint8_t receiving_lane, uint16_t epoch);
/* Nothing of the key remains. */
void zr_seal_wipe(zr_seal *seal);

/* Seals a datagram whose header stands: encrypts what lies between header and tag, writes the tag. */
void zr_seal_put(zr_seal *seal, uint64_t counter, uint8_t *datagram, size_t len);
/* Opens one in place, len >= head + tag. False when the tag does not verify; the contents are then worthless. */
bool zr_seal_open(zr_seal *seal, uint64_t counter, uint8_t *datagram, size_t len);

/* RFC 5869, SHA-256; out_len <= 64, info_len <= 64. */
void zr_hkdf_expand(const uint8_t secret[ZR_SECRET_BYTES], const uint8_t *info, size_t info_len, uint8_t *out,
                    size_t out_len);
/* memset that no compiler leaves out. */
void zr_wipe(void *mem, size_t bytes);
/* In the same time whether equal or not. */
bool zr_same_secret(const void *a, const void *b, size_t bytes);

#endif
