#include "base/zr_err.h"
#include "kcp/zr_kcp_priv.h"

zr_kcp_conf zr_kcp_conf_compat(uint32_t conv)
{
    return (zr_kcp_conf){
        .conv = conv,
        .profile = ZR_KCP_COMPAT,
        .mtu = 1420,
        .snd_wnd = 1024,
        .rcv_wnd = 1024,
        .interval_ms = 10,
        .nodelay = 1,
        .resend = 2,
        .nc = 1,
        .fragments_max = ZR_KCP_FRAGMENTS_MAX,
        .conservative = true,
        .harden = true,
    };
}

zr_kcp_conf zr_kcp_conf_media(uint32_t conv)
{
    zr_kcp_conf conf = zr_kcp_conf_compat(conv);
    conf.profile = ZR_KCP_MEDIA;
    conf.deadline_ms = 400;
    return conf;
}

zr_kcp_conf zr_kcp_conf_control(uint32_t conv)
{
    zr_kcp_conf conf = zr_kcp_conf_media(conv);
    conf.in_order = true;
    conf.deadline_ms = 0;
    return conf;
}

static bool conf_ok(const zr_kcp_conf *conf)
{
    if (conf->mtu < 50 || conf->mtu > 1500 || conf->snd_wnd < 1 || conf->snd_wnd > ZR_KCP_WND_MAX ||
        conf->rcv_wnd < 1 || conf->rcv_wnd > ZR_KCP_WND_MAX || conf->fragments_max < 1 ||
        conf->fragments_max > ZR_KCP_FRAGMENTS_MAX)
        return false;
    if (conf->profile == ZR_KCP_COMPAT)
        return conf->interval_ms >= 10 && conf->interval_ms <= 5000;
    return conf->profile == ZR_KCP_MEDIA && !conf->stream && (!conf->in_order || conf->deadline_ms == 0);
}

int zr_kcp_init(zr_kcp *kcp, const zr_kcp_conf *conf, zr_kcp_blocks *blocks, zr_pool *pool, zr_ns_t now)
{
    if (!conf_ok(conf))
        return ZR_E_inval;
    bool media = conf->profile == ZR_KCP_MEDIA, first_arrival = media && !conf->in_order;
    *kcp = (zr_kcp){
        .conf = *conf,
        .blocks = blocks,
        .pool = pool,
        .cc = media      ? NULL
              : conf->nc ? &zr_kcp_cc_open
                         : &zr_kcp_cc_stock,
        .rules = media ? &zr_kcp_rules_media : &zr_kcp_rules_stock,
        .delivery = first_arrival ? &zr_kcp_first_arrival : &zr_kcp_in_order,
        .now = now,
        .now_ms = now / ZR_MS(1),
        .mss = conf->mtu - ZR_SEG_HEAD,
        .snd_una = conf->start_sn,
        .snd_nxt = conf->start_sn,
        .snd_end = conf->start_sn,
        .snd_max = ZR_MIN(2 * conf->snd_wnd, ZR_KCP_WND_MAX),
        .rmt_wnd = media ? ZR_MIN(128u, conf->rcv_wnd) : 128, /* until heard; relays have equal windows */
        .peer_una = conf->start_sn,
        .rcv_head = conf->start_sn,
        .rcv_nxt = conf->start_sn,
        .rcv_top = conf->start_sn,
        .rto = 200,
        .rto_min = conf->nodelay ? 30 : 100,
        .ssthresh = 2,
        .answered = { .wins = zr_kcp_ms(now) - ZR_KCP_ANSWER_MS, .stale = zr_kcp_ms(now) - ZR_KCP_ANSWER_MS },
        .ts_flush = 100,
        .probe_first = media ? 50 : 7000,
        .probe_max = media ? 1000 : 120000,
    };
    if (first_arrival)
        kcp->tail = ZR_MIN(ZR_KCP_TAIL, kcp->mss - ZR_KCP_HEAD_MAX);
    /* A message of more segments than the window holds could never be completed. */
    kcp->conf.fragments_max = (uint8_t)ZR_MIN(ZR_MIN(conf->fragments_max, conf->rcv_wnd), first_arrival ? 2u : 127u);
    zr_kcp_acks_init(&kcp->acks, conf->harden ? ZR_MAX(conf->rcv_wnd, ZR_KCP_ACKS_LEAST) : UINT32_MAX);
    zr_kcp_table_init(&kcp->snd);
    zr_kcp_table_init(&kcp->rcv);
    kcp->rules->init(kcp, zr_kcp_ms(now));
    return ZR_OK;
}

void zr_kcp_set_mtu(zr_kcp *kcp, uint32_t mtu)
{
    uint32_t least = kcp->tail + ZR_KCP_HEAD_MAX + ZR_SEG_HEAD; /* the tail is agreed on, it never changes */

    kcp->mss = ZR_MIN(ZR_MAX(mtu, least), kcp->conf.mtu) - ZR_SEG_HEAD;
}

void zr_kcp_kick(zr_kcp *kcp, zr_ns_t now)
{
    if (kcp->conf.profile == ZR_KCP_MEDIA && kcp->media.dark)
        kcp->media.probe_at = zr_kcp_ms(now);
}

void zr_kcp_fini(zr_kcp *kcp)
{
    for (uint32_t sn; (sn = zr_kcp_slot_next(kcp->blocks, &kcp->snd, kcp->snd_una, kcp->snd_end)) != kcp->snd_end;)
        zr_kcp_snd_drop(kcp, sn, zr_kcp_slot_of(kcp->blocks, &kcp->snd, sn));
    kcp->delivery->fini(kcp);
    kcp->rules->fini(kcp);
    zr_kcp_acks_clear(&kcp->acks, kcp->blocks);
    kcp->snd_una = kcp->snd_nxt = kcp->snd_end;
    kcp->probe = 0;
    kcp->probe_wait = 0;
}

