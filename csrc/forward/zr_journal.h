/*
 * zr_journal.h - what a worker has been told and still holds, in shared memory that outlives it: its successor replays
 * this before it looks at a socket, and forwards the packets that have waited there without asking anybody.
 *
 *   | header, redo | open[streams] | tracks[streams][16] | bind[ingress] | sources[ingress][16] | add[subs] |
 * addr[subs][16] |
 *
 * Kept: streams, tracks, ingress bindings and sources, RTP subscribers. Not kept, told anew by the agent: sessions and
 * whatever hangs on them (children, pulls), because the conversations died with their control blocks.
 *
 * A place holds the command itself. Its `seq` names the life it belongs to (the stream's or the subscriber's), so that
 * closing a stream is one write, and whatever hung on it is nobody's from then on. One writer, killed anywhere: a place
 * is written by way of `redo`, so it holds the old command or the new one, and the command is released from its ring
 * only afterwards. At worst the successor executes one command twice; commands bear that.
 */
#ifndef ZR_JOURNAL_H
#define ZR_JOURNAL_H

#include "base/zr_err.h"
#include "forward/zr_cmd.h"

#define ZR_JOURNAL_SOURCES 16u

typedef struct zr_journal {
    uint64_t magic; /* "zrjourn\0" */
    uint32_t version;
    uint32_t streams_max, ingress_max, subs_max;
    uint32_t streams_used, ingress_used, subs_used; /* no place at or above it was ever written */
    uint32_t lives;                                 /* the last one named */
    uint32_t refused;                               /* places whose checksum was wrong at a replay */
    uint32_t pad;
    uint64_t redo_sum; /* over redo_at and redo; 0: nothing is under way */
    uint64_t redo_at;  /* which place */
    alignas(ZR_CACHELINE) zr_cmd redo;
    zr_cmd places[];
} zr_journal;

typedef struct zr_journal_cursor {
    uint32_t part, slot, sub;
} zr_journal_cursor;

/* Sizes as in zr_fwd_conf. */
size_t zr_journal_bytes(uint32_t streams_max, uint32_t ingress_max, uint32_t subs_max);
/* In zeroed memory, aligned to ZR_CACHELINE; ZR_E_inval. */
int zr_journal_init(zr_journal *journal, uint32_t streams_max, uint32_t ingress_max, uint32_t subs_max);
/* ZR_E_version unless magic, version and sizes agree with `bytes` of mapping. Completes what its writer had begun. */
int zr_journal_attach(zr_journal *journal, size_t bytes);

/* A command that was executed. `journal` may be NULL. */
void zr_journal_note(zr_journal *journal, const zr_cmd *cmd);
/* Nothing is in force any more. */
void zr_journal_clear(zr_journal *journal);
/* The next command in force, in an order in which they can be executed; begin with a zeroed cursor. ZR_E_missing: that
 * was the last. A place that is torn or was overwritten is passed over and counted. */
int zr_journal_next(zr_journal *journal, zr_journal_cursor *cursor, zr_cmd *cmd);
/* What redo_sum is while the redo record is in force. */
uint64_t zr_journal_redo_sum(const zr_journal *journal);

#endif
