#include "probe/zr_probe.h"

#include <string.h>

#include "base/zr_sip.h"
#include "time/zr_rate.h"

#define ANSWER_EVERY ZR_MS(10)
#define ANSWER_BURST 32
#define SETTLE       ZR_MS(500)
#define FIRST        ZR_MS(100) /* the peer may still be reading what makes the session */
#define DEAF         1u         /* flag of a ping or pong: I do not hear you */
#define FIRST_PINGS  3u
#define CALLED       ZR_MS(100) /* so long a last call of the peer's is worth something */

/* Nobody knows it before it is sent. Two keys out of one seed: what is kept secret is 64 bits either way. */
static uint32_t token_of(const zr_probe *probe, uint64_t id)
{
    return (uint32_t)zr_sip(probe->conf.seed, ~probe->conf.seed, id);
}

void zr_probe_init(zr_probe *probe, const zr_probe_conf *conf, zr_ns_t now)
{
    memset(probe, 0, sizeof *probe);
    probe->conf = *conf;
    probe->conf.rate_idle = (uint16_t)ZR_MIN(ZR_MAX(conf->rate_idle, 1u), ZR_ALIVE_RATE);
    probe->conf.rate_active = (uint16_t)ZR_MIN(ZR_MAX(conf->rate_active, 1u), ZR_ALIVE_RATE);
    zr_path_init(&probe->path, now);
    zr_alive_init(&probe->alive, probe->conf.rate_idle, now);
    zr_mtu_init(&probe->mtu, conf->ip_max != 0 ? conf->ip_max : ZR_MTU_BASE, now);
    zr_mtu_pause(&probe->mtu, true, now);
    probe->ping_at = now + FIRST;
    probe->next_id = token_of(probe, UINT64_MAX);
    probe->settle_at = now + SETTLE;
    probe->changed = true;
}

static void settle(zr_probe *probe, zr_ns_t now)
{
    zr_alive *alive = &probe->alive;
    uint16_t rate = probe->elsewhere ? ZR_MIN(probe->conf.rate_elsewhere, alive->theirs) : alive->theirs;

    alive->dead_after = zr_alive_dead_after(rate, zr_path_loss(&probe->path.in), zr_path_longest(&probe->path, now));
    probe->settle_at = now + SETTLE;
}

static bool may_size(const zr_probe *probe)
{
    return zr_alive_up(&probe->alive) && probe->path.samples > 0;
}

/* The state turned, or the peer must learn something: it is told at once. */
static void news(zr_probe *probe, zr_ns_t now)
{
    probe->ping_at = ZR_MIN(probe->ping_at, now);
    probe->changed = true;
    zr_mtu_pause(&probe->mtu, !may_size(probe), now);
}

void zr_probe_set_active(zr_probe *probe, bool active, zr_ns_t now)
{
    if (probe->active == active)
        return;
    probe->active = active;
    if (zr_alive_set_rate(&probe->alive, active ? probe->conf.rate_active : probe->conf.rate_idle))
        probe->ping_at = ZR_MIN(probe->ping_at, now);
    zr_mtu_hurry(&probe->mtu, now);
}

void zr_probe_on_counter(zr_probe *probe, uint32_t run, uint64_t counter, zr_ns_t now)
{
    bool hole = probe->path.gap.at != 0 || probe->elsewhere;

    probe->elsewhere = false;
    zr_path_on_counter(&probe->path, run, counter, now);
    if (hole || probe->path.gap.at != 0) /* the next one may be as long */
        settle(probe, now);
    probe->ask = false;
    if (zr_alive_on_heard(&probe->alive, now))
        news(probe, now);
}

void zr_probe_on_heard(zr_probe *probe, zr_ns_t when, zr_ns_t now)
{
    if (when <= probe->alive.heard || when > now)
        return;
    /* Heard so long after this lane was: it is not the peer that is gone but its agent, and with it what that promised.
     */
    if (!probe->elsewhere && probe->conf.rate_elsewhere > 0 &&
        when - probe->path.heard >= probe->alive.dead_after / 2) {
        probe->elsewhere = true;
        settle(probe, now);
    }
    if (now - when < probe->alive.dead_after) {
        probe->ask = false;
        if (zr_alive_on_heard(&probe->alive, when))
            news(probe, now);
    }
}

