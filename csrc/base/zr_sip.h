/*
 * zr_sip.h - SipHash-2-4 (Aumasson, Bernstein 2012) of one 64-bit word: numbers that nobody without the key foresees.
 */
#ifndef ZR_SIP_H
#define ZR_SIP_H

#include <stdint.h>

static inline uint64_t zr_sip_rotl(uint64_t x, int by)
{
    return x << by | x >> (64 - by);
}

static inline void zr_sip_round(uint64_t v[4])
{
    v[0] += v[1];
    v[1] = zr_sip_rotl(v[1], 13) ^ v[0];
    v[0] = zr_sip_rotl(v[0], 32);
    v[2] += v[3];
    v[3] = zr_sip_rotl(v[3], 16) ^ v[2];
    v[0] += v[3];
    v[3] = zr_sip_rotl(v[3], 21) ^ v[0];
    v[2] += v[1];
    v[1] = zr_sip_rotl(v[1], 17) ^ v[2];
    v[2] = zr_sip_rotl(v[2], 32);
}

static inline uint64_t zr_sip(uint64_t key0, uint64_t key1, uint64_t word)
{
    const uint64_t blocks[2] = { word, 8ull << 56 }; /* the last one: the length, in bytes */
    uint64_t v[4] = { key0 ^ 0x736f6d6570736575u, key1 ^ 0x646f72616e646f6du, key0 ^ 0x6c7967656e657261u,
                      key1 ^ 0x7465646279746573u };

    for (int i = 0; i < 2; i++) {
        v[3] ^= blocks[i];
        zr_sip_round(v);
        zr_sip_round(v);
        v[0] ^= blocks[i];
    }
    v[2] ^= 0xff;
    for (int i = 0; i < 4; i++)
        zr_sip_round(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

#endif
