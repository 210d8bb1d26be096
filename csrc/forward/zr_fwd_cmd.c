/* Commands. The control plane is trusted to mean well, not to be right: every field is looked at before it is used. */
#include "forward/zr_fwd_priv.h"

#include "base/zr_bytes.h"
#include "coll/zr_seq.h"
#include "wire/zr_rtp.h"

#define FROM_NOW    ((uint64_t)1 << 33)
#define OUR_ERR(rc) ((rc) < 0 ? (uint32_t) - (rc) : 0u)

int zr_fwd_cmd_nop(zr_fwd *fwd, const zr_cmd *cmd, uint64_t *value, zr_ns_t now)
{
    (void)fwd, (void)cmd, (void)value, (void)now;
    return ZR_OK;
}

/* stream_open and stream_epoch: whose stream is it? */
enum { ROLE_PULLED, ROLE_LOCAL, ROLE_MIRROR };

static bool role_ok(const zr_fwd *fwd, const zr_cmd *cmd)
{
    uint32_t worker = cmd->c & 0xFF;

    if (cmd->y > UINT32_MAX)
        return false;
    return cmd->b < ROLE_MIRROR || (cmd->b == ROLE_MIRROR && zr_mirrors_known(&fwd->mirrors, worker));
}

static void set_feed(zr_stream *stream, const zr_cmd *cmd)
{
    if (cmd->b != ROLE_MIRROR)
        return;
    stream->from = cmd->c & 0xFF;
    stream->from_slot = cmd->c >> 8;
    stream->feed = cmd->d;
}

int zr_fwd_cmd_stream_open(zr_fwd *fwd, const zr_cmd *cmd, uint64_t *value, zr_ns_t now)
{
    (void)value, (void)now;
    if (cmd->a >= fwd->conf.streams_max || !role_ok(fwd, cmd))
        return ZR_E_inval;
    if (fwd->streams[cmd->a].open)
        return ZR_E_exists;
    if (fwd->streams[cmd->a].row == NULL) /* the first time: memory is touched only as far as streams are open */
        zr_stream_init(&fwd->streams[cmd->a], cmd->a, &fwd->page->streams[cmd->a]);
    zr_stream_open(&fwd->streams[cmd->a], cmd->b == ROLE_LOCAL, cmd->x, (uint32_t)cmd->y);
    set_feed(&fwd->streams[cmd->a], cmd);
    fwd->stream_count++;
    zr_stat_set(fwd->page, ZR_STAT_streams, fwd->stream_count);
    return ZR_OK;
}

int zr_fwd_cmd_stream_track(zr_fwd *fwd, const zr_cmd *cmd, uint64_t *value, zr_ns_t now)
{
    zr_stream *stream = zr_fwd_stream(fwd, cmd->a);
    zr_track_conf conf = { .kind = (uint8_t)cmd->c,
                           .codec = (uint8_t)(cmd->c >> 8),
                           .payload_type = (uint8_t)(cmd->c >> 16),
                           .clock_rate = cmd->d,
                           .ssrc = (uint32_t)cmd->x };

    (void)value, (void)now;
    if (stream == NULL)
        return ZR_E_missing;
    if (cmd->c >> 24 != 0 || cmd->x > UINT32_MAX)
        return ZR_E_inval;
    return zr_stream_set_track(stream, cmd->b, &conf);
}

int zr_fwd_cmd_stream_epoch(zr_fwd *fwd, const zr_cmd *cmd, uint64_t *value, zr_ns_t now)
{
    zr_stream *stream = zr_fwd_stream(fwd, cmd->a);

    (void)value, (void)now;
    if (stream == NULL)
        return ZR_E_missing;
    if (!role_ok(fwd, cmd) || cmd->x <= stream->epoch)
        return ZR_E_inval;
    zr_fwd_stream_cleared(fwd, stream);
    zr_stream_restart(stream, cmd->b == ROLE_LOCAL, cmd->x, (uint32_t)cmd->y);
    set_feed(stream, cmd);
    return ZR_OK;
}

int zr_fwd_cmd_stream_close(zr_fwd *fwd, const zr_cmd *cmd, uint64_t *value, zr_ns_t now)
{
    zr_stream *stream = zr_fwd_stream(fwd, cmd->a);

    (void)value, (void)now;
    if (stream == NULL)
        return ZR_E_missing;
    zr_fwd_stream_gone(fwd, stream);
    return ZR_OK;
}

