#include "stat/zr_stat.h"

#include "base/zr_err.h"

#define MAGIC    0x003174617473727Au /* "zrstat1\0", read as a little-endian word */
#define VERSION  1u
#define HIST_SUB 8u /* buckets an octave */

const zr_stat_info zr_stat_infos[ZR_STAT_COUNT] = {
#define X(id, kind, unit, help) { #id, #kind, unit, help },
    ZR_STAT_LIST(X)
#undef X
};

const zr_drop_info zr_drop_infos[ZR_DROP_COUNT] = {
#define X(id, ledger, word, help) { #id, #ledger, word, help },
    ZR_DROP_LIST(X)
#undef X
};

const zr_stat_info zr_hist_infos[ZR_HIST_COUNT] = {
#define X(id, unit, help) { #id, "h", unit, help },
    ZR_HIST_LIST(X)
#undef X
};

static const uint8_t ledger_of[ZR_DROP_COUNT] = {
#define X(id, ledger, word, help) ZR_LEDGER_##ledger,
    ZR_DROP_LIST(X)
#undef X
};

static const struct {
    enum zr_stat_id in, out;
} ledgers[ZR_LEDGER_COUNT] = {
    [ZR_LEDGER_link] = { ZR_STAT_rx_link, ZR_STAT_link_accepted },
    [ZR_LEDGER_media] = { ZR_STAT_rx_media, ZR_STAT_media_accepted },
    [ZR_LEDGER_fan] = { ZR_STAT_fan_due, ZR_STAT_fan_sent },
    [ZR_LEDGER_egress] = { ZR_STAT_tx_due, ZR_STAT_tx_sent },
};

static uint64_t word(const _Atomic uint64_t *at)
{
    return atomic_load_explicit(at, memory_order_relaxed);
}

size_t zr_stat_bytes(uint32_t streams_max)
{
    return zr_round_up(sizeof(zr_stat_page) + streams_max * sizeof(zr_stream_row), ZR_CACHELINE);
}

int zr_stat_init(zr_stat_page *page, uint32_t streams_max)
{
    if ((uintptr_t)page % ZR_CACHELINE != 0)
        return ZR_E_inval;
    page->version = VERSION;
    page->stat_count = ZR_STAT_COUNT;
    page->drop_count = ZR_DROP_COUNT;
    page->hist_count = ZR_HIST_COUNT;
    page->streams_max = streams_max;
    page->generation = 0;
    page->magic = MAGIC;
    return ZR_OK;
}

int zr_stat_attach(zr_stat_page *page, size_t bytes)
{
    int rc = zr_stat_look(page, bytes);

    if (rc == ZR_OK)
        page->generation++;
    return rc;
}

int zr_stat_look(const zr_stat_page *page, size_t bytes)
{
    if ((uintptr_t)page % ZR_CACHELINE != 0)
        return ZR_E_inval;
    if (bytes < sizeof *page || page->magic != MAGIC || page->version != VERSION)
        return ZR_E_version;
    if (page->stat_count != ZR_STAT_COUNT || page->drop_count != ZR_DROP_COUNT || page->hist_count != ZR_HIST_COUNT)
        return ZR_E_version;
    return bytes == zr_stat_bytes(page->streams_max) ? ZR_OK : ZR_E_version;
}

void zr_hist_add(zr_stat_page *page, enum zr_hist_id id, uint64_t value)
{
    zr_stat_bump(&page->hist[id][zr_hist_bucket(value)], 1);
}

uint32_t zr_hist_bucket(uint64_t value)
{
    if (value < HIST_SUB)
        return (uint32_t)value;

    /* The leading one picks the octave, the three bits after it the bucket within. */
    uint32_t octave = 63 - (uint32_t)__builtin_clzll(value) - 3;
    uint32_t bucket = (octave + 1) * HIST_SUB + (uint32_t)(value >> octave & (HIST_SUB - 1));
    return ZR_MIN(bucket, ZR_HIST_BUCKETS - 1u);
}

uint64_t zr_hist_floor(uint32_t bucket)
{
    if (bucket < HIST_SUB)
        return bucket;
    return (uint64_t)(HIST_SUB + bucket % HIST_SUB) << (bucket / HIST_SUB - 1);
}

int64_t zr_ledger_off(const zr_stat_page *page, enum zr_ledger ledger)
{
    uint64_t off = word(&page->stat[ledgers[ledger].in]) - word(&page->stat[ledgers[ledger].out]);

    for (uint32_t i = 0; i < ZR_DROP_COUNT; i++)
        if (ledger_of[i] == ledger)
            off -= word(&page->drop[i]);
    return (int64_t)off;
}
