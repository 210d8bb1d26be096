#include "base/zr_err.h"
#include "kcp/zr_kcp_priv.h"

zr_kcp_conf zr_kcp_conf_turbo(uint32_t conv)
{
    return (zr_kcp_conf){
        .conv = conv,
        .mtu = 1420,
        .snd_wnd = 1024,
        .rcv_wnd = 1024,
        .interval_ms = 10,
        .nodelay = 1,
        .resend = 2,
        .nc = 1,
        .fragments_max = ZR_KCP_FRAGMENTS_MAX,
        .flush_at_once = true,
        .conservative = true,
        .harden = true,
    };
}

static bool conf_ok(const zr_kcp_conf *conf)
{
    return conf->mtu >= 50 && conf->mtu <= 1500 && conf->snd_wnd >= 1 && conf->snd_wnd <= ZR_KCP_WND_MAX &&
           conf->rcv_wnd >= 1 && conf->rcv_wnd <= ZR_KCP_WND_MAX && conf->interval_ms >= 10 &&
           conf->interval_ms <= 5000 && conf->fragments_max >= 1 && conf->fragments_max <= ZR_KCP_FRAGMENTS_MAX;
}

static bool idle(const zr_kcp *kcp)
{
    return kcp->snd_una == kcp->snd_end && kcp->acks.count == 0 && kcp->probe == 0 && kcp->rmt_wnd != 0;
}

/* What does not wait for any time. */
static bool due_already(const zr_kcp *kcp)
{
    return kcp->acks.next < kcp->acks.count || kcp->probe != 0 || kcp->fast_due || zr_kcp_snd_admissible(kcp);
}

int zr_kcp_init(zr_kcp *kcp, const zr_kcp_conf *conf, zr_kcp_blocks *blocks, zr_pool *pool, zr_ns_t now)
{
    if (!conf_ok(conf))
        return ZR_E_inval;
    bool at_once = conf->flush_at_once;
    *kcp = (zr_kcp){
        .conf = *conf,
        .blocks = blocks,
        .pool = pool,
        .cc = conf->nc ? &zr_kcp_cc_open : &zr_kcp_cc_stock,
        .now = now,
        .mss = conf->mtu - ZR_SEG_HEAD,
        .snd_una = conf->start_sn,
        .snd_nxt = conf->start_sn,
        .snd_end = conf->start_sn,
        .snd_max = ZR_MIN(2 * conf->snd_wnd, ZR_KCP_WND_MAX),
        .rmt_wnd = 128,
        .rcv_head = conf->start_sn,
        .rcv_nxt = conf->start_sn,
        .rto = 200,
        .rto_min = conf->nodelay ? 30 : 100,
        .backoff_max = at_once ? 1000 : UINT32_MAX,
        .ssthresh = 2,
        .answered = { .wins = zr_kcp_ms(now) - ZR_KCP_ANSWER_MS, .stale = zr_kcp_ms(now) - ZR_KCP_ANSWER_MS },
        .ts_flush = 100,
        .probe_first = at_once ? 50 : 7000,
        .probe_max = at_once ? 1000 : 120000,
    };
    /* A message of more segments than the window holds could never be completed. */
    kcp->conf.fragments_max = (uint8_t)ZR_MIN(conf->fragments_max, conf->rcv_wnd);
    if (at_once) { /* stock starts at 0 and sends nothing in its first flush */
        kcp->cwnd = 1;
        kcp->incr = kcp->mss;
    }
    zr_kcp_acks_init(&kcp->acks, conf->harden ? ZR_MAX(conf->rcv_wnd, ZR_KCP_ACKS_INLINE) : UINT32_MAX);
    zr_kcp_table_init(&kcp->snd);
    zr_kcp_table_init(&kcp->rcv);
    return ZR_OK;
}

void zr_kcp_fini(zr_kcp *kcp)
{
    uint32_t rcv_end = kcp->rcv_head + ZR_KCP_WND_MAX;

    for (uint32_t sn; (sn = zr_kcp_slot_next(kcp->blocks, &kcp->snd, kcp->snd_una, kcp->snd_end)) != kcp->snd_end;)
        zr_kcp_snd_drop(kcp, sn);
    for (uint32_t sn; (sn = zr_kcp_slot_next(kcp->blocks, &kcp->rcv, kcp->rcv_head, rcv_end)) != rcv_end;) {
        zr_pkt_drop(zr_kcp_slot_at(kcp->blocks, &kcp->rcv, sn)->pkt);
        zr_kcp_slot_give(kcp->blocks, &kcp->rcv, sn);
    }
    zr_kcp_acks_clear(&kcp->acks, kcp->blocks);
    kcp->snd_una = kcp->snd_nxt = kcp->snd_end;
    kcp->rcv_nxt = kcp->rcv_head;
    kcp->resend_any = kcp->fast_due = false;
}

