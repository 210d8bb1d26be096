#include "forward/zr_fwd_priv.h"

static bool conf_ok(const zr_fwd_conf *conf)
{
    return conf->pkts_max >= 16 && conf->pkts_max <= 1u << 22 && conf->streams_max >= 1 &&
           conf->streams_max <= 1u << 16 && conf->subs_max >= 1 && conf->subs_max <= 1u << 18 &&
           conf->ingress_max >= 1 && conf->ingress_max <= UINT16_MAX - ZR_SOCK_INGRESS &&
           conf->cache_max <= conf->pkts_max / 2 && conf->cache_age_max > 0 && conf->lane.convs_max < ZR_FWD_CHILD &&
           conf->deadline_ms[ZR_DEADLINE_AUDIO] > 0 && conf->deadline_ms[ZR_DEADLINE_KEY] > 0 &&
           conf->deadline_ms[ZR_DEADLINE_DELTA] > 0 && conf->hold_pkts >= 4 && conf->hold_bytes >= 4 * ZR_RTP_MAX &&
           conf->hold_pkts_all >= 4 && conf->hold_age > 0 && conf->workers <= ZR_INBOX_WORKERS &&
           (conf->workers < 2 || conf->lane.lane < conf->workers) && zr_lane_bytes(&conf->lane) > 0;
}

zr_fwd_conf zr_fwd_conf_default(uint8_t lane, uint32_t streams_max)
{
    uint32_t pkts = ZR_MIN(ZR_MAX(streams_max * 64, 4096u), 65536u);
    uint32_t convs = ZR_MIN(streams_max * 4 + 64, 65536u);

    return (zr_fwd_conf){
        .lane = { .lane = lane,
                  .epoch = 1,
                  .sessions_max = 64,
                  .convs_max = convs,
                  .peer_lanes_max = 256,
                  .blocks_max = ZR_MIN(convs * 4 + 64, 65534u),
                  .window = 1024,
                  .ciphers = 1u << zr_cipher_default() },
        .pkts_max = pkts,
        .streams_max = streams_max,
        .subs_max = ZR_MIN(ZR_MAX(streams_max * 5, 64u), 65536u),
        .ingress_max = ZR_MIN(streams_max, 60000u),
        .cache_max = pkts / 2,
        .cache_age_max = ZR_SEC(2),
        .rtcp_ssrc = 0x7A72u << 16 | lane,
        .deadline_ms = { ZR_LANE_DEADLINE_MS, ZR_LANE_DEADLINE_MS, ZR_LANE_DEADLINE_MS },
        .hold_pkts = 2048,
        .hold_bytes = 4u << 20,
        .hold_pkts_all = pkts / 4,
        .hold_age = ZR_MS(400),
        .overload_enter = { 0, 750, 850, 930, 980 },
    };
}

enum part {
    PART_POOL,
    PART_LANE,
    PART_ITEMS,
    PART_CACHE,
    PART_SUBS,
    PART_PULLS,
    PART_STREAMS,
    PART_INGRESSES,
    PART_CHILD_CUTS,
    PART_MIRRORS,
    PARTS
};

static size_t lay_out(const zr_fwd_conf *conf, size_t at[PARTS])
{
    const size_t bytes[PARTS] = {
        [PART_POOL] = zr_pool_bytes(conf->pkts_max),
        [PART_LANE] = zr_lane_bytes(&conf->lane),
        [PART_ITEMS] = zr_items_bytes(conf->pkts_max),
        [PART_CACHE] = zr_cache_bytes(conf->cache_max, conf->streams_max),
        [PART_SUBS] = zr_subs_bytes(conf->subs_max),
        [PART_PULLS] = zr_pulls_bytes(conf->lane.convs_max),
        [PART_STREAMS] = conf->streams_max * sizeof(zr_stream),
        [PART_INGRESSES] = conf->ingress_max * sizeof(zr_ingress),
        [PART_CHILD_CUTS] = (size_t)conf->lane.convs_max * ZR_TRACKS_MAX * sizeof(zr_shed_track),
        [PART_MIRRORS] = zr_mirrors_bytes(conf->streams_max, conf->workers),
    };
    return zr_lay_out(sizeof(zr_fwd), bytes, PARTS, at);
}