int zr_fwd_cmd_ingress_bind(zr_fwd *fwd, const zr_cmd *cmd, uint64_t *value, zr_ns_t now)
{
    zr_stream *stream = zr_fwd_stream(fwd, cmd->b);

    (void)value, (void)now;
    if (stream == NULL)
        return ZR_E_missing;
    if (cmd->a >= fwd->conf.ingress_max || cmd->c > 1 || !stream->local)
        return ZR_E_inval;
    return zr_ingress_bind(&fwd->ingresses[cmd->a], stream, cmd->c != 0);
}

int zr_fwd_cmd_ingress_source(zr_fwd *fwd, const zr_cmd *cmd, uint64_t *value, zr_ns_t now)
{
    (void)value, (void)now;
    if (cmd->a >= fwd->conf.ingress_max || !zr_fwd_addr_ok(&cmd->addr))
        return ZR_E_inval;
    return zr_ingress_add_source(&fwd->ingresses[cmd->a], &cmd->addr);
}

int zr_fwd_cmd_ingress_close(zr_fwd *fwd, const zr_cmd *cmd, uint64_t *value, zr_ns_t now)
{
    (void)value, (void)now;
    if (cmd->a >= fwd->conf.ingress_max)
        return ZR_E_inval;
    zr_fwd_ingress_gone(fwd, &fwd->ingresses[cmd->a]);
    return ZR_OK;
}

/* A subscriber of either kind in a free slot of an open stream. */
static int add_sub(zr_fwd *fwd, const zr_cmd *cmd, bool child, zr_sub **sub)
{
    zr_stream *stream = zr_fwd_stream(fwd, cmd->b);

    if (stream == NULL)
        return ZR_E_missing;
    if (cmd->a >= fwd->subs.max)
        return ZR_E_inval;
    *sub = zr_subs_add(&fwd->subs, cmd->a, stream, child);
    if (*sub == NULL)
        return ZR_E_exists;
    zr_stat_set(fwd->page, ZR_STAT_subs, fwd->subs.count);
    return ZR_OK;
}

int zr_fwd_cmd_sub_add(zr_fwd *fwd, const zr_cmd *cmd, uint64_t *value, zr_ns_t now)
{
    zr_sub *sub;
    int rc;

    (void)value;
    if (cmd->c > UINT16_MAX || cmd->d > UINT16_MAX || (cmd->addr.family != 0 && !zr_fwd_addr_ok(&cmd->addr)))
        return ZR_E_inval;
    if ((rc = add_sub(fwd, cmd, false, &sub)) != ZR_OK)
        return rc;
    sub->tracks = (uint16_t)cmd->c;
    sub->spatial = (uint8_t)cmd->d;
    sub->temporal = (uint8_t)(cmd->d >> 8);
    if (cmd->addr.family != 0 && (rc = zr_subs_set_addr(&fwd->subs, sub, ZR_TRACK_DEFAULT, &cmd->addr)) != ZR_OK) {
        zr_fwd_sub_gone(fwd, sub);
        return rc;
    }
    if (zr_cache_key(&fwd->cache, cmd->b, &sub->replay_number, now))
        zr_list_append(&fwd->joining, &sub->joining);
    return ZR_OK;
}

int zr_fwd_cmd_sub_addr(zr_fwd *fwd, const zr_cmd *cmd, uint64_t *value, zr_ns_t now)
{
    zr_sub *sub = zr_subs_get(&fwd->subs, cmd->a);

    (void)value, (void)now;
    if (sub == NULL)
        return ZR_E_missing;
    if (sub->child || cmd->b >= ZR_TRACKS_MAX || !zr_fwd_addr_ok(&cmd->addr))
        return ZR_E_inval;
    zr_fwd_lose_due(fwd, sub, ZR_DROP_gone); /* egress is blocked, and its passes are by the addresses it had */
    return zr_subs_set_addr(&fwd->subs, sub, (uint8_t)cmd->b, &cmd->addr);
}

int zr_fwd_cmd_sub_drop(zr_fwd *fwd, const zr_cmd *cmd, uint64_t *value, zr_ns_t now)
{
    zr_sub *sub = zr_subs_get(&fwd->subs, cmd->a);

    (void)value, (void)now;
    if (sub == NULL)
        return ZR_E_missing;
    zr_fwd_sub_gone(fwd, sub);
    return ZR_OK;
}

