/*
 * zr_batch.h - datagrams on their way out, the one shape that engines fill and sockets, GSO or the simulator empty.
 *
 * An entry's bytes lie either in the batch's own arena (link datagrams: written, later sealed, there) or in a held
 * packet (RTP to subscribers: never copied). Engines append all that one destination gets in a row; equal sizes in a
 * row are a run, and a run is one UDP_SEGMENT message. Arena entries of a run are contiguous.
 *
 * What many destinations get alike lies there once: entries for the first of them, a fan for each of the others.
 *
 *   tx    ... [ a: 1200 1200 1200 900 ] ...          4 datagrams to a
 *   fans  b, c, d: first, 4                          and 12 more
 */
#ifndef ZR_BATCH_H
#define ZR_BATCH_H

#include "base/zr_addr.h"
#include "base/zr_err.h"
#include "mem/zr_pool.h"

/* Which socket an entry leaves by. */
enum {
    ZR_SOCK_LINK = 0,
    ZR_SOCK_EGRESS = 1,
    ZR_SOCK_INGRESS = 2 /* + ingress slot */
};

typedef struct zr_tx {
    zr_addr to;
    uint16_t sock;
    uint16_t len;
    const uint8_t *data;
    zr_pkt *held;     /* NULL when data lies in the arena */
    uint32_t came_us; /* zr_pkt.came_us where the time spent here is of interest, else 0 */
    bool urgent;      /* tried again when the kernel has no memory: audio */
} zr_tx;

typedef struct zr_fan { /* `count` entries from `first` on once more, to somebody else */
    zr_addr to;
    uint32_t first, count;
} zr_fan;

typedef struct zr_batch {
    zr_tx *tx;
    uint8_t *arena;
    uint32_t count, cap;
    uint32_t arena_len, arena_cap;
    zr_fan *fans;
    uint32_t fan_count, fan_cap, fan_dgrams; /* a batch without room for fans never has any */
} zr_batch;

size_t zr_batch_bytes(uint32_t cap, uint32_t arena_cap);
int zr_batch_init(zr_batch *batch, void *mem, uint32_t cap, uint32_t arena_cap);
/* Gives an empty batch room for `cap` fans of up to ZR_FAN_DGRAMS datagrams each on average. */
#define ZR_FAN_DGRAMS 8u
size_t zr_batch_fan_bytes(uint32_t cap);
void zr_batch_add_fans(zr_batch *batch, void *mem, uint32_t cap);

/* Datagrams in it, fans included. */
static inline uint32_t zr_batch_dgrams(const zr_batch *batch)
{
    return batch->count + batch->fan_dgrams;
}

/* Room for one entry of up to `len` arena bytes? */
static inline bool zr_batch_fits(const zr_batch *batch, size_t len)
{
    return batch->count < batch->cap && len <= UINT16_MAX && len <= batch->arena_cap - batch->arena_len;
}

/* Where to write the next arena entry, or NULL when `len` bytes or the entry do not fit. Valid until commit. */
static inline uint8_t *zr_batch_reserve(zr_batch *batch, size_t len)
{
    return zr_batch_fits(batch, len) ? batch->arena + batch->arena_len : NULL;
}

/* Appends what was written at the last reserve. len <= what was reserved. */
static inline void zr_batch_commit(zr_batch *batch, const zr_addr *to, uint16_t sock, size_t len)
{
    ZR_CHECK(zr_batch_fits(batch, len));
    batch->tx[batch->count++] = (zr_tx){
        .to = *to,
        .sock = sock,
        .len = (uint16_t)len,
        .data = batch->arena + batch->arena_len,
    };
    /* Not rounded up: the entries of a run must touch, the kernel cuts one buffer into datagrams. */
    batch->arena_len += (uint32_t)len;
}

/* Appends a view of a packet and holds it until reset; ZR_E_full when there is no entry left. */
int zr_batch_hold(zr_batch *batch, const zr_addr *to, uint16_t sock, const zr_slice *slice);
/* The same entries for one more destination; they leave by the same socket. Fans of one stretch come in a row, those of
 * a later one behind. ZR_E_full when there is no room. */
static inline int zr_batch_fan(zr_batch *batch, const zr_addr *to, uint32_t first, uint32_t count)
{
    if (batch->fan_count == batch->fan_cap || batch->fan_dgrams + count > batch->fan_cap * ZR_FAN_DGRAMS)
        return ZR_E_full;
    ZR_CHECK(count > 0 && first + count <= batch->count);
    zr_fan *fan = &batch->fans[batch->fan_count++];
    fan->to = *to;
    fan->first = first;
    fan->count = count;
    batch->fan_dgrams += count;
    return ZR_OK;
}
/* Copies the bytes of these entries one behind the other into the arena, where there is room: a run is then one piece
 * of memory to the kernel. Worth its while when many get them: at 1 200 B a copy costs what two destinations save. */
void zr_batch_gather(zr_batch *batch, uint32_t first, uint32_t count);
/* Empties the batch and drops what it held. */
void zr_batch_reset(zr_batch *batch);

#endif
