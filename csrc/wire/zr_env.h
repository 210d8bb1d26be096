/*
 * zr_env.h - the envelope of a datagram between relays: a 16-byte clear header and a 16-byte tag.
 *
 *   0      1          2           4                     8            16                        n-16       n
 *   | type | lane     | epoch u16 | receiver index u32  | counter u64 | plaintext or ciphertext | tag      |
 *          sending      of that     session 26 bits<<6    per pair of lanes,
 *          lane         lane        | receiver's lane     keys and epoch
 *
 * In plaintext (loopback only) the tag is 16 zero bytes, so that sizes and figures never change.
 */
#ifndef ZR_ENV_H
#define ZR_ENV_H

#include "base/zr_base.h"
#include "stat/zr_drop.h"

#define ZR_ENV_HEAD 16u
#define ZR_ENV_TAG  16u

enum zr_env_type { ZR_ENV_HELLO = 0x08, ZR_ENV_ANSWER = 0x09, ZR_ENV_COOKIE = 0x0A, ZR_ENV_DATA = 0x0B };

typedef struct zr_env {
    uint8_t type, lane;
    uint16_t epoch;
    uint32_t receiver; /* whole word; zr_env_index and zr_env_lane take it apart */
    uint64_t counter;
} zr_env;

static inline uint32_t zr_env_index(uint32_t receiver)
{
    return receiver >> 6;
}

static inline uint8_t zr_env_lane(uint32_t receiver)
{
    return (uint8_t)(receiver & 63u);
}

/* Type of a datagram by its first byte and length: ZR_OK with *type, or ZR_E_malformed with *drop one of short, type,
 * version. For DATA the length is at least ZR_ENV_HEAD + ZR_ENV_TAG. */
int zr_env_classify(const uint8_t *data, size_t len, enum zr_env_type *type, enum zr_drop_id *drop);
/* The data header; `data` holds at least ZR_ENV_HEAD bytes. */
void zr_env_parse(zr_env *env, const uint8_t *data);
void zr_env_put(uint8_t *to, const zr_env *env);

#endif
