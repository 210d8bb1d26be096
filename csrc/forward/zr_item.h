/*
 * zr_item.h - an accepted media packet as the forwarder keeps it, and the queues it waits in.
 *
 *   turn queue of a stream  ->  output queue of the stream  ->  back to the pool of items
 *   replay cache of the stream, NACKed packets of a subscriber: items of their own that hold the same packet
 */
#ifndef ZR_ITEM_H
#define ZR_ITEM_H

#include "mem/zr_pool.h"
#include "wire/zr_media.h"

typedef struct zr_item {
    zr_slice slice; /* the RTP or RTCP packet; one reference on slice.pkt belongs to the item */
    zr_media media; /* hops and age as they were on arrival here */
    zr_ns_t arrival;
    uint64_t ordinal; /* order of acceptance within the stream, from 1 */
    uint32_t stream;  /* slot */
    uint32_t ssrc;    /* of RTP, like seq and timestamp */
    uint32_t timestamp;
    uint16_t seq;
    bool indexed; /* in the replay cache's hash chains */
    bool begins;  /* its track's packet before it was of another frame */
    struct zr_item *next, *hash_next;
} zr_item;

typedef struct zr_items { /* a pool, counted at start */
    zr_item *all, *free;
    uint32_t count, in_use;
    uint32_t used; /* the first so many have been taken at some time; the others' memory was never touched */
} zr_items;

typedef struct zr_itemq { /* first in, first out */
    zr_item *head, *tail;
    uint32_t count, bytes; /* bytes: of the packets */
} zr_itemq;

size_t zr_items_bytes(uint32_t count);
void zr_items_init(zr_items *items, void *mem, uint32_t count);
bool zr_items_left(const zr_items *items);
/* NULL when none is left. */
zr_item *zr_items_take(zr_items *items);
/* Drops the item's packet too. */
void zr_items_give(zr_items *items, zr_item *item);
/* A copy of `from` that holds its packet; NULL when none is left. */
zr_item *zr_items_copy(zr_items *items, const zr_item *from);

void zr_itemq_push(zr_itemq *queue, zr_item *item);
zr_item *zr_itemq_pop(zr_itemq *queue);
void zr_itemq_clear(zr_itemq *queue, zr_items *items);

static inline bool zr_item_is_rtcp(const zr_item *item)
{
    return (item->media.flags & ZR_MEDIA_RTCP) != 0;
}

#endif
