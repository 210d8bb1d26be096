/*
 * zr_seq.h - serial number arithmetic (RFC 1982): comparisons that survive the wrap while distances stay below half.
 */
#ifndef ZR_SEQ_H
#define ZR_SEQ_H

#include <stdbool.h>
#include <stdint.h>

/* a - b as a signed distance. */
static inline int32_t zr_seq_diff(uint32_t a, uint32_t b)
{
    return (int32_t)(a - b);
}

static inline bool zr_seq_before(uint32_t a, uint32_t b)
{
    return zr_seq_diff(a, b) < 0;
}

static inline int16_t zr_seq16_diff(uint16_t a, uint16_t b)
{
    return (int16_t)(uint16_t)(a - b);
}

/* The 64-bit number nearest to `near` whose low 32 bits are `low`; never below 0. */
static inline uint64_t zr_seq_unwrap(uint64_t near, uint32_t low)
{
    int64_t v = (int64_t)near + (int64_t)zr_seq_diff(low, (uint32_t)near);
    return v < 0 ? (uint64_t)(v + ((int64_t)1 << 32)) : (uint64_t)v;
}

#endif
