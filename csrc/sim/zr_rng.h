/*
 * zr_rng.h - xoshiro256** seeded by splitmix64 (Blackman, Vigna), written here so that no libc can change a trace.
 */
#ifndef ZR_RNG_H
#define ZR_RNG_H

#include <stdint.h>

typedef struct zr_rng {
    uint64_t s[4];
} zr_rng;

/* Any seed will do, 0 too: splitmix64 never fills all four words with zeros. */
static inline void zr_rng_seed(zr_rng *rng, uint64_t seed)
{
    for (int i = 0; i < 4; i++) {
        uint64_t z = seed += 0x9E3779B97F4A7C15u;
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
        z = (z ^ z >> 27) * 0x94D049BB133111EBu;
        rng->s[i] = z ^ z >> 31;
    }
}

static inline uint64_t zr_rng_next(zr_rng *rng)
{
    uint64_t *s = rng->s, five = s[1] * 5, t = s[1] << 17;
    uint64_t result = (five << 7 | five >> 57) * 9;

    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = s[3] << 45 | s[3] >> 19;
    return result;
}

/* Uniform in [0, 1), 53 bits. */
static inline double zr_rng_unit(zr_rng *rng)
{
    return (double)(zr_rng_next(rng) >> 11) * 0x1p-53;
}

/* Uniform in [0, below); 0 when below is 0. The bias, below / 2^64, is beyond any test. */
static inline uint64_t zr_rng_below(zr_rng *rng, uint64_t below)
{
    return below == 0 ? 0 : zr_rng_next(rng) % below;
}

/* True with probability p. Draws nothing for p <= 0, so an unused impairment leaves the others' draws alone. */
static inline int zr_rng_chance(zr_rng *rng, double p)
{
    return p > 0 && zr_rng_unit(rng) < p;
}

#endif
