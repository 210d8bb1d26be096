/*
 * zr_bytes.h - integers in byte strings. Our wire is little-endian, RTP is big-endian. Alignment never matters.
 */
#ifndef ZR_BYTES_H
#define ZR_BYTES_H

#include <stdint.h>
#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the wire helpers assume a little-endian host");

static inline uint16_t zr_get16(const uint8_t *p)
{
    uint16_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

static inline uint32_t zr_get32(const uint8_t *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

static inline uint64_t zr_get64(const uint8_t *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

static inline void zr_put16(uint8_t *p, uint16_t v)
{
    memcpy(p, &v, sizeof v);
}

static inline void zr_put32(uint8_t *p, uint32_t v)
{
    memcpy(p, &v, sizeof v);
}

static inline void zr_put64(uint8_t *p, uint64_t v)
{
    memcpy(p, &v, sizeof v);
}

static inline uint16_t zr_get16be(const uint8_t *p)
{
    return __builtin_bswap16(zr_get16(p));
}

static inline uint32_t zr_get32be(const uint8_t *p)
{
    return __builtin_bswap32(zr_get32(p));
}

static inline void zr_put16be(uint8_t *p, uint16_t v)
{
    zr_put16(p, __builtin_bswap16(v));
}

static inline void zr_put32be(uint8_t *p, uint32_t v)
{
    zr_put32(p, __builtin_bswap32(v));
}

#endif
