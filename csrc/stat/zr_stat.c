#include "stat/zr_stat.h"

#include <sched.h>

#include "base/zr_err.h"

#define MAGIC             0x003174617473727Au /* "zrstat1\0", read as a little-endian word */
#define VERSION           4u
#define SNAPSHOT_SPINS    64
#define SNAPSHOT_ATTEMPTS 1000
#define HIST_SUB          8u /* buckets an octave */

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

#define NOTHING ZR_STAT_COUNT

static const struct {
    enum zr_stat_id in, out, waiting;
} ledgers[ZR_LEDGER_COUNT] = {
    [ZR_LEDGER_link] = { ZR_STAT_rx_link, ZR_STAT_link_accepted, NOTHING },
    [ZR_LEDGER_media] = { ZR_STAT_rx_media, ZR_STAT_media_accepted, NOTHING },
    [ZR_LEDGER_fan] = { ZR_STAT_fan_due, ZR_STAT_fan_sent, NOTHING },
    [ZR_LEDGER_egress] = { ZR_STAT_tx_due, ZR_STAT_tx_sent, ZR_STAT_tx_waiting },
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

/* What the one before had taken and not yet settled died with it. */
static void close_ledgers(zr_stat_page *page)
{
    static const enum zr_drop_id died[ZR_LEDGER_COUNT] = {
        [ZR_LEDGER_link] = ZR_DROP_link_died,
        [ZR_LEDGER_media] = ZR_DROP_media_died,
        [ZR_LEDGER_fan] = ZR_DROP_fan_died,
        [ZR_LEDGER_egress] = ZR_DROP_tx_died,
    };

    for (int i = 0; i < ZR_LEDGER_COUNT; i++) {
        int64_t off = zr_ledger_off(page, (enum zr_ledger)i);
        if (off > 0)
            zr_stat_bump(&page->drop[died[i]], (uint64_t)off);
        else /* settled before it was counted as taken */
            zr_stat_bump(&page->stat[ledgers[i].in], (uint64_t)-off);
    }
}

int zr_stat_attach(zr_stat_page *page, size_t bytes)
{
    int rc = zr_stat_look(page, bytes);

    if (rc != ZR_OK)
        return rc;
    if (word(&page->turn) % 2 == 0) /* else the one before died within a turn */
        zr_stat_turn_begin(page);
    page->generation++;
    close_ledgers(page);
    /* Went with it. Taken away first: of us, too, the next one may have to settle what was left halfway. */
    uint64_t waiting = word(&page->stat[ZR_STAT_tx_waiting]);
    zr_stat_set(page, ZR_STAT_tx_waiting, 0);
    zr_stat_bump(&page->drop[ZR_DROP_tx_again], waiting);
    zr_stat_turn_end(page);
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

void zr_hist_add_many(zr_stat_page *page, enum zr_hist_id id, uint64_t value, uint64_t count)
{
    zr_stat_bump(&page->hist[id][zr_hist_bucket(value)], count);
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

static void copy_counts(const zr_stat_page *page, zr_stat_counts *counts)
{
    for (uint32_t i = 0; i < ZR_STAT_COUNT; i++)
        counts->stat[i] = word(&page->stat[i]);
    for (uint32_t i = 0; i < ZR_DROP_COUNT; i++)
        counts->drop[i] = word(&page->drop[i]);
}

bool zr_stat_snapshot(const zr_stat_page *page, zr_stat_counts *counts)
{
    for (int attempt = 0; attempt < SNAPSHOT_ATTEMPTS; attempt++) {
        uint64_t before = atomic_load_explicit(&page->turn, memory_order_acquire);
        copy_counts(page, counts);
        /* The loads above are done before the number is looked at again. */
        atomic_thread_fence(memory_order_acquire);
        if (before % 2 == 0 && before == word(&page->turn))
            return true;
        if (attempt >= SNAPSHOT_SPINS) /* the writer may be waiting for this very core */
            sched_yield();
    }
    return false;
}

int64_t zr_counts_off(const zr_stat_counts *counts, enum zr_ledger ledger)
{
    uint64_t off = counts->stat[ledgers[ledger].in] - counts->stat[ledgers[ledger].out];

    if (ledgers[ledger].waiting != NOTHING)
        off -= counts->stat[ledgers[ledger].waiting];
    for (uint32_t i = 0; i < ZR_DROP_COUNT; i++)
        if (ledger_of[i] == ledger)
            off -= counts->drop[i];
    return (int64_t)off;
}

int64_t zr_ledger_off(const zr_stat_page *page, enum zr_ledger ledger)
{
    zr_stat_counts counts;

    copy_counts(page, &counts);
    return zr_counts_off(&counts, ledger);
}