static bool pinged(const zr_probe *probe, const zr_probe_seg *seg, zr_ns_t *sent)
{
    uint32_t i = seg->id % ZR_PROBE_PINGS;

    *sent = probe->pings[i].sent;
    return probe->next_id - seg->id - 1 < ZR_PROBE_PINGS && probe->pings[i].waiting &&
           token_of(probe, seg->id) == seg->token && (uint32_t)((uint64_t)*sent / 1000) == seg->ts;
}

bool zr_probe_judge(const zr_probe *probe, const zr_probe_seg *seg, zr_ns_t now)
{
    zr_ns_t sent;

    switch (seg->cmd) {
    case ZR_PROBE_PING:
        return seg->len == ZR_PROBE_STATE;
    case ZR_PROBE_PONG:
        return seg->len == ZR_PROBE_TIMES && pinged(probe, seg, &sent) &&
               zr_path_answer_ok(sent, (zr_ns_t)zr_get64(seg->data + 8), (zr_ns_t)zr_get64(seg->data), now);
    case ZR_PROBE_PADDED:
        return seg->len == 0 && zr_mtu_asked(&probe->mtu, seg->id, seg->token);
    default:
        return true;
    }
}

void zr_probe_on_call(zr_probe *probe, zr_ns_t now)
{
    probe->called = now;
}

/* What each ping and pong says of its sender. */
static void hear_state(zr_probe *probe, const zr_probe_seg *seg, zr_ns_t now)
{
    if ((seg->flags & ZR_PROBE_CALL) != 0)
        zr_probe_on_call(probe, now);
    const uint8_t *body = seg->data;
    uint16_t promise = zr_get16(body + 16), repeated = zr_get16(body + 18);

    zr_path_on_told(&probe->path, zr_get32(body + 8), zr_get32(body + 12), zr_get16(body + 20), now);
    promise = (uint16_t)ZR_MIN(ZR_MAX(promise, 1u), ZR_ALIVE_RATE);
    bool first = probe->alive.theirs != promise;
    if (zr_alive_on_told(&probe->alive, promise, repeated, (seg->flags & DEAF) != 0, now))
        news(probe, now);
    if (first)
        settle(probe, now);
}

static void owe(zr_probe *probe, const zr_probe_seg *seg, uint8_t cmd, zr_ns_t now)
{
    if (probe->owed == ZR_PROBE_ANSWERS || !zr_rate_take(&probe->answers_full_at, now, ANSWER_EVERY, ANSWER_BURST))
        return;
    probe->answers[(probe->first + probe->owed++) % ZR_PROBE_ANSWERS] =
        (zr_probe_answer){ .cmd = cmd, .ts = seg->ts, .id = seg->id, .token = seg->token, .came = now };
}

void zr_probe_input(zr_probe *probe, const zr_probe_seg *seg, zr_ns_t now)
{
    zr_ns_t sent;

    switch (seg->cmd) {
    case ZR_PROBE_PING:
        owe(probe, seg, ZR_PROBE_PONG, now);
        zr_path_on_clock(&probe->path, (zr_ns_t)zr_get64(seg->data), now);
        /* One that was overtaken says what is no longer true. */
        if (probe->any_said && (int32_t)(seg->id - probe->newest_id) <= 0)
            return;
        probe->any_said = true;
        probe->newest_id = seg->id;
        hear_state(probe, seg, now);
        break;
    case ZR_PROBE_PONG:
        if (!pinged(probe, seg, &sent)) /* twice in one datagram */
            return;
        probe->pings[seg->id % ZR_PROBE_PINGS].waiting = false;
        zr_path_on_answer(&probe->path, sent, (zr_ns_t)zr_get64(seg->data + 8), (zr_ns_t)zr_get64(seg->data), now);
        zr_mtu_pause(&probe->mtu, !may_size(probe), now); /* the first one: now it is known how long to wait */
        break;
    case ZR_PROBE_PAD:
        owe(probe, seg, ZR_PROBE_PADDED, now);
        break;
    case ZR_PROBE_PADDED:
        if (zr_mtu_on_answer(&probe->mtu, seg->id, seg->token, now))
            probe->changed = true;
        break;
    default:
        break;
    }
}

