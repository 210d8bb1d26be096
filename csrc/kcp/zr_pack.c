#include "kcp/zr_pack.h"

#include "base/zr_err.h"

static bool room(const zr_pack *pack, uint32_t entries, size_t bytes)
{
    const zr_batch *batch = pack->batch;
    return batch->count + entries <= batch->cap && batch->arena_len + bytes <= batch->arena_cap;
}

static size_t enveloped(const zr_pack *pack, size_t kcp_bytes)
{
    return pack->head + kcp_bytes + pack->tail;
}

static uint8_t *open_datagram(zr_pack *pack, size_t kcp_bytes)
{
    uint8_t *to = zr_batch_reserve(pack->batch, enveloped(pack, kcp_bytes));
    ZR_CHECK(to != NULL); /* the caller made sure of the room */
    return to;
}

static void close_datagram(zr_pack *pack, size_t kcp_bytes)
{
    zr_batch_commit(pack->batch, &pack->to, pack->sock, enveloped(pack, kcp_bytes));
}

void zr_pack_close_small(zr_pack *pack)
{
    if (pack->small_len == 0)
        return;
    uint8_t *datagram = open_datagram(pack, pack->small_len);
    memcpy(datagram + pack->head, pack->small, pack->small_len);
    close_datagram(pack, pack->small_len);
    pack->small_len = 0;
    pack->small_push = false;
}

static void close_open(zr_pack *pack)
{
    if (pack->open == NULL)
        return;
    close_datagram(pack, pack->open_len);
    pack->open = NULL;
    pack->open_len = 0;
}

static void write_segment(uint8_t *to, const zr_seg *seg, const uint8_t *head, size_t head_len, const uint8_t *body,
                          size_t body_len)
{
    zr_seg written = *seg;
    written.len = (uint32_t)(head_len + body_len);
    zr_seg_put(to, &written);
    if (head_len > 0)
        memcpy(to + ZR_SEG_HEAD, head, head_len);
    if (body_len > 0)
        memcpy(to + ZR_SEG_HEAD + head_len, body, body_len);
}

/* Greedy: room for `need` more bytes in the open datagram, which may be a fresh one. NULL: the batch is full. */
static uint8_t *place_greedy(zr_pack *pack, size_t need)
{
    if (pack->open != NULL && pack->open_len + need <= pack->mtu) {
        uint8_t *to = pack->open + pack->head + pack->open_len;
        pack->open_len += (uint32_t)need;
        return to;
    }
    size_t reserve = ZR_MAX((size_t)pack->mtu, need); /* a segment beyond the mtu goes alone */
    size_t closing = pack->open == NULL ? 0 : enveloped(pack, pack->open_len);
    if (!room(pack, pack->open == NULL ? 1 : 2, closing + enveloped(pack, reserve)))
        return NULL;
    close_open(pack);
    pack->open = open_datagram(pack, reserve);
    pack->open_len = (uint32_t)need;
    return pack->open + pack->head;
}

/* Runs, small: the same in `small`, whose room in the batch is kept from its first byte on. */
static uint8_t *place_small(zr_pack *pack, size_t need)
{
    size_t together = pack->small_len + need;
    bool fits = together <= pack->mtu;

    if (fits ? !room(pack, 1, enveloped(pack, together))
             : !room(pack, 2, enveloped(pack, pack->small_len) + enveloped(pack, need)))
        return NULL;
    if (!fits)
        zr_pack_close_small(pack);
    uint8_t *to = pack->small + pack->small_len;
    pack->small_len = (uint16_t)(pack->small_len + need);
    return to;
}

void zr_pack_begin(zr_pack *pack, zr_batch *batch, const zr_addr *to, uint16_t sock, uint16_t mtu, uint8_t head,
                   uint8_t tail, bool runs)
{
    ZR_CHECK(mtu <= sizeof pack->small && mtu > ZR_SEG_HEAD);
    pack->batch = batch;
    pack->to = *to;
    pack->sock = sock;
    pack->mtu = mtu;
    pack->head = head;
    pack->tail = tail;
    pack->runs = runs;
    pack->small_len = 0;
    pack->small_push = false;
    pack->open = NULL;
    pack->open_len = 0;
    pack->first = batch->count;
}

int zr_pack_put(zr_pack *pack, const zr_seg *seg, const uint8_t *head, size_t head_len, const uint8_t *body,
                size_t body_len)
{
    size_t len = head_len + body_len, need = ZR_SEG_HEAD + len;

    if (pack->runs && len > ZR_PACK_LARGE) {
        uint8_t *alone = zr_pack_alone(pack, seg->conv, need);
        if (alone == NULL)
            return ZR_E_full;
        write_segment(alone, seg, head, head_len, body, body_len);
        return ZR_OK;
    }
    uint8_t *to = pack->runs ? place_small(pack, need) : place_greedy(pack, need);
    if (to == NULL)
        return ZR_E_full;
    if (pack->runs && seg->cmd == ZR_SEG_PUSH) {
        pack->small_push = true;
        pack->small_conv = seg->conv;
    }
    write_segment(to, seg, head, head_len, body, body_len);
    return ZR_OK;
}

void zr_pack_finish(zr_pack *pack)
{
    close_open(pack);
    zr_pack_close_small(pack);
}
