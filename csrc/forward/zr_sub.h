/*
 * zr_sub.h - subscribers of streams, and the addresses RTP goes to.
 *
 *   stream -> players (RTP) | children (a conversation with another relay)
 *   player -> destinations: one default, one per track that has its own     address -> destinations -> players
 *
 * A sub_add joins at the stream's current ordinal: packets accepted before come from the replay cache or not at all,
 * packets accepted after come by fan-out, none by both.
 */
#ifndef ZR_SUB_H
#define ZR_SUB_H

#include "base/zr_addr.h"
#include "base/zr_err.h"
#include "forward/zr_stream.h"

#define ZR_TRACK_DEFAULT 255u

typedef struct zr_dest {
    zr_addr addr;
    struct zr_sub *sub;
    uint8_t track; /* or ZR_TRACK_DEFAULT */
    struct zr_dest *next, *hash_next;
} zr_dest;

typedef struct zr_sub {
    zr_stream *stream; /* NULL: free */
    uint32_t slot;
    bool child, warm;
    uint32_t conv;             /* child: the lane's handle */
    uint16_t tracks, own;      /* bits: wanted tracks; tracks with an address of their own */
    uint16_t cut;              /* child, bit per track: something of it is left out */
    bool stuck;                /* child: the control plane has been told */
    zr_ns_t added;             /* child: when */
    uint8_t spatial, temporal; /* highest layers wanted */
    zr_dest *dests;
    zr_list in_stream;
    uint64_t since; /* ordinal of the first packet that comes by fan-out */
    /* Player, its place in the stream's output queue: */
    uint32_t due; /* pairs not yet judged */
    uint8_t pass; /* 0: packets for the default address; 1 + t: those of track t with its own */
    zr_item *at;
    /* Player, replay: ordinals replay_at.. below `since`, numbers from replay_number on */
    zr_list joining;
    uint64_t replay_at;
    uint32_t replay_number;
    /* Player, packets asked for by NACK: */
    zr_list asking;
    zr_itemq asked;
    zr_ns_t asks; /* zr_rate of look-ups */
} zr_sub;

typedef struct zr_subs {
    zr_sub *all;
    zr_dest *dests, *dest_free, **buckets;
    uint32_t max, bucket_mask, count;
    uint32_t used;       /* slots below this have been taken at some time; the others' memory was never touched */
    uint32_t dests_used; /* the first so many have been taken at some time; the others' memory was never touched */
} zr_subs;

/* Destinations: two for each of `max` subscribers and some, from one pool. */
size_t zr_subs_bytes(uint32_t max);
/* In zeroed memory, which is touched only as far as slots are taken. */
void zr_subs_init(zr_subs *subs, void *mem, uint32_t max);

/* The subscriber in `slot`, NULL when free or out of range. */
zr_sub *zr_subs_get(const zr_subs *subs, uint32_t slot);
/* A new subscriber at the end of its stream's players or children; NULL when the slot is taken or out of range. */
zr_sub *zr_subs_add(zr_subs *subs, uint32_t slot, zr_stream *stream, bool child);
/* Its lists must have been left, its queue be empty. */
void zr_subs_remove(zr_subs *subs, zr_sub *sub);
/* ZR_OK or ZR_E_nomem; replaces the address that was there. */
int zr_subs_set_addr(zr_subs *subs, zr_sub *sub, uint8_t track, const zr_addr *addr);
/* Where packets of a track go, NULL: nowhere. */
const zr_addr *zr_sub_addr(const zr_sub *sub, uint32_t track);
/* The first destination with this very address, then the one behind `after`. */
zr_dest *zr_subs_at(const zr_subs *subs, const zr_addr *addr, const zr_dest *after);

/* Does it want this packet at all? (track mask, layers, warm) */
bool zr_sub_wants(const zr_sub *sub, const zr_item *item);
/* The pass of a player's output that a packet belongs to. */
uint8_t zr_sub_pass(const zr_sub *sub, const zr_item *item);
bool zr_subs_check(const zr_subs *subs);

#endif
