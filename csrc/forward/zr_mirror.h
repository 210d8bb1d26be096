/*
 * zr_mirror.h - a stream's packets on their way to another worker of this relay: the records, and the rings they are
 * in.
 *
 *   owner                                                              target
 *   zr_stream (local or pulled) ── media records ──▶ ring ──▶ zr_stream, a mirror: same numbers and tracks, a replay
 *        ▲                                                    cache, players and children of its own, neither ingress
 *        │                                                    nor pull
 *        └──────────── key frame records ◀── the ring the other way ──┘
 *
 * One copy per packet and worker, whatever its subscribers. A record names the receiver's stream slot and its `feed`,
 * the number that the control plane gave to this life of the mirror: what was written for an earlier life, of this or
 * another stream in the same slot, is nobody's (an epoch would not tell: two streams may both have epoch 1).
 */
#ifndef ZR_MIRROR_H
#define ZR_MIRROR_H

#include "forward/zr_item.h"
#include "forward/zr_list.h"
#include "ring/zr_inbox.h"

#define ZR_MIRROR_SLOTS  512u
#define ZR_MIRROR_RECORD 1600u /* bytes: head and ZR_RTP_MAX, in whole cache lines */

enum zr_record_kind { ZR_RECORD_MEDIA = 1, ZR_RECORD_KEYFRAME };

typedef struct zr_record { /* head of a record; the packet follows */
    uint16_t kind, len;    /* len: of the packet */
    uint32_t stream, feed; /* the receiver's slot, and its life */
    uint32_t track;        /* of a key frame request */
    zr_ns_t arrival;       /* at the owner */
    uint8_t media[ZR_MEDIA_HEAD];
} zr_record;

_Static_assert(sizeof(zr_record) == 40 && sizeof(zr_record) + ZR_RTP_MAX <= ZR_MIRROR_RECORD, "a record holds it all");

typedef struct zr_mirror { /* at the owner: one of its streams at another worker */
    uint32_t slot, feed;
    /* While it catches up: ordinals from replay_at, numbers from replay_number on, out of the owner's cache. */
    uint32_t replay_number;
    uint64_t replay_at;
} zr_mirror;

typedef struct zr_mirrors { /* all of one worker */
    uint32_t self, workers;
    zr_inbox inbox; /* ours; page NULL: a worker alone */
    zr_inbox_end in[ZR_INBOX_WORKERS], out[ZR_INBOX_WORKERS];
    _Atomic uint32_t *asleep[ZR_INBOX_WORKERS]; /* whom we write to */
    uint64_t written;                           /* bit per worker: records since it was last asked about */
    uint32_t first;                             /* whose ring is read first in the next turn */
    bool left;                                  /* the budget ended before the rings */
    uint32_t count;                             /* (stream, worker) pairs */
    zr_mirror *all;                             /* [streams][workers] */
    zr_list catching;                           /* streams with a mirror that catches up */
    zr_ns_t catch_at;                           /* when these go on; ZR_NEVER when there are none */
} zr_mirrors;

size_t zr_mirrors_bytes(uint32_t streams_max, uint32_t workers);
void zr_mirrors_init(zr_mirrors *mirrors, void *mem, uint32_t self, uint32_t workers);
static inline zr_mirror *zr_mirrors_at(const zr_mirrors *mirrors, uint32_t stream, uint32_t worker)
{
    return &mirrors->all[(size_t)stream * mirrors->workers + worker];
}

/* Another worker that is there; not ourselves. */
bool zr_mirrors_known(const zr_mirrors *mirrors, uint32_t worker);
/* The other's inbox, or our own. ZR_OK, ZR_E_inval, or ZR_E_version (a ring was given up; it works). */
int zr_mirrors_meet(zr_mirrors *mirrors, uint32_t worker, const zr_inbox *inbox);

/* A record in a worker's ring, ZR_E_full when it takes none. */
int zr_mirrors_put_media(zr_mirrors *mirrors, uint32_t worker, uint32_t stream, uint32_t feed, const zr_item *item,
                         uint8_t flags);
int zr_mirrors_put_keyframe(zr_mirrors *mirrors, uint32_t worker, uint32_t stream, uint32_t feed, uint32_t track);
/* The oldest record of a worker's ring: its head, copied; the packet stays in the ring until zr_inbox_release. NULL
 * when there is none. */
const uint8_t *zr_mirrors_take(zr_mirrors *mirrors, uint32_t worker, zr_record *record);
/* Before the reader sleeps, after it has said so (zr_chan_sleep of inbox.page->asleep): is there anything after all? */
bool zr_mirrors_waiting(zr_mirrors *mirrors);

#endif
