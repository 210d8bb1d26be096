#include "mem/zr_batch.h"

#include <string.h>

static size_t entries_bytes(uint32_t cap)
{
    return zr_round_up(cap * sizeof(zr_tx), ZR_CACHELINE);
}

size_t zr_batch_bytes(uint32_t cap, uint32_t arena_cap)
{
    return entries_bytes(cap) + zr_round_up(arena_cap, ZR_CACHELINE);
}

int zr_batch_init(zr_batch *batch, void *mem, uint32_t cap, uint32_t arena_cap)
{
    if (cap == 0 || (uintptr_t)mem % alignof(zr_tx) != 0)
        return ZR_E_inval;
    *batch = (zr_batch){
        .tx = mem,
        .arena = (uint8_t *)mem + entries_bytes(cap),
        .cap = cap,
        .arena_cap = arena_cap,
    };
    return ZR_OK;
}

size_t zr_batch_fan_bytes(uint32_t cap)
{
    return zr_round_up(cap * sizeof(zr_fan), ZR_CACHELINE);
}

void zr_batch_add_fans(zr_batch *batch, void *mem, uint32_t cap)
{
    batch->fans = mem;
    batch->fan_cap = cap;
}

int zr_batch_hold(zr_batch *batch, const zr_addr *to, uint16_t sock, const zr_slice *slice)
{
    if (batch->count == batch->cap)
        return ZR_E_full;
    zr_pkt_hold(slice->pkt);
    batch->tx[batch->count++] = (zr_tx){
        .to = *to,
        .sock = sock,
        .len = slice->len,
        .data = zr_slice_data(slice),
        .held = slice->pkt,
    };
    return ZR_OK;
}

void zr_batch_gather(zr_batch *batch, uint32_t first, uint32_t count)
{
    zr_tx *e = batch->tx + first, *end = e + count;
    uint32_t at = (uint32_t)zr_round_up(batch->arena_len, ZR_CACHELINE);
    size_t bytes = 0;

    ZR_CHECK(first + count <= batch->count);
    for (const zr_tx *each = e; each < end; each++)
        bytes += each->len;
    if (at > batch->arena_cap || bytes > batch->arena_cap - at)
        return;
    for (; e < end; e++) {
        memcpy(batch->arena + at, e->data, e->len);
        e->data = batch->arena + at;
        at += e->len;
    }
    batch->arena_len = at;
}

void zr_batch_reset(zr_batch *batch)
{
    for (uint32_t i = 0; i < batch->count; i++)
        zr_pkt_drop(batch->tx[i].held);
    batch->count = 0;
    batch->arena_len = 0;
    batch->fan_count = batch->fan_dgrams = 0;
}
