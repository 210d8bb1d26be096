#include "forward/zr_cache.h"

#include "coll/zr_seq.h"

#define PUT_EXPIRES 8u /* a stream that goes on after a pause does not pay for the two seconds before it at once */

static zr_item **bucket_of(const zr_cache *cache, uint32_t stream, uint32_t ssrc, uint16_t seq)
{
    uint64_t h = ((uint64_t)ssrc << 32 | stream) * 0x9E3779B97F4A7C15u;

    /* Neighbours in a stream are neighbours here: packets come and go in order, eight buckets to a cache line. */
    return &cache->buckets[((h >> 32) + seq) & cache->bucket_mask];
}

static bool named(const zr_item *item, uint32_t stream, uint32_t ssrc, uint16_t seq)
{
    return item->stream == stream && item->ssrc == ssrc && item->seq == seq;
}

/* Only the newest packet of a name can be found, so the one before leaves the chain: a publisher that repeats one
 * sequence number for ever must not make a chain of all its packets. */
static void index_item(zr_cache *cache, zr_item *item)
{
    zr_item **bucket = bucket_of(cache, item->stream, item->ssrc, item->seq);

    for (zr_item **at = bucket; *at != NULL; at = &(*at)->hash_next)
        if (named(*at, item->stream, item->ssrc, item->seq)) {
            (*at)->indexed = false;
            *at = (*at)->hash_next;
            break;
        }
    item->hash_next = *bucket;
    item->indexed = true;
    *bucket = item;
}

static void unindex_item(zr_cache *cache, const zr_item *item)
{
    zr_item **at = bucket_of(cache, item->stream, item->ssrc, item->seq);

    while (*at != item)
        at = &(*at)->hash_next;
    *at = item->hash_next;
}

/* The oldest packets lie in memory that nobody has looked at for two seconds. The one to be dropped next is the one
 * whose buffer is written next (zr_pool is last in, first out): on a full cache that was a third of a packet's time. */
static void prefetch(const zr_cache *cache, const zr_item *next)
{
    if (next == NULL)
        return;
    if (next->next != NULL)
        __builtin_prefetch(next->next, 1);
    zr_pool_prefetch(cache->pool, next->slice.pkt, next->slice.len + ZR_CACHELINE);
}

static void drop_oldest(zr_cache *cache, zr_cache_line *line)
{
    zr_item *item = zr_itemq_pop(&line->queue);

    line->key_known = false;
    prefetch(cache, line->queue.head);
    if (item->indexed)
        unindex_item(cache, item);
    zr_items_give(&cache->items, item);
    if (line->queue.count == 0)
        zr_list_remove(&line->recent);
}

static void expire(zr_cache *cache, zr_cache_line *line, zr_ns_t now, uint32_t most)
{
    for (; most > 0 && line->queue.count > 0 && now - line->queue.head->arrival > cache->age_max; most--)
        drop_oldest(cache, line);
}

static void touch(zr_cache *cache, zr_cache_line *line)
{
    zr_list_remove(&line->recent);
    zr_list_append(&cache->recent, &line->recent);
}

size_t zr_cache_bytes(uint32_t items_max, uint32_t streams_max)
{
    return zr_items_bytes(items_max) + zr_round_up(streams_max * sizeof(zr_cache_line), ZR_CACHELINE) +
           zr_round_up(zr_pow2_up(items_max) * sizeof(zr_item *), ZR_CACHELINE);
}

void zr_cache_init(zr_cache *cache, void *mem, uint32_t items_max, uint32_t streams_max, zr_ns_t age_max,
                   const zr_pool *pool)
{
    unsigned char *at = mem;

    *cache = (zr_cache){ .streams_max = streams_max, .age_max = age_max, .pool = pool };
    zr_items_init(&cache->items, at, items_max);
    at += zr_items_bytes(items_max);
    cache->lines = (void *)at;
    at += zr_round_up(streams_max * sizeof(zr_cache_line), ZR_CACHELINE);
    cache->buckets = (void *)at;
    cache->bucket_mask = zr_pow2_up(items_max) - 1;
    zr_list_init(&cache->recent);
    for (uint32_t i = 0; i < streams_max; i++) {
        cache->lines[i].queue = (zr_itemq){ .count = 0 };
        cache->lines[i].key_known = false;
        zr_list_init(&cache->lines[i].recent);
    }
    for (uint32_t i = 0; i <= cache->bucket_mask; i++)
        cache->buckets[i] = NULL;
}