/* When silence begins to look like death. */
static zr_ns_t half(const zr_alive *alive)
{
    return alive->theirs == 0 || alive->deaf ? ZR_NEVER : alive->heard + alive->dead_after / 2;
}

bool zr_probe_silent(const zr_probe *probe, zr_ns_t now)
{
    return now >= half(&probe->alive);
}

bool zr_probe_worried(const zr_probe *probe, zr_ns_t now)
{
    bool never =
        probe->path.samples == 0 && probe->pinged >= FIRST_PINGS; /* it promised nothing yet: no silence either */
    return never || zr_probe_silent(probe, now) || !zr_alive_up(&probe->alive) ||
           (probe->called != 0 && now - probe->called < CALLED);
}

void zr_probe_moved(zr_probe *probe, zr_ns_t now)
{
    zr_mtu_restart(&probe->mtu, now);
    probe->changed = true;
}

void zr_probe_on_refused(zr_probe *probe, uint32_t size, zr_ns_t now)
{
    if (zr_mtu_on_refused(&probe->mtu, size, now))
        probe->changed = true;
}

zr_ns_t zr_probe_ping_at(const zr_probe *probe)
{
    const zr_alive *alive = &probe->alive;

    zr_ns_t last_call = ZR_MAX(half(alive), probe->pinged_at + ZR_PROBE_LAST_CALL);
    return ZR_MIN(probe->ping_at, last_call);
}

/* When somebody is to look elsewhere, again and again until something was heard: with streams, from half of T_dead on.
 */
static zr_ns_t ask_at(const zr_probe *probe)
{
    const zr_alive *alive = &probe->alive;

    if (!probe->active || alive->theirs == 0)
        return ZR_NEVER;
    zr_ns_t from = alive->heard + alive->dead_after / 2;
    if (!probe->ask)
        return from;
    return ZR_MAX(from, probe->asked_at + (alive->deaf ? ZR_PROBE_URGENT : ZR_PROBE_LAST_CALL));
}

zr_ns_t zr_probe_deadline(const zr_probe *probe)
{
    zr_ns_t at = ZR_MIN(zr_probe_ping_at(probe), zr_alive_deadline(&probe->alive));

    at = ZR_MIN(at, ask_at(probe));
    return probe->owed > 0 ? 0 : ZR_MIN(at, zr_mtu_deadline(&probe->mtu));
}

void zr_probe_on_deadline(zr_probe *probe, zr_ns_t listened, zr_ns_t now)
{
    if (now >= probe->settle_at)
        settle(probe, now);
    if (now >= ask_at(probe)) {
        probe->ask = probe->changed = true;
        probe->asked_at = now;
    }
    if (zr_alive_on_deadline(&probe->alive, listened, now))
        news(probe, now);
    if (zr_mtu_on_deadline(&probe->mtu, now))
        probe->changed = true;
}

static void put_state(const zr_probe *probe, uint8_t *body, zr_ns_t now)
{
    uint32_t longest = zr_path_longest(&probe->path, now);

    zr_put64(body, (uint64_t)now);
    zr_put32(body + 8, probe->path.expected);
    zr_put32(body + 12, probe->path.received);
    zr_put16(body + 16, probe->alive.promise);
    zr_put16(body + 18, probe->alive.theirs);
    zr_put16(body + 20, (uint16_t)ZR_MIN(longest, (uint32_t)UINT16_MAX));
    zr_put16(body + 22, zr_mtu_size(&probe->mtu));
}

