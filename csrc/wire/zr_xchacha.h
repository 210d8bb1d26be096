/*
 * zr_xchacha.h - XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha-03), for cookie replies: nonces of 24 bytes may be drawn
 * freely. HChaCha20 is ours; ChaCha20-Poly1305 is libcrypto's.
 *
 *   key, nonce[0..16) ─▶ HChaCha20 ─▶ subkey ┐
 *   0 0 0 0 | nonce[16..24) ─────────────────┴▶ ChaCha20-Poly1305 (RFC 8439)
 */
#ifndef ZR_XCHACHA_H
#define ZR_XCHACHA_H

#include "base/zr_base.h"

#define ZR_XCHACHA_KEY   32u
#define ZR_XCHACHA_NONCE 24u
#define ZR_XCHACHA_TAG   16u

typedef struct zr_xchacha {
    struct evp_cipher_ctx_st *ctx;
} zr_xchacha;

/* Takes memory of libcrypto's. ZR_E_os: it has no ChaCha20-Poly1305. Sealing allocates nothing and does not fail. */
int zr_xchacha_open(zr_xchacha *x);
/* Also of one that did not open. */
void zr_xchacha_close(zr_xchacha *x);
/* Writes len + ZR_XCHACHA_TAG bytes. `ad`: authenticated, not sent along. */
void zr_xchacha_seal(zr_xchacha *x, uint8_t *to, const uint8_t key[ZR_XCHACHA_KEY],
                     const uint8_t nonce[ZR_XCHACHA_NONCE], const uint8_t *ad, int ad_len, const uint8_t *data,
                     int len);
void zr_hchacha20(uint8_t subkey[32], const uint8_t key[ZR_XCHACHA_KEY], const uint8_t nonce[16]);

#endif