void zr_cache_put(zr_cache *cache, const zr_item *item, zr_ns_t now)
{
    zr_cache_line *line = &cache->lines[item->stream];
    zr_item *kept;

    if (cache->items.count == 0)
        return;
    expire(cache, line, now, PUT_EXPIRES);
    if (!zr_items_left(&cache->items)) {
        drop_oldest(cache, ZR_LIST_FIRST(&cache->recent, zr_cache_line, recent));
        cache->evicted++;
    }
    kept = zr_items_copy(&cache->items, item);
    zr_itemq_push(&line->queue, kept);
    line->key_known = false;
    touch(cache, line);
    if (!zr_item_is_rtcp(kept))
        index_item(cache, kept);
}

const zr_item *zr_cache_find(zr_cache *cache, uint32_t stream, uint32_t ssrc, uint16_t seq, zr_ns_t now)
{
    for (zr_item *item = *bucket_of(cache, stream, ssrc, seq); item != NULL; item = item->hash_next) {
        if (!named(item, stream, ssrc, seq))
            continue;
        if (now - item->arrival > cache->age_max)
            return NULL;
        touch(cache, &cache->lines[stream]);
        return item;
    }
    return NULL;
}

const zr_item *zr_cache_first(zr_cache *cache, uint32_t stream, zr_ns_t now)
{
    expire(cache, &cache->lines[stream], now, UINT32_MAX);
    return cache->lines[stream].queue.head;
}

static bool find_key(const zr_cache_line *line, uint32_t *number)
{
    uint32_t latest[ZR_TRACKS_MAX];
    unsigned tracks = 0; /* bit per track with a key frame */
    bool found = false;

    for (const zr_item *item = line->queue.head; item != NULL; item = item->next) {
        unsigned bit = 1u << item->media.track;
        if ((item->media.flags & ZR_MEDIA_KEY) == 0)
            continue;
        if ((tracks & bit) == 0 || zr_seq_before(latest[item->media.track], item->media.number))
            latest[item->media.track] = item->media.number;
        tracks |= bit;
    }
    for (unsigned track = 0; track < ZR_TRACKS_MAX; track++) {
        if ((tracks & 1u << track) == 0)
            continue;
        if (!found || zr_seq_before(latest[track], *number))
            *number = latest[track];
        found = true;
    }
    return found;
}

/* A crowd of joiners comes between two packets: the first of them walks, the others are told. */
bool zr_cache_key(zr_cache *cache, uint32_t stream, uint32_t *number, zr_ns_t now)
{
    zr_cache_line *line = &cache->lines[stream];

    expire(cache, line, now, UINT32_MAX);
    if (!line->key_known) {
        line->key_found = find_key(line, &line->key_number);
        line->key_known = true;
    }
    if (line->key_found)
        *number = line->key_number;
    return line->key_found;
}

void zr_cache_clear(zr_cache *cache, uint32_t stream)
{
    while (cache->lines[stream].queue.count > 0)
        drop_oldest(cache, &cache->lines[stream]);
}

bool zr_cache_check(const zr_cache *cache)
{
    uint32_t held = 0, indexed = 0, wanted = 0;

    for (uint32_t i = 0; i < cache->streams_max; i++) {
        const zr_cache_line *line = &cache->lines[i];
        uint64_t ordinal = 0;
        if (zr_list_linked(&line->recent) != (line->queue.count > 0))
            return false;
        for (const zr_item *item = line->queue.head; item != NULL; item = item->next, held++) {
            if (item->stream != i || item->slice.pkt->refs == 0 || item->ordinal <= ordinal)
                return false;
            ordinal = item->ordinal;
            wanted += item->indexed;
        }
    }
    for (uint32_t i = 0; cache->items.count > 0 && i <= cache->bucket_mask; i++)
        for (const zr_item *item = cache->buckets[i]; item != NULL; item = item->hash_next)
            indexed++;
    return held == cache->items.in_use && indexed == wanted;
}
