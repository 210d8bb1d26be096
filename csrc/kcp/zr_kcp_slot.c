#include "kcp/zr_kcp_slot.h"

#include "base/zr_err.h"
#include "coll/zr_seq.h"

#define FREE_END UINT32_MAX

static size_t infos_bytes(uint32_t count)
{
    return zr_round_up(count * sizeof(zr_kcp_block_info), ZR_CACHELINE);
}

size_t zr_kcp_blocks_bytes(uint32_t count)
{
    return infos_bytes(count) + (size_t)count * ZR_KCP_BLOCK_BYTES;
}

int zr_kcp_blocks_init(zr_kcp_blocks *blocks, void *mem, uint32_t count)
{
    if (count == 0 || count >= ZR_KCP_NONE || (uintptr_t)mem % ZR_CACHELINE != 0)
        return ZR_E_inval;
    *blocks = (zr_kcp_blocks){ .infos = mem, .slots = (uint8_t *)mem + infos_bytes(count), .count = count };
    zr_kcp_block_info *infos = zr_kcp_block_infos(blocks);
    for (uint32_t i = 0; i < count; i++)
        infos[i] = (zr_kcp_block_info){ .next = i + 1 < count ? i + 1 : FREE_END };
    return ZR_OK;
}

bool zr_kcp_blocks_check(const zr_kcp_blocks *blocks)
{
    const zr_kcp_block_info *infos = zr_kcp_block_infos(blocks);
    uint32_t free = 0;

    for (uint32_t i = blocks->free_head; i != FREE_END; i = infos[i].next) {
        if (i >= blocks->count || free == blocks->count || infos[i].used != 0)
            return false;
        free++;
    }
    return free + blocks->in_use == blocks->count && blocks->in_use <= blocks->in_use_max;
}

uint32_t zr_kcp_block_take(zr_kcp_blocks *blocks)
{
    uint32_t block = blocks->free_head;

    if (block == FREE_END) {
        blocks->exhausted++;
        return ZR_KCP_NONE;
    }
    blocks->free_head = zr_kcp_block_infos(blocks)[block].next;
    blocks->in_use++;
    blocks->in_use_max = ZR_MAX(blocks->in_use_max, blocks->in_use);
    return block;
}

void zr_kcp_block_give(zr_kcp_blocks *blocks, uint32_t block)
{
    zr_kcp_block_infos(blocks)[block] = (zr_kcp_block_info){ .next = blocks->free_head };
    blocks->free_head = block;
    blocks->in_use--;
}

void zr_kcp_table_init(zr_kcp_table *table)
{
    for (uint32_t i = 0; i < ZR_KCP_TABLE; i++)
        table->block[i] = ZR_KCP_NONE;
}

uint32_t zr_kcp_slots_taken(const zr_kcp_blocks *blocks, const zr_kcp_table *table, uint32_t sn, uint32_t end)
{
    uint32_t n = 0;
    while ((sn = zr_kcp_slot_next(blocks, table, sn, end)) != end) {
        sn++;
        n++;
    }
    return n;
}

uint32_t zr_kcp_slots_anywhere(const zr_kcp_blocks *blocks, const zr_kcp_table *table)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < ZR_KCP_TABLE; i++) {
        uint32_t block = table->block[i];
        if (block == ZR_KCP_NONE)
            continue;
        if (block >= blocks->count || zr_kcp_block_infos(blocks)[block].used == 0)
            return UINT32_MAX;
        n += (uint32_t)__builtin_popcountll(zr_kcp_block_infos(blocks)[block].used);
    }
    return n;
}

/* A window of nearly 8192 has its first and its last segments in one block; what is found past `end` is the former. */
uint32_t zr_kcp_slot_next(const zr_kcp_blocks *blocks, const zr_kcp_table *table, uint32_t sn, uint32_t end)
{
    while (zr_seq_before(sn, end)) {
        uint32_t block = zr_kcp_block_of(table, sn);
        uint64_t used = block == ZR_KCP_NONE ? 0 : zr_kcp_block_infos(blocks)[block].used >> sn % ZR_KCP_BLOCK;
        if (used != 0) {
            sn += (uint32_t)__builtin_ctzll(used);
            return zr_seq_before(sn, end) ? sn : end;
        }
        sn = (sn | (ZR_KCP_BLOCK - 1)) + 1;
    }
    return end;
}
