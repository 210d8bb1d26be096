/*
 * zr_mac.h - keyed BLAKE2s (RFC 7693) of 16 bytes over libcrypto: MAC1, MAC2 and cookies of handshake messages.
 *
 * One context serves every key: keyed BLAKE2s hashes its key as a block of its own, so a kept key would save nothing.
 */
#ifndef ZR_MAC_H
#define ZR_MAC_H

#include "base/zr_base.h"

#define ZR_MAC_BYTES     16u
#define ZR_MAC_KEY_BYTES 32u /* at most */

typedef struct zr_mac {
    struct evp_mac_ctx_st *ctx;
} zr_mac;

/* Takes memory of libcrypto's. ZR_E_os: it has no BLAKE2s. Nothing else here allocates or fails. */
int zr_mac_open(zr_mac *mac);
/* Also of one that did not open. */
void zr_mac_close(zr_mac *mac);
void zr_mac_of(zr_mac *mac, uint8_t out[ZR_MAC_BYTES], const uint8_t *key, size_t key_len, const uint8_t *data,
               size_t len);
/* In a time that does not depend on the bytes. */
bool zr_mac_eq(const uint8_t a[ZR_MAC_BYTES], const uint8_t b[ZR_MAC_BYTES]);
/* The key that handshake messages for whoever has `public` are checked with: BLAKE2s-256(label | public | mesh), where
 * the label is "mac1----" or "cookie--". ZR_E_os. */
int zr_mac_key(uint8_t key[ZR_MAC_KEY_BYTES], const char label[8], const uint8_t public[32], const uint8_t mesh[32]);

#endif