/* What the cache has for a new child; returns the first number it will see. */
static uint32_t replay_child(zr_fwd *fwd, zr_sub *sub, uint64_t from, zr_ns_t now)
{
    zr_stream *stream = sub->stream;
    uint32_t first = (uint32_t)stream->next, start = (uint32_t)from;

    if (from == FROM_NOW || (from != 0 && zr_seq_before(first, start))) {
        zr_stat_add(fwd->page, ZR_STAT_resume_ahead, 1);
        return first;
    }
    if (from == 0 && !zr_cache_key(&fwd->cache, stream->slot, &start, now))
        return first;
    for (const zr_item *item = zr_cache_first(&fwd->cache, stream->slot, now); item != NULL; item = item->next) {
        if (zr_seq_before(item->media.number, start))
            continue;
        if (zr_seq_before(item->media.number, first))
            first = item->media.number;
        zr_stat_add(fwd->page, ZR_STAT_cache_replayed, zr_fwd_to_child(fwd, sub, item, ZR_MEDIA_REPLAYED, now));
    }
    return first;
}

int zr_fwd_cmd_child_add(zr_fwd *fwd, const zr_cmd *cmd, uint64_t *value, zr_ns_t now)
{
    uint64_t lane = cmd->x & 0xFF, want = cmd->x >> 8;
    zr_sub *sub;
    int rc;

    if (want > 1 || (lane > 61 && lane != ZR_LANE_ANY) || (cmd->y > (uint64_t)UINT32_MAX + 1 && cmd->y != FROM_NOW) ||
        cmd->d == 0)
        return ZR_E_inval;
    if (cmd->c >= fwd->conf.lane.sessions_max || !zr_lane_session_open(fwd->lane, cmd->c))
        return ZR_E_missing;
    if ((rc = add_sub(fwd, cmd, true, &sub)) != ZR_OK)
        return rc;
    rc = zr_lane_conv_open(fwd->lane, cmd->c, cmd->d, (uint8_t)lane, ZR_CONV_MEDIA, ZR_FWD_CHILD | cmd->a, now);
    if (rc < 0) {
        zr_subs_remove(&fwd->subs, sub);
        zr_stat_set(fwd->page, ZR_STAT_subs, fwd->subs.count);
        return rc;
    }
    sub->conv = (uint32_t)rc;
    sub->warm = want == 1;
    sub->added = now;
    *value = replay_child(fwd, sub, cmd->y, now);
    return ZR_OK;
}

int zr_fwd_cmd_child_want(zr_fwd *fwd, const zr_cmd *cmd, uint64_t *value, zr_ns_t now)
{
    zr_sub *sub = zr_subs_get(&fwd->subs, cmd->a);

    (void)value, (void)now;
    if (sub == NULL || !sub->child)
        return ZR_E_missing;
    if (cmd->b > 1)
        return ZR_E_inval;
    sub->warm = cmd->b == 1;
    return ZR_OK;
}

int zr_fwd_cmd_pull_start(zr_fwd *fwd, const zr_cmd *cmd, uint64_t *value, zr_ns_t now)
{
    zr_stream *stream = zr_fwd_stream(fwd, cmd->a);
    zr_pull *pull;
    int rc;

    (void)value;
    if (stream == NULL || cmd->b >= fwd->conf.lane.sessions_max || !zr_lane_session_open(fwd->lane, cmd->b))
        return ZR_E_missing;
    if (stream->local || stream->from != ZR_STREAM_OURS || cmd->c == 0 || (cmd->d > 61 && cmd->d != ZR_LANE_ANY))
        return ZR_E_inval;
    if ((pull = zr_pulls_take(&fwd->pulls, stream)) == NULL)
        return ZR_E_nomem;
    rc = zr_lane_conv_open(fwd->lane, cmd->b, cmd->c, (uint8_t)cmd->d, ZR_CONV_MEDIA, pull->slot, now);
    if (rc < 0) {
        zr_pulls_give(&fwd->pulls, pull);
        return rc;
    }
    pull->conv = (uint32_t)rc;
    zr_list_append(&stream->pulls, &pull->in_stream);
    return ZR_OK;
}