zr_ns_t zr_kcp_deadline(const zr_kcp *kcp)
{
    if (!kcp->conf.flush_at_once) {
        if (idle(kcp) && !kcp->flush_due)
            return ZR_NEVER;
        return kcp->updated && !kcp->flush_due ? zr_kcp_ns(kcp->now, kcp->ts_flush) : kcp->now;
    }
    zr_ns_t at = ZR_NEVER;
    if (due_already(kcp))
        return kcp->now;
    if (kcp->resend_any)
        at = zr_kcp_ns(kcp->now, kcp->resend_at);
    if (kcp->probe_wait != 0)
        at = ZR_MIN(at, zr_kcp_ns(kcp->now, kcp->ts_probe));
    if (kcp->told.again)
        at = ZR_MIN(at, zr_kcp_ns(kcp->now, kcp->told.again_at));
    return at;
}

void zr_kcp_on_deadline(zr_kcp *kcp, zr_ns_t now)
{
    uint32_t ms = zr_kcp_ms(now);

    kcp->now = now;
    if (kcp->conf.flush_at_once) {
        zr_kcp_probe_step(kcp, ms);
        return;
    }
    if (!kcp->updated) {
        kcp->updated = true;
        kcp->ts_flush = ms;
    }
    int32_t slap = zr_seq_diff(ms, kcp->ts_flush);
    if (slap >= 10000 || slap < -10000) { /* the clock jumped, or nobody called for long: a new grid */
        kcp->ts_flush = ms;
        slap = 0;
    }
    if (slap < 0)
        return;
    kcp->ts_flush += kcp->conf.interval_ms;
    if (!zr_seq_before(ms, kcp->ts_flush))
        kcp->ts_flush = ms + kcp->conf.interval_ms;
    kcp->flush_due = true;
}

bool zr_kcp_due(const zr_kcp *kcp, zr_ns_t now)
{
    uint32_t ms = zr_kcp_ms(now);

    if (!kcp->conf.flush_at_once)
        return kcp->flush_due;
    return due_already(kcp) || zr_kcp_loss_due(kcp, ms) || zr_kcp_again_due(kcp, ms) ||
           (kcp->probe_wait != 0 && !zr_seq_before(ms, kcp->ts_probe));
}

uint32_t zr_kcp_waiting(const zr_kcp *kcp)
{
    return kcp->snd_held;
}

uint32_t zr_kcp_srtt_ms(const zr_kcp *kcp)
{
    return (uint32_t)kcp->srtt;
}

const zr_kcp_counts *zr_kcp_counted(const zr_kcp *kcp)
{
    return &kcp->counts;
}

static uint32_t taken(const zr_kcp *kcp, const zr_kcp_table *table, uint32_t sn, uint32_t end)
{
    uint32_t n = 0;
    while ((sn = zr_kcp_slot_next(kcp->blocks, table, sn, end)) != end) {
        sn++;
        n++;
    }
    return n;
}

/* Every taken slot of the table's blocks, wherever it lies; UINT32_MAX when a block is empty or out of range. */
static uint32_t taken_anywhere(const zr_kcp *kcp, const zr_kcp_table *table)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < ZR_KCP_TABLE; i++) {
        uint32_t block = table->block[i];
        if (block == ZR_KCP_NONE)
            continue;
        if (block >= kcp->blocks->count || zr_kcp_block_infos(kcp->blocks)[block].used == 0)
            return UINT32_MAX;
        n += (uint32_t)__builtin_popcountll(zr_kcp_block_infos(kcp->blocks)[block].used);
    }
    return n;
}

static bool snd_check(const zr_kcp *kcp)
{
    uint32_t in_flight = kcp->snd_nxt - kcp->snd_una, queued = kcp->snd_end - kcp->snd_nxt;

    if (in_flight > kcp->conf.snd_wnd || in_flight + queued > kcp->snd_max ||
        taken(kcp, &kcp->snd, kcp->snd_nxt, kcp->snd_end) != queued ||
        taken(kcp, &kcp->snd, kcp->snd_una, kcp->snd_end) != kcp->snd_held ||
        taken_anywhere(kcp, &kcp->snd) != kcp->snd_held)
        return false;
    if (in_flight > 0 && zr_kcp_slot_at(kcp->blocks, &kcp->snd, kcp->snd_una) == NULL)
        return false;
    return kcp->in.open || zr_kcp_loss_check(kcp);
}

static bool rcv_check(const zr_kcp *kcp)
{
    uint32_t queued = kcp->rcv_nxt - kcp->rcv_head;
    uint32_t held = taken(kcp, &kcp->rcv, kcp->rcv_nxt, kcp->rcv_head + ZR_KCP_WND_MAX);

    if (queued > kcp->conf.rcv_wnd || taken(kcp, &kcp->rcv, kcp->rcv_head, kcp->rcv_nxt) != queued ||
        queued + held != taken_anywhere(kcp, &kcp->rcv))
        return false;
    /* What stands in order is in the queue, unless that is full. */
    return queued == kcp->conf.rcv_wnd || zr_kcp_slot_at(kcp->blocks, &kcp->rcv, kcp->rcv_nxt) == NULL;
}

bool zr_kcp_check(const zr_kcp *kcp)
{
    return kcp->acks.next <= kcp->acks.count && kcp->acks.count <= kcp->acks.max && snd_check(kcp) && rcv_check(kcp);
}

void zr_kcp_flush(zr_kcp *kcp)
{
    kcp->flush_due = true;
}
