/*
 * zr_pool.h - packets: reference-counted 2 048-byte buffers in memory counted at start.
 *
 *   slot   |<- 128 head room ->|<------------- datagram, up to 1 920 bytes ------------->|
 *          buf                 buf + off                                  buf + off + len
 *
 * One pool per worker, one thread. A packet leaves the pool with one reference; whoever keeps it holds it, whoever is
 * done drops it, the last drop gives it back. Buffers are never written after they are shared (refs > 1): subscribers
 * send straight out of them.
 */
#ifndef ZR_POOL_H
#define ZR_POOL_H

#include "base/zr_base.h"

#define ZR_PKT_BYTES 2048u
#define ZR_PKT_HEAD  128u
#define ZR_PKT_ROOM  (ZR_PKT_BYTES - ZR_PKT_HEAD)

typedef struct zr_pool zr_pool;

typedef struct zr_pkt {
    uint8_t *buf; /* ZR_PKT_BYTES bytes, constant */
    zr_pool *pool;
    uint32_t refs; /* 0 while it lies in the pool */
    union {
        uint32_t next;    /* in the pool: free list */
        uint32_t came_us; /* out of it: when it came in, low 32 bits of microseconds; 0: not known */
    };
    union {
        struct {
            uint16_t off, len; /* what of buf is the datagram */
        };
        uint32_t span; /* both: written together, for they are read together (zr_pool_copy) */
    };
    uint32_t pad;
} zr_pkt;

/* A borrowed view of a piece of a packet. Keeping it means holding `pkt`. */
typedef struct zr_slice {
    zr_pkt *pkt;
    uint16_t off, len;
} zr_slice;

struct zr_pool {
    zr_pkt *pkts;
    uint8_t *bufs;
    uint32_t count;
    uint32_t free_head;
    uint32_t in_use;
    uint32_t in_use_max;
    uint64_t exhausted; /* takes refused */
};

/* Bytes of memory `zr_pool_init` wants for `count` packets, cache-line aligned. */
size_t zr_pool_bytes(uint32_t count);
/* `mem` must be aligned to ZR_CACHELINE and outlive the pool. count >= 1. */
int zr_pool_init(zr_pool *pool, void *mem, uint32_t count);

/* One packet with refs 1, off ZR_PKT_HEAD, len 0; NULL and a count when the pool is empty. */
zr_pkt *zr_pool_take(zr_pool *pool);
/* Takes a packet and copies `len` bytes in; NULL when empty or len > ZR_PKT_ROOM. */
zr_pkt *zr_pool_copy(zr_pool *pool, const void *data, size_t len);

static inline void zr_pkt_hold(zr_pkt *pkt)
{
    ZR_CHECK(pkt->refs > 0);
    pkt->refs++;
}

/* Gives the packet back with the last reference. NULL is allowed. */
static inline void zr_pkt_drop(zr_pkt *pkt)
{
    if (pkt == NULL)
        return;
    ZR_CHECK(pkt->refs > 0);
    if (--pkt->refs > 0)
        return;

    /* Last in, first out: the buffer that is still in the cache goes out next. */
    zr_pool *pool = pkt->pool;
    pkt->next = pool->free_head;
    pool->free_head = (uint32_t)(pkt - pool->pkts);
    pool->in_use--;
}

static inline const uint8_t *zr_pkt_data(const zr_pkt *pkt)
{
    return pkt->buf + pkt->off;
}

static inline const uint8_t *zr_slice_data(const zr_slice *slice)
{
    return slice->pkt->buf + slice->off;
}

/* Asks the memory for a packet and the first `len` bytes after its head room, without touching it: for who knows
 * that it is taken in a moment. */
static inline void zr_pool_prefetch(const zr_pool *pool, const zr_pkt *pkt, size_t len)
{
    const uint8_t *data = pool->bufs + (size_t)(pkt - pool->pkts) * ZR_PKT_BYTES + ZR_PKT_HEAD;

    __builtin_prefetch(pkt, 1);
    for (size_t at = 0; at < len; at += ZR_CACHELINE)
        __builtin_prefetch(data + at, 1);
}

/* Slow: walks every packet. True when the free list, the counts and the references agree. */
bool zr_pool_check(const zr_pool *pool);

#endif
