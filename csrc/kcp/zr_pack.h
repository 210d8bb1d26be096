/*
 * zr_pack.h - segments of any conversations to one destination become datagrams in a batch.
 *
 *   greedy (stock KCP peers)            next segment does not fit into mtu -> close the datagram, open another
 *   runs   (our relays)                 a PUSH of more than ZR_PACK_LARGE stands alone, so that full-size packets form
 *                                       equal-size runs for UDP_SEGMENT; small PUSHes, ACKs, WASK and WINS share
 *                                       datagrams, which follow after the large ones of other conversations
 *
 * PUSHes of one conversation leave in the order they came: what arrives first is delivered first, and a player that
 * sees a slice before the parameter sets with the earlier number throws those away (seen with ffmpeg).
 *
 * Room for an envelope of `head` bytes in front and `tail` behind is left, not cleared, for the owner: the packer calls
 * nobody, it records where each closed datagram lies; zr_lane writes headers, counters and seals.
 */
#ifndef ZR_PACK_H
#define ZR_PACK_H

#include "kcp/zr_seg.h"
#include "mem/zr_batch.h"

#define ZR_PACK_LARGE 400u

typedef struct zr_pack {
    zr_batch *batch;
    zr_addr to;
    uint16_t sock;
    uint16_t mtu;       /* KCP bytes in a datagram, envelope excluded */
    uint8_t head, tail; /* envelope bytes in front and behind; 0 for stock peers */
    bool runs;
    uint16_t small_len; /* KCP bytes gathered in `small` */
    bool small_push;    /* a PUSH is among them, the last one of conversation */
    uint32_t small_conv;
    uint8_t small[1500]; /* runs: the shared datagram being gathered */
    uint8_t *open;       /* greedy: the datagram being filled in the arena, or NULL */
    uint32_t open_len;
    uint32_t first; /* batch->count when the packer began: the owner seals entries first..count-1 */
} zr_pack;

void zr_pack_begin(zr_pack *pack, zr_batch *batch, const zr_addr *to, uint16_t sock, uint16_t mtu, uint8_t head,
                   uint8_t tail, bool runs);
/*
 * Appends one segment: header from `seg` (its len = head_len + body_len), then `head_len` bytes, then `body_len`.
 * ZR_E_full when the batch has no room: nothing was appended, finish, send the batch and go on from this segment.
 */
int zr_pack_put(zr_pack *pack, const zr_seg *seg, const uint8_t *head, size_t head_len, const uint8_t *body,
                size_t body_len);
/* Closes what is gathered in `small`. Its room is kept. */
void zr_pack_close_small(zr_pack *pack);
/*
 * Runs: a datagram for one large segment of `conv`, `kcp_bytes` with its header, which the caller writes in full: it
 * counts as appended. NULL when the batch has no room for it and for what is gathered.
 */
static inline uint8_t *zr_pack_alone(zr_pack *pack, uint32_t conv, size_t kcp_bytes)
{
    zr_batch *batch = pack->batch;
    uint32_t around = (uint32_t)pack->head + pack->tail, len = (uint32_t)kcp_bytes + around;
    uint32_t kept = pack->small_len == 0 ? 0 : pack->small_len + around;

    if (batch->count + 1 + (kept != 0) > batch->cap || batch->arena_len + len + kept > batch->arena_cap)
        return NULL;
    if (pack->small_push && pack->small_conv == conv)
        zr_pack_close_small(pack);
    uint8_t *to = batch->arena + batch->arena_len;
    batch->tx[batch->count++] = (zr_tx){ .to = pack->to, .sock = pack->sock, .len = (uint16_t)len, .data = to };
    batch->arena_len += len;
    return to + pack->head;
}

/* Closes what is open. Room for it was kept by zr_pack_put, so it cannot fail. */
void zr_pack_finish(zr_pack *pack);

#endif