int zr_probe_next(const zr_probe *probe, zr_probe_seg *seg, uint8_t body[ZR_PROBE_BODY_MAX], zr_ns_t now)
{
    uint8_t flags = probe->alive.deaf ? DEAF : 0;
    uint16_t size = zr_mtu_due(&probe->mtu, now);

    if (probe->owed > 0) {
        const zr_probe_answer *answer = &probe->answers[probe->first];
        *seg = (zr_probe_seg){
            .cmd = answer->cmd, .flags = flags, .ts = answer->ts, .id = answer->id, .token = answer->token
        };
        if (answer->cmd == ZR_PROBE_PONG) {
            zr_put64(body, (uint64_t)now);
            zr_put64(body + 8, (uint64_t)answer->came);
            seg->len = ZR_PROBE_TIMES;
            seg->data = body;
        }
        return ZR_OK;
    }
    bool ping = now >= zr_probe_ping_at(probe);
    if (!ping && size == 0)
        return ZR_E_again;
    *seg = (zr_probe_seg){
        .cmd = ZR_PROBE_PING,
        .flags = flags | (zr_probe_silent(probe, now) ? ZR_PROBE_CALL : 0),
        .ts = (uint32_t)((uint64_t)now / 1000),
        .id = probe->next_id,
        .token = token_of(probe, probe->next_id),
    };
    if (ping) {
        put_state(probe, body, now);
        seg->len = ZR_PROBE_STATE;
        seg->data = body;
    } else {
        seg->cmd = ZR_PROBE_PAD;
        seg->len = size - ZR_PROBE_AROUND;
    }
    return ZR_OK;
}

void zr_probe_sent(zr_probe *probe, const zr_probe_seg *seg, zr_ns_t now)
{
    double loss = zr_path_loss(&probe->path.in) + zr_path_loss(&probe->path.out);
    uint32_t i = seg->id % ZR_PROBE_PINGS;

    switch (seg->cmd) {
    case ZR_PROBE_PING:
        probe->pings[i].waiting = true;
        probe->pings[i].sent = now;
        probe->pinged_at = now;
        probe->pinged++;
        probe->ping_at = now + (zr_alive_up(&probe->alive) ? ZR_PROBE_EVERY : ZR_PROBE_URGENT);
        break;
    case ZR_PROBE_PAD:
        probe->pings[i].waiting = false;
        zr_mtu_sent(&probe->mtu, seg->id, seg->token, probe->active,
                    ZR_US((zr_ns_t)probe->path.srtt_us + 4 * (zr_ns_t)probe->path.rttvar_us), ZR_MIN(loss, 0.99), now);
        break;
    default:
        probe->first = (probe->first + 1) % ZR_PROBE_ANSWERS;
        probe->owed--;
        return;
    }
    probe->next_id++;
}

bool zr_probe_take_changed(zr_probe *probe)
{
    bool changed = probe->changed;

    probe->changed = false;
    return changed;
}

void zr_probe_look(const zr_probe *probe, zr_probe_view *view, zr_ns_t now)
{
    const zr_path *path = &probe->path;
    const zr_alive *alive = &probe->alive;

    *view = (zr_probe_view){
        .up = zr_alive_up(alive),
        .deaf = alive->deaf,
        .unheard = alive->unheard,
        .ask = probe->ask,
        .mtu = zr_mtu_size(&probe->mtu),
        .promise = alive->promise,
        .theirs = alive->theirs,
        .heard = path->heard,
        .since = alive->since,
        .dead_after = alive->dead_after,
        .srtt_us = path->srtt_us,
        .rtt_min_us = path->rtt_min_us,
        .pings = probe->pinged,
        .samples = path->samples,
        .longest_in = zr_path_longest(path, now),
        .longest_out = path->told_run,
        .flaps = alive->flaps,
        .loss_in = zr_path_loss(&path->in),
        .loss_out = zr_path_loss(&path->out),
        .jitter_ns = zr_path_jitter(path),
        .queue_in_ns = zr_path_queue_in(path),
        .queue_out_ns = zr_path_queue_out(path),
        .reordered = path->reordered,
        .received = path->received,
        .expected = path->expected,
    };
    view->offset_known = zr_path_offset(path, now, &view->offset_ns, &view->drift_ppm);
    if (view->offset_known)
        zr_path_delays(path, view->offset_ns, view->drift_ppm, now, &view->delay_in_ns, &view->delay_out_ns,
                       &view->delay_error_ns);
}

bool zr_probe_check(const zr_probe *probe)
{
    return zr_path_check(&probe->path) && probe->owed <= ZR_PROBE_ANSWERS && probe->mtu.at < probe->mtu.count &&
           probe->mtu.at + probe->mtu.climbing < probe->mtu.count && probe->alive.keep >= probe->alive.promise;
}
