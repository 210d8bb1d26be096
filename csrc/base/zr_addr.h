/*
 * zr_addr.h - an IP address and UDP port, without any socket header. Text is parsed in Python only.
 */
#ifndef ZR_ADDR_H
#define ZR_ADDR_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

typedef struct zr_addr {
    uint8_t ip[16]; /* IPv4 in the first 4, the rest zero */
    uint16_t port;  /* host order */
    uint8_t family; /* 0 none, 4, 6 */
    uint8_t pad;    /* zero, so that addresses compare as bytes */
} zr_addr;

_Static_assert(sizeof(zr_addr) == 20, "zr_addr travels in command records");

static inline bool zr_addr_eq(const zr_addr *a, const zr_addr *b)
{
    return memcmp(a, b, sizeof *a) == 0;
}

static inline bool zr_addr_same_ip(const zr_addr *a, const zr_addr *b)
{
    return a->family == b->family && memcmp(a->ip, b->ip, sizeof a->ip) == 0;
}

/* `addr` with its port moved by `by`: lane i of a relay is its agent's address moved by 1 + i. */
static inline zr_addr zr_addr_shifted(const zr_addr *addr, int by)
{
    zr_addr moved = *addr;
    moved.port = (uint16_t)(moved.port + by);
    return moved;
}

/* A key for zr_map: 64 bits of the address, mixed. Two addresses may collide: compare after a look-up. */
static inline uint64_t zr_addr_hash(const zr_addr *addr)
{
    uint64_t lo, hi;
    memcpy(&lo, addr->ip, 8);
    memcpy(&hi, addr->ip + 8, 8);
    uint64_t h = (lo ^ (hi * 0x9E3779B97F4A7C15u)) + ((uint64_t)addr->port << 8 | addr->family);
    h ^= h >> 32;
    h *= 0xD6E8FEB86659FD93u;
    return h ^ (h >> 32);
}

#endif