size_t zr_fwd_bytes(const zr_fwd_conf *conf)
{
    size_t at[PARTS];
    return conf_ok(conf) ? lay_out(conf, at) : 0;
}

int zr_fwd_parts(const zr_fwd_conf *conf, zr_part *parts)
{
    static const char *const names[PARTS] = {
        [PART_POOL] = "packet pool",
        [PART_ITEMS] = "queued packets",
        [PART_CACHE] = "replay caches",
        [PART_SUBS] = "subscribers",
        [PART_PULLS] = "pulls",
        [PART_STREAMS] = "streams",
        [PART_INGRESSES] = "ingress slots",
        [PART_CHILD_CUTS] = "children's cuts",
    };
    zr_part own[PARTS];
    size_t at[PARTS], end;
    int count = 0;

    _Static_assert(PARTS + ZR_LANE_PARTS <= ZR_FWD_PARTS, "its callers have room for all");
    if (!conf_ok(conf))
        return 0;
    end = lay_out(conf, at);
    zr_parts_of(own, names, at, end, PARTS);
    for (int i = 0; i < PARTS; i++)
        if (i != PART_LANE)
            parts[count++] = own[i];
    return count + zr_lane_parts(&conf->lane, parts + count);
}

zr_fwd *zr_fwd_init(void *mem, const zr_fwd_conf *conf, zr_stat_page *page, zr_chan *chan, zr_ns_t now)
{
    size_t at[PARTS];
    uint8_t *base = mem;
    zr_fwd *fwd = mem;
    zr_spsc *commands = zr_chan_commands(chan), *events = zr_chan_events(chan);

    if (!conf_ok(conf) || page->streams_max < conf->streams_max || commands->slot_bytes < sizeof(zr_cmd) ||
        events->slot_bytes < sizeof(zr_cmd))
        return NULL;
    *fwd = (zr_fwd){ .conf = *conf,
                     .page = page,
                     .commands = commands,
                     .events = events,
                     .release_at = ZR_NEVER,
                     .let_most = 64,
                     .give = UINT32_MAX };
    (void)lay_out(conf, at);
    if (zr_pool_init(&fwd->pool, base + at[PART_POOL], conf->pkts_max) != ZR_OK)
        return NULL;
    fwd->conf.lane.deadline_ms = 0;
    for (int i = 0; i < ZR_DEADLINES; i++)
        fwd->conf.lane.deadline_ms = ZR_MAX(fwd->conf.lane.deadline_ms, conf->deadline_ms[i]);
    fwd->lane = zr_lane_init(base + at[PART_LANE], &fwd->conf.lane, &fwd->pool, page, now);
    if (fwd->lane == NULL)
        return NULL;
    zr_items_init(&fwd->items, base + at[PART_ITEMS], conf->pkts_max);
    zr_cache_init(&fwd->cache, base + at[PART_CACHE], conf->cache_max, conf->streams_max, conf->cache_age_max,
                  &fwd->pool);
    zr_subs_init(&fwd->subs, base + at[PART_SUBS], conf->subs_max);
    zr_pulls_init(&fwd->pulls, base + at[PART_PULLS], conf->lane.convs_max);
    fwd->streams = (void *)(base + at[PART_STREAMS]);
    fwd->ingresses = (void *)(base + at[PART_INGRESSES]);
    fwd->child_cuts = (void *)(base + at[PART_CHILD_CUTS]);
    zr_shed_init(&fwd->shed, conf->overload_enter, now);
    zr_stat_set(page, ZR_STAT_overload_level, 0);
    zr_stat_set(page, ZR_STAT_held_packets_cap, conf->hold_pkts_all);
    for (uint32_t i = 0; i < conf->ingress_max; i++)
        zr_ingress_init(&fwd->ingresses[i], i);
    zr_mirrors_init(&fwd->mirrors, base + at[PART_MIRRORS], conf->lane.lane, conf->workers);
    zr_list_init(&fwd->turning);
    zr_list_init(&fwd->leaving);
    zr_list_init(&fwd->rushing);
    zr_list_init(&fwd->pli);
    zr_list_init(&fwd->joining);
    zr_list_init(&fwd->asking);
    zr_list_init(&fwd->locking);
    zr_list_init(&fwd->holding);
    return fwd;
}