/* Until a hole is given up. Noinline: so that who misses nothing does not pay for it. */
__attribute__((noinline)) static int32_t gap_wait(const zr_kcp *kcp, uint32_t ms)
{
    uint32_t at;

    return kcp->delivery->deadline(kcp, &at) ? zr_seq_diff(at, ms) : ZR_KCP_NEVER;
}

zr_ns_t zr_kcp_deadline(const zr_kcp *kcp)
{
    uint32_t ms = (uint32_t)kcp->now_ms;
    int32_t wait = kcp->rules->wait(kcp, ms);

    if (kcp->rcv_nxt != kcp->rcv_top || kcp->ready.held > 0)
        wait = ZR_MIN(wait, gap_wait(kcp, ms));
    return wait == ZR_KCP_NEVER ? ZR_NEVER : (kcp->now_ms + wait) * ZR_MS(1);
}

void zr_kcp_on_deadline(zr_kcp *kcp, zr_ns_t now)
{
    uint32_t ms = zr_kcp_at(kcp, now);

    if (kcp->rcv_nxt != kcp->rcv_top || kcp->ready.held > 0)
        kcp->delivery->expire(kcp, ms);
    if (kcp->conf.profile == ZR_KCP_MEDIA) {
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

/* What is due is due now, so when nothing is the deadline was worth its price: most turns only hear something. */
int zr_kcp_turn(zr_kcp *kcp, zr_pack *pack, zr_ns_t now, zr_ns_t *deadline)
{
    zr_ns_t at = zr_kcp_deadline(kcp);

    if (at <= now) {
        int rc = zr_kcp_output(kcp, pack, now);
        if (rc != ZR_OK)
            return rc;
        at = zr_kcp_deadline(kcp);
    }
    *deadline = at;
    return ZR_OK;
}

bool zr_kcp_due(const zr_kcp *kcp, zr_ns_t now)
{
    return kcp->conf.profile == ZR_KCP_COMPAT ? kcp->flush_due : kcp->rules->wait(kcp, zr_kcp_ms(now)) <= 0;
}

uint32_t zr_kcp_waiting(const zr_kcp *kcp)
{
    return kcp->snd_held;
}

uint32_t zr_kcp_unsent(const zr_kcp *kcp)
{
    return kcp->snd_end - kcp->snd_nxt;
}

uint32_t zr_kcp_used(const zr_kcp *kcp, uint32_t *most)
{
    *most = kcp->snd_max;
    return kcp->snd_end - kcp->snd_una;
}

uint32_t zr_kcp_reordered(const zr_kcp *kcp)
{
    return kcp->tail != 0 ? kcp->ready.held : kcp->rcv_top - kcp->rcv_nxt;
}

bool zr_kcp_reorders(const zr_kcp *kcp, const zr_seg *seg)
{
    if (seg->cmd != ZR_SEG_PUSH)
        return false;
    return kcp->tail != 0 ? seg->frg != 0 || seg->len == kcp->tail : seg->sn != kcp->rcv_nxt;
}

uint32_t zr_kcp_srtt_ms(const zr_kcp *kcp)
{
    if (kcp->conf.profile == ZR_KCP_MEDIA)
        return kcp->media.path.srtt16 == 0 ? 0 : zr_kcp_path_srtt(&kcp->media.path);
    return (uint32_t)kcp->srtt;
}

zr_kcp_estimates zr_kcp_estimated(const zr_kcp *kcp)
{
    const zr_kcp_path *path = &kcp->media.path;
    return (zr_kcp_estimates){
        .srtt_ms = zr_kcp_srtt_ms(kcp),
        .timer_ms = zr_kcp_path_timer(path),
        .queue_ms = zr_kcp_path_queue(path),
        .loss_ppm = zr_kcp_path_loss_ppm(path),
        .inbound_ppm = kcp->tell.bad_ppm,
        .rate_kbps = path->rate_kbps,
        .full = path->full,
        .dark = kcp->media.dark,
        .heard = kcp->heard,
    };
}

const zr_kcp_counts *zr_kcp_counted(const zr_kcp *kcp)
{
    return &kcp->counts;
}

static bool snd_check(const zr_kcp *kcp)
{
    uint32_t in_flight = kcp->snd_nxt - kcp->snd_una, queued = kcp->snd_end - kcp->snd_nxt;

    if (in_flight > kcp->conf.snd_wnd || in_flight + queued > kcp->snd_max ||
        zr_kcp_slots_taken(kcp->blocks, &kcp->snd, kcp->snd_nxt, kcp->snd_end) != queued ||
        zr_kcp_slots_taken(kcp->blocks, &kcp->snd, kcp->snd_una, kcp->snd_end) != kcp->snd_held ||
        zr_kcp_slots_anywhere(kcp->blocks, &kcp->snd) != kcp->snd_held)
        return false;
    if (in_flight > 0 && zr_kcp_slot_at(kcp->blocks, &kcp->snd, kcp->snd_una) == NULL)
        return false;
    return kcp->in.open || kcp->rules->check(kcp);
}

bool zr_kcp_check(const zr_kcp *kcp)
{
    return kcp->acks.next <= kcp->acks.count && kcp->acks.count <= kcp->acks.max && snd_check(kcp) &&
           kcp->delivery->check(kcp);
}

void zr_kcp_flush(zr_kcp *kcp)
{
    kcp->flush_due = true;
}