int zr_fwd_cmd_pull_stop(zr_fwd *fwd, const zr_cmd *cmd, uint64_t *value, zr_ns_t now)
{
    int conv;
    uint32_t user;

    (void)value, (void)now;
    if (cmd->a >= fwd->conf.lane.sessions_max || !zr_lane_session_open(fwd->lane, cmd->a))
        return ZR_E_missing;
    conv = zr_lane_conv_find(fwd->lane, cmd->a, cmd->b);
    user = conv < 0 ? ZR_FWD_CHILD : zr_lane_conv_user(fwd->lane, (uint32_t)conv);
    if ((user & ZR_FWD_CHILD) != 0)
        return ZR_E_missing;
    zr_fwd_pull_gone(fwd, &fwd->pulls.all[user]);
    return ZR_OK;
}

int zr_fwd_cmd_keyframe(zr_fwd *fwd, const zr_cmd *cmd, uint64_t *value, zr_ns_t now)
{
    zr_stream *stream = zr_fwd_stream(fwd, cmd->a);

    (void)value;
    if (stream == NULL || cmd->b >= stream->track_count || !stream->tracks[cmd->b].used)
        return ZR_E_missing;
    zr_fwd_want_key(fwd, stream, cmd->b, now);
    return ZR_OK;
}

int zr_fwd_cmd_mirror_add(zr_fwd *fwd, const zr_cmd *cmd, uint64_t *value, zr_ns_t now)
{
    zr_stream *stream = zr_fwd_stream(fwd, cmd->a);

    (void)value;
    if (stream == NULL)
        return ZR_E_missing;
    if (cmd->x > 1)
        return ZR_E_inval;
    return zr_fwd_mirror_add(fwd, stream, cmd->b, cmd->c, cmd->d, cmd->x == 1, now);
}

int zr_fwd_cmd_mirror_drop(zr_fwd *fwd, const zr_cmd *cmd, uint64_t *value, zr_ns_t now)
{
    zr_stream *stream = zr_fwd_stream(fwd, cmd->a);

    (void)value, (void)now;
    if (stream == NULL || cmd->b >= ZR_INBOX_WORKERS || (stream->mirrors & (uint64_t)1 << cmd->b) == 0)
        return ZR_E_missing;
    zr_fwd_mirrors_drop(fwd, stream, (uint64_t)1 << cmd->b);
    return ZR_OK;
}

/* Its predecessor is dead, so nobody else writes there. */
int zr_fwd_cmd_peer_up(zr_fwd *fwd, const zr_cmd *cmd, uint64_t *value, zr_ns_t now)
{
    (void)value, (void)now;
    if (!zr_mirrors_known(&fwd->mirrors, cmd->a))
        return ZR_E_inval;
    if (fwd->mirrors.in[cmd->a].corrupt)
        zr_inbox_mend(&fwd->mirrors.in[cmd->a]);
    return ZR_OK;
}

int zr_fwd_cmd_reset(zr_fwd *fwd, const zr_cmd *cmd, uint64_t *value, zr_ns_t now)
{
    (void)cmd, (void)value, (void)now;
    zr_fwd_all_gone(fwd);
    zr_fwd_forget_told(fwd);
    if (fwd->shed.level > 0) /* a new agent does not know it, and it is told of changes only */
        zr_fwd_event(fwd, &(zr_cmd){ .op = ZR_EVT_overload, .a = fwd->shed.level });
    return ZR_OK;
}

int zr_fwd_cmd_stop(zr_fwd *fwd, const zr_cmd *cmd, uint64_t *value, zr_ns_t now)
{
    (void)cmd, (void)value, (void)now;
    fwd->stopping = true;
    return ZR_OK;
}

static int (*const handlers[ZR_CMD_COUNT])(zr_fwd *, const zr_cmd *, uint64_t *, zr_ns_t) = {
#define X(op, a, b, c, d, x, y, addr, help) zr_fwd_cmd_##op,
    ZR_CMD_LIST(X)
#undef X
};

/* What broke stays out of use by itself (zr_spsc.h); the agent, who reads the gauge, has this worker replaced. */
static void note_corrupt_rings(zr_fwd *fwd)
{
    bool corrupt = fwd->commands->consumer.broken || fwd->events->producer.broken;

    if (corrupt == fwd->ring_corrupt)
        return;
    fwd->ring_corrupt = corrupt;
    zr_stat_add(fwd->page, ZR_STAT_ring_corrupt, corrupt);
    zr_stat_set(fwd->page, ZR_STAT_channel_broken, corrupt);
}