void zr_fwd_fini(zr_fwd *fwd)
{
    zr_fwd_all_gone(fwd);
    zr_lane_fini(fwd->lane);
}

zr_pool *zr_fwd_pool(zr_fwd *fwd)
{
    return &fwd->pool;
}

int zr_fwd_ingress_closed(zr_fwd *fwd)
{
    if (fwd->closing_count == 0)
        return ZR_E_again;
    while (!fwd->ingresses[fwd->closing_from].closing)
        fwd->closing_from++;
    fwd->ingresses[fwd->closing_from].closing = false;
    fwd->closing_count--;
    return (int)fwd->closing_from;
}

void zr_fwd_ingress_lost(zr_fwd *fwd, uint32_t slot)
{
    zr_fwd_event(fwd, &(zr_cmd){ .op = ZR_EVT_ingress_lost, .a = slot });
}

bool zr_fwd_stopping(const zr_fwd *fwd)
{
    return fwd->stopping;
}

void zr_fwd_tell_rekeys(zr_fwd *fwd)
{
    enum zr_rekey_why why;
    uint32_t session;

    while (zr_lane_rekey_wanted(fwd->lane, &session, &why))
        zr_fwd_event(fwd, &(zr_cmd){ .op = ZR_EVT_rekey, .a = session, .b = why });
}

void zr_fwd_set_own(zr_fwd *fwd, const zr_addr *own)
{
    zr_lane_set_own(fwd->lane, own);
}

int zr_fwd_link_input(zr_fwd *fwd, zr_pkt *pkt, const zr_addr *from, zr_ns_t now)
{
    zr_lane_msg msg;
    uint32_t session, conv, count;
    int rc;

    zr_stat_add(fwd->page, ZR_STAT_rx_link, 1);
    zr_stat_add(fwd->page, ZR_STAT_rx_link_bytes, pkt->len);
    rc = zr_lane_input(fwd->lane, pkt, from, now);
    while (zr_lane_recv(fwd->lane, &msg) == ZR_OK)
        zr_fwd_message(fwd, &msg, now);
    if (zr_lane_unknown(fwd->lane, &session, &conv))
        zr_fwd_event(fwd, &(zr_cmd){ .op = ZR_EVT_conv_unknown, .a = session, .b = conv });
    if (zr_lane_violations(fwd->lane, &session, &count))
        zr_fwd_event(fwd, &(zr_cmd){ .op = ZR_EVT_violations, .a = session, .b = count });
    zr_fwd_tell_rekeys(fwd);
    return rc;
}

void zr_fwd_on_deadline(zr_fwd *fwd, zr_ns_t now)
{
    if (now >= zr_lane_deadline(fwd->lane))
        zr_lane_on_deadline(fwd->lane, now);
    zr_fwd_tell_rekeys(fwd);
    if (now >= fwd->release_at)
        zr_fwd_release_locks(fwd, now);
    zr_fwd_say_byes(fwd, now);
}

zr_ns_t zr_fwd_deadline(const zr_fwd *fwd)
{
    return zr_fwd_deadline_but(fwd, 0);
}

bool zr_fwd_turning(const zr_fwd *fwd)
{
    return !zr_list_empty(&fwd->turning);
}

