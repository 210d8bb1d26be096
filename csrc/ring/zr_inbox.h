/*
 * zr_inbox.h - what other workers give to one worker: a shared region with a ring of records for each of them.
 *
 *   | header, asleep | ring of worker 0 | ring of worker 1 | ...      one region per worker, by its number; its own
 * ring is there, too, and never touched
 *
 * The reader maps its own inbox, a writer the inboxes of the others. Each keeps its counter, the sizes and what it has
 * seen of the other's counter to itself (zr_inbox_end): the counters in the region are only told, never believed, so a
 * neighbour that overwrites any of it can make us lose or repeat records, and no more. A reader whose ring claims more
 * than its slots stops reading it (`corrupt`) until the writer was replaced; a writer sees such a ring as full.
 *
 * Both ends outlive their processes: a successor goes on where the counters stand. Sleeping and waking as in zr_chan.h,
 * over the one word `asleep` for all writers.
 */
#ifndef ZR_INBOX_H
#define ZR_INBOX_H

#include "ring/zr_spsc.h"

#define ZR_INBOX_WORKERS 64u

typedef struct zr_inbox_page { /* the region */
    uint64_t magic;            /* "zrinbox1", read as a little-endian word */
    uint32_t version;
    uint32_t workers, slots, record_bytes;
    uint32_t generation; /* readers that have attached */
    alignas(ZR_CACHELINE) _Atomic uint32_t asleep;
    alignas(ZR_CACHELINE) unsigned char rings[];
} zr_inbox_page;

typedef struct zr_inbox { /* a process's own view of a region that was found right */
    zr_inbox_page *page;  /* NULL: there is none */
    uint32_t workers, slots, record_bytes;
} zr_inbox;

typedef struct zr_inbox_end {
    zr_spsc_mem *ring; /* NULL: there is none */
    uint32_t slots, record_bytes;
    uint32_t at;   /* our counter */
    uint32_t seen; /* the other's, when we last looked */
    uint32_t next; /* bytes of a record that are asked for ahead; whoever knows how long the next may be sets it */
    bool corrupt;  /* reader: no longer read */
} zr_inbox_end;

/* Sizes as in zr_spsc_bytes, workers 1..64; 0 when out of range. Untouched rings cost no memory. */
size_t zr_inbox_bytes(uint32_t workers, uint32_t slots, uint32_t record_bytes);
/* Once, in zeroed memory of zr_inbox_bytes. ZR_E_inval when a size is out of range. */
int zr_inbox_init(zr_inbox_page *page, uint32_t workers, uint32_t slots, uint32_t record_bytes);
/* ZR_E_version unless magic, version, sizes and `bytes`, the size of the mapping, agree. */
int zr_inbox_look(zr_inbox *inbox, zr_inbox_page *page, size_t bytes);

/* Reader and writer of one worker's ring, at their start. ZR_E_version: the counters cannot be true, and what the ring
 * held is given up; the end works. */
int zr_inbox_reader(zr_inbox_end *end, const zr_inbox *inbox, uint32_t from);
int zr_inbox_writer(zr_inbox_end *end, const zr_inbox *inbox, uint32_t from);
/* Reader, when the writer is a new one: a corrupt ring is read again, from what comes next. */
void zr_inbox_mend(zr_inbox_end *end);

/* Writer: a record to fill, NULL when full. */
void *zr_inbox_claim(zr_inbox_end *end);
void zr_inbox_commit(zr_inbox_end *end);
/* Writer: records that fit now; looks at the other's counter. */
uint32_t zr_inbox_room(zr_inbox_end *end);

/* Reader: records that wait; looks at the other's counter. 0 when corrupt, and when this look found it so. */
uint32_t zr_inbox_waiting(zr_inbox_end *end);
/* Reader, of what it could read: the same without noting anything. */
uint32_t zr_inbox_depth(const zr_inbox_end *end);
/* Reader: the oldest record, NULL when there is none. Copy before you judge: the neighbour may still write to it. */
const void *zr_inbox_peek(zr_inbox_end *end);
void zr_inbox_release(zr_inbox_end *end);

#endif
