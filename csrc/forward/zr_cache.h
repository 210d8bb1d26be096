/*
 * zr_cache.h - the replay caches of all streams: what was forwarded in the last seconds, by reference.
 *
 *   stream slot -> line: oldest ... newest      (stream, SSRC, RTP seq) -> item, for NACK
 *
 * One array of items, counted at start, serves every stream. When it is used up, the stream that was used least
 * recently gives its oldest packet (counted in `evicted`). Age is looked at on use only: an idle stream costs nothing.
 */
#ifndef ZR_CACHE_H
#define ZR_CACHE_H

#include "forward/zr_item.h"
#include "forward/zr_list.h"

typedef struct zr_cache_line {
    zr_list recent; /* in zr_cache.recent while it holds packets */
    zr_itemq queue;
    uint32_t key_number; /* what zr_cache_key answered since the last packet came or went */
    bool key_known, key_found;
} zr_cache_line;

typedef struct zr_cache {
    zr_items items;
    zr_cache_line *lines; /* by stream slot */
    zr_item **buckets;
    uint32_t bucket_mask, streams_max;
    zr_list recent; /* lines, the least recently used one first */
    zr_ns_t age_max;
    uint64_t evicted;
    const zr_pool *pool; /* of all packets kept */
} zr_cache;

size_t zr_cache_bytes(uint32_t items_max, uint32_t streams_max);
/* items_max 0: nothing is ever kept. */
void zr_cache_init(zr_cache *cache, void *mem, uint32_t items_max, uint32_t streams_max, zr_ns_t age_max,
                   const zr_pool *pool);

/* Keeps a copy of `item` (its stream says where), holding its packet. */
void zr_cache_put(zr_cache *cache, const zr_item *item, zr_ns_t now);
/* The newest packet of that name not older than age_max, or NULL. */
const zr_item *zr_cache_find(zr_cache *cache, uint32_t stream, uint32_t ssrc, uint16_t seq, zr_ns_t now);
/* Oldest packet that is not too old; follow `next`. NULL when there is none. */
const zr_item *zr_cache_first(zr_cache *cache, uint32_t stream, zr_ns_t now);
/* Where a joiner begins: the media number of the latest cached key frame (of several video tracks: the earliest of
 * their latest). False when no key frame is there. */
bool zr_cache_key(zr_cache *cache, uint32_t stream, uint32_t *number, zr_ns_t now);
void zr_cache_clear(zr_cache *cache, uint32_t stream);
bool zr_cache_check(const zr_cache *cache);

#endif