zr_ns_t zr_fwd_deadline_but(const zr_fwd *fwd, uint32_t waits)
{
    zr_ns_t lane = (waits & ZR_FWD_LINKS_BLOCKED) != 0 ? zr_lane_timers(fwd->lane) : zr_lane_deadline(fwd->lane);

    /* Work is left over from this turn: the next one is due at once. */
    if (fwd->mirrors.left)
        return 0;
    if ((waits & (ZR_FWD_EGRESS_BLOCKED | ZR_FWD_HELD)) == 0 &&
        (!zr_list_empty(&fwd->turning) || !zr_list_empty(&fwd->joining)))
        return 0;
    if ((waits & ZR_FWD_EGRESS_BLOCKED) == 0 &&
        (!zr_list_empty(&fwd->leaving) || !zr_list_empty(&fwd->pli) || !zr_list_empty(&fwd->asking) ||
         !zr_list_empty(&fwd->holding) || !zr_list_empty(&fwd->rushing)))
        return 0;
    return ZR_MIN(ZR_MIN(lane, fwd->release_at), ZR_MIN(zr_fwd_byes_deadline(fwd), fwd->mirrors.catch_at));
}

bool zr_fwd_events_waiting(zr_fwd *fwd)
{
    bool waiting = fwd->event_waiting;

    fwd->event_waiting = false;
    return waiting;
}

bool zr_fwd_check(const zr_fwd *fwd)
{
    uint32_t open = 0, queued = fwd->byes.count, held = 0, held_bytes = 0, asked = 0;

    for (uint32_t i = 0; i < fwd->conf.streams_max; i++) {
        const zr_stream *stream = &fwd->streams[i];
        if (stream->row == NULL) /* never opened */
            continue;
        open += stream->open;
        queued +=
            stream->turn.count + stream->out.count + stream->urgent.count + stream->wait.count + stream->rush.count;
        held += stream->urgent.count + stream->wait.count;
        held_bytes += stream->urgent.bytes + stream->wait.bytes;
        if (zr_list_linked(&stream->holding) != (stream->urgent.count + stream->wait.count > 0))
            return false;
        if (zr_list_linked(&stream->turning) != (stream->turn.count > 0) ||
            zr_list_linked(&stream->leaving) != (stream->out.count > 0) ||
            zr_list_linked(&stream->rushing) != (stream->rush.count > 0))
            return false;
        if (!stream->open && (stream->turn.count > 0 || stream->out.count > 0 || !zr_list_empty(&stream->players) ||
                              !zr_list_empty(&stream->children) || !zr_list_empty(&stream->pulls)))
            return false;
    }
    for (uint32_t i = 0; i < fwd->conf.subs_max; i++)
        if (zr_subs_get(&fwd->subs, i) != NULL)
            asked += fwd->subs.all[i].asked.count;
    return open == fwd->stream_count && queued + asked == fwd->items.in_use && held == fwd->held &&
           held_bytes == fwd->held_bytes && asked == fwd->asked && zr_subs_check(&fwd->subs) &&
           zr_cache_check(&fwd->cache) && zr_pool_check(&fwd->pool) && zr_lane_check(fwd->lane) &&
           zr_fwd_mirrors_check(fwd);
}

void zr_fwd_event(zr_fwd *fwd, const zr_cmd *event)
{
    zr_cmd *slot = zr_spsc_claim(fwd->events);

    if (slot == NULL) {
        zr_stat_add(fwd->page, ZR_STAT_events_lost, 1);
        return;
    }
    *slot = *event;
    zr_spsc_commit(fwd->events);
    zr_stat_add(fwd->page, ZR_STAT_events, 1);
    fwd->event_waiting = true;
}

zr_stream *zr_fwd_stream(zr_fwd *fwd, uint32_t slot)
{
    return slot < fwd->conf.streams_max && fwd->streams[slot].open ? &fwd->streams[slot] : NULL;
}

int zr_fwd_drop(zr_fwd *fwd, zr_stream *stream, zr_pkt *pkt, enum zr_drop_id drop)
{
    zr_drop_add(fwd->page, drop);
    if (stream != NULL)
        zr_stream_count_drop(stream, drop);
    zr_pkt_drop(pkt);
    return ZR_E_dropped;
}
