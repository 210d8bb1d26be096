#include "mem/zr_pool.h"

#include <string.h>

#include "base/zr_err.h"

#define NO_PKT UINT32_MAX

size_t zr_pool_bytes(uint32_t count)
{
    return zr_round_up(count * sizeof(zr_pkt), ZR_CACHELINE) + (size_t)count * ZR_PKT_BYTES;
}

int zr_pool_init(zr_pool *pool, void *mem, uint32_t count)
{
    if (count == 0 || count == NO_PKT || (uintptr_t)mem % ZR_CACHELINE != 0)
        return ZR_E_inval;

    *pool = (zr_pool){ .pkts = mem, .count = count };
    pool->bufs = (uint8_t *)mem + zr_round_up(count * sizeof(zr_pkt), ZR_CACHELINE);
    for (uint32_t i = 0; i < count; i++)
        pool->pkts[i] = (zr_pkt){
            .buf = pool->bufs + (size_t)i * ZR_PKT_BYTES,
            .pool = pool,
            .next = i + 1 < count ? i + 1 : NO_PKT,
            .off = ZR_PKT_HEAD,
        };
    return ZR_OK;
}

static inline uint32_t span(size_t len)
{
    const zr_pkt pkt = { .off = ZR_PKT_HEAD, .len = (uint16_t)len };
    return pkt.span;
}

zr_pkt *zr_pool_take(zr_pool *pool)
{
    if (pool->free_head == NO_PKT) {
        pool->exhausted++;
        return NULL;
    }

    zr_pkt *pkt = &pool->pkts[pool->free_head];
    pool->free_head = pkt->next;
    pkt->refs = 1;
    pkt->came_us = 0;
    pkt->span = span(0);
    pool->in_use++;
    pool->in_use_max = ZR_MAX(pool->in_use_max, pool->in_use);
    return pkt;
}

zr_pkt *zr_pool_copy(zr_pool *pool, const void *data, size_t len)
{
    if (len > ZR_PKT_ROOM)
        return NULL;

    zr_pkt *pkt = zr_pool_take(pool);
    if (pkt == NULL)
        return NULL;
    if (pool->free_head != NO_PKT)
        zr_pool_prefetch(pool, &pool->pkts[pool->free_head], len); /* likely the next one's, and cold */
    if (len > 0)
        memcpy(pkt->buf + pkt->off, data, len);
    /* One store behind the copy: two would make the first read of both wait until all of it has reached the cache. */
    pkt->span = span(len);
    return pkt;
}

bool zr_pool_check(const zr_pool *pool)
{
    uint32_t in_use = 0, free = 0;

    for (uint32_t i = 0; i < pool->count; i++) {
        const zr_pkt *pkt = &pool->pkts[i];
        if (pkt->buf != pool->bufs + (size_t)i * ZR_PKT_BYTES || pkt->pool != pool)
            return false;
        if ((uint32_t)pkt->off + pkt->len > ZR_PKT_BYTES)
            return false;
        in_use += pkt->refs > 0;
    }
    /* A list longer than the pool has a cycle; a shorter one has lost packets. */
    for (uint32_t i = pool->free_head; i != NO_PKT; i = pool->pkts[i].next)
        if (i >= pool->count || pool->pkts[i].refs > 0 || ++free > pool->count)
            return false;
    return in_use == pool->in_use && in_use + free == pool->count && in_use <= pool->in_use_max;
}