static int execute(zr_fwd *fwd, const zr_cmd *cmd, uint64_t *value, zr_ns_t now)
{
    return cmd->op < ZR_CMD_COUNT ? handlers[cmd->op](fwd, cmd, value, now) : ZR_E_inval;
}

/* Nothing secret stays in shared memory, nor on our stack. All of the record goes: executed once more, it is a nop. */
static void wipe_secret(const zr_cmd *record, zr_cmd *cmd)
{
    if (cmd->op != ZR_CMD_session_secret)
        return;
    zr_wipe((void *)(uintptr_t)record, sizeof *record);
    zr_wipe(&cmd->x, sizeof cmd->x);
    zr_wipe(&cmd->y, sizeof cmd->y);
}

/* Killed in between, a command is still in the ring, or in the journal, or both: a successor executes it once more. */
int zr_fwd_commands(zr_fwd *fwd, int budget, zr_ns_t now)
{
    int count = 0;

    for (const zr_cmd *record; count < budget && (record = zr_spsc_peek(fwd->commands)) != NULL; count++) {
        zr_cmd cmd = *record; /* the other side may write to its slots whenever it likes */
        uint64_t value = 0;
        int rc = execute(fwd, &cmd, &value, now);

        if (rc >= 0)
            zr_journal_note(fwd->journal, &cmd);
        wipe_secret(record, &cmd);
        zr_spsc_release(fwd->commands);
        zr_stat_add(fwd->page, ZR_STAT_commands, 1);
        if (rc < 0)
            zr_stat_add(fwd->page, ZR_STAT_commands_failed, 1);
        if (cmd.seq != 0)
            zr_fwd_event(fwd, &(zr_cmd){ .op = ZR_EVT_done, .seq = cmd.seq, .a = OUR_ERR(rc), .x = value });
    }
    note_corrupt_rings(fwd);
    return count;
}

void zr_fwd_become(zr_fwd *fwd, uint8_t lane, uint16_t epoch, zr_journal *journal, zr_ns_t now)
{
    fwd->conf.lane.lane = lane;
    fwd->conf.lane.epoch = epoch;
    fwd->mirrors.self = lane;
    fwd->conf.rtcp_ssrc = zr_fwd_conf_default(lane, 1).rtcp_ssrc;
    fwd->journal = journal;
    zr_lane_become(fwd->lane, lane, epoch, now);
    zr_stat_set(fwd->page, ZR_STAT_streams, 0); /* the page may still show a predecessor's */
    zr_stat_set(fwd->page, ZR_STAT_subs, 0);
    zr_stat_set(fwd->page, ZR_STAT_cache_entries, 0);
    zr_stat_set(fwd->page, ZR_STAT_channel_broken, 0);
    zr_stat_set(fwd->page, ZR_STAT_overload_level, 0);
    zr_fwd_event(fwd, &(zr_cmd){ .op = ZR_EVT_overload, .a = 0 }); /* behind whatever level the one before has told */
}

int zr_fwd_replay(zr_fwd *fwd, zr_ns_t now)
{
    zr_journal_cursor cursor = { 0 };
    int count = 0;

    for (zr_cmd cmd; fwd->journal != NULL && zr_journal_next(fwd->journal, &cursor, &cmd) == ZR_OK; count++) {
        uint64_t value = 0;

        if (cmd.op == ZR_CMD_stream_open && cmd.a < fwd->conf.streams_max) {
            const zr_stream_row *row = &fwd->page->streams[cmd.a];
            uint64_t next = atomic_load_explicit(&row->next_number, memory_order_relaxed);
            /* No number is given twice, none is let in twice; the row is the last word of the one before. */
            if (atomic_load_explicit(&row->epoch, memory_order_relaxed) == cmd.x)
                cmd.y = (next + (cmd.b == ROLE_LOCAL ? ZR_NUMBER_JUMP : 0)) & UINT32_MAX;
        }
        (void)execute(fwd, &cmd, &value, now);
        zr_stat_add(fwd->page, ZR_STAT_replayed, 1);
    }
    return count;
}
