/* probe_rig.h - two probes back to back over two link models on one virtual clock, each with a clock of its own. */
#ifndef PROBE_RIG_H
#define PROBE_RIG_H

#include "base/zr_err.h"
#include "forward/zr_lane_priv.h"
#include "sim/zr_simlink.h"
#include "zr_test.h"

enum { RIG_HEAD = 16, RIG_AROUND = 80 - 32 }; /* envelope in front; IP size minus datagram */

typedef struct rig_end {
    zr_probe probe;
    uint64_t counter;
    zr_ns_t last_tx, ahead; /* its clock minus the true one, at 0 */
    double ppm;             /* by how much its clock runs fast */
    uint64_t sent, sent_bytes, refused, too_long;
    uint32_t run;
    bool stopped, silent;      /* neither sends nor hears; what it sends is lost */
    uint32_t largest;          /* IP size that its way out takes */
    bool told;                 /* of what it does not: its own interface is what refuses it */
    zr_ns_t went_down, was_up; /* true times of the last change */
    uint32_t downs;
} rig_end;

typedef struct rig {
    rig_end end[2];
    zr_simlink *link[2]; /* out of end 0, out of end 1 */
    zr_ns_t now;
} rig;

static inline zr_ns_t rig_local(const rig_end *e, zr_ns_t true_time)
{
    return true_time + e->ahead + (zr_ns_t)((double)true_time * e->ppm / 1e6);
}

static inline zr_ns_t rig_true(const rig_end *e, zr_ns_t local)
{
    return local == ZR_NEVER ? ZR_NEVER : (zr_ns_t)((double)(local - e->ahead) / (1 + e->ppm / 1e6));
}

static inline zr_simlink_conf rig_link(zr_ns_t delay, zr_ns_t jitter, double loss, double burst, uint64_t seed)
{
    return (zr_simlink_conf){
        .delay = delay, .jitter = jitter, .loss = loss, .burst = burst, .packets_max = 256, .seed = seed
    };
}

static inline void rig_open(rig *r, const zr_simlink_conf *out, const zr_simlink_conf *back, zr_ns_t ahead, double ppm)
{
    *r = (rig){ .now = ZR_SEC(1) };
    for (int i = 0; i < 2; i++) {
        const zr_simlink_conf *conf = i == 0 ? out : back;
        zr_probe_conf probe = { .rate_idle = 25, .rate_active = 100, .ip_max = 1500, .seed = conf->seed + (unsigned)i };
        rig_end *e = &r->end[i];
        e->ahead = i == 1 ? ahead : 0;
        e->ppm = i == 1 ? ppm : 0;
        e->largest = 1500;
        zr_probe_init(&e->probe, &probe, rig_local(e, r->now));
        r->link[i] = zr_test_memory(zr_simlink_bytes(conf));
        CHECK_EQ(zr_simlink_init(r->link[i], conf), ZR_OK);
    }
}

static inline void rig_close(rig *r)
{
    for (int i = 0; i < 2; i++) {
        CHECK(zr_probe_check(&r->end[i].probe));
        CHECK(zr_simlink_check(r->link[i]));
        free(r->link[i]);
    }
}

static inline void rig_note(rig *r, rig_end *e, bool was)
{
    bool up = zr_alive_up(&e->probe.alive);

    if (was && !up) {
        e->went_down = r->now;
        e->downs++;
    } else if (!was && up) {
        e->was_up = r->now;
    }
}

/* What zr_lane_input does with a datagram of the peer's. */
static inline void rig_hear(rig *r, rig_end *e, const uint8_t *data, size_t len)
{
    bool was = zr_alive_up(&e->probe.alive);
    zr_ns_t now = rig_local(e, r->now);
    size_t pos = RIG_HEAD;
    zr_seg seg;

    if (e->stopped)
        return;
    while (zr_seg_next(&seg, data, len - RIG_HEAD, &pos) == ZR_OK) {
        zr_probe_seg said = zr_lane_probe_seg(&seg);
        if (!zr_probe_judge(&e->probe, &said, now)) {
            e->refused++;
            return;
        }
    }
    zr_probe_on_counter(&e->probe, zr_get32(data + 8), zr_get64(data), now);
    for (pos = RIG_HEAD; zr_seg_next(&seg, data, len - RIG_HEAD, &pos) == ZR_OK;) {
        zr_probe_seg said = zr_lane_probe_seg(&seg);
        zr_probe_input(&e->probe, &said, now);
    }
    rig_note(r, e, was);
}

static inline void rig_put(rig *r, int i, const uint8_t *data, size_t len)
{
    rig_end *e = &r->end[i];

    e->sent++;
    e->sent_bytes += len;
    e->last_tx = rig_local(e, r->now);
    e->counter++;
    if (!e->silent && len + RIG_AROUND <= e->largest)
        CHECK_EQ(zr_simlink_put(r->link[i], data, len, 0, r->now), ZR_OK);
    if (e->told && len + RIG_AROUND > e->largest) {
        zr_probe_on_refused(&e->probe, (uint32_t)len + RIG_AROUND, e->last_tx);
        e->too_long++;
    }
}

/* What zr_lane_output does: probe segments, small ones together, or a heartbeat when nothing went out for its time. */
static inline void rig_speak(rig *r, int i)
{
    rig_end *e = &r->end[i];
    bool was = zr_alive_up(&e->probe.alive);
    zr_ns_t now = rig_local(e, r->now);
    uint8_t data[2048], body[ZR_PROBE_BODY_MAX];
    size_t len = RIG_HEAD;
    zr_probe_seg seg;

    if (e->stopped)
        return;
    zr_probe_on_deadline(&e->probe, now, now);
    rig_note(r, e, was);
    memset(data, 0, sizeof data);
    while (zr_probe_next(&e->probe, &seg, body, now) == ZR_OK) {
        size_t need = ZR_SEG_HEAD + seg.len;
        if (len + need > 1200 && len > RIG_HEAD) {
            rig_put(r, i, data, len + 16);
            len = RIG_HEAD;
        }
        zr_put64(data, e->counter);
        zr_put32(data + 8, e->run);
        zr_seg head = {
            .cmd = seg.cmd, .frg = seg.flags, .ts = seg.ts, .sn = seg.id, .una = seg.token, .len = seg.len
        };
        zr_seg_put(data + len, &head);
        if (seg.data != NULL)
            memcpy(data + len + ZR_SEG_HEAD, seg.data, seg.len);
        len += need;
        zr_probe_sent(&e->probe, &seg, now);
    }
    zr_put64(data, e->counter);
    zr_put32(data + 8, e->run);
    if (len > RIG_HEAD || now - e->last_tx >= zr_probe_beat(&e->probe))
        rig_put(r, i, data, len + 16);
}

static inline zr_ns_t rig_deadline(const rig_end *e)
{
    if (e->stopped)
        return ZR_NEVER;
    return ZR_MIN(rig_true(e, zr_probe_deadline(&e->probe)), rig_true(e, e->last_tx + zr_probe_beat(&e->probe)));
}

static inline void rig_run(rig *r, zr_ns_t until)
{
    while (r->now < until) {
        zr_ns_t at = until;
        for (int i = 0; i < 2; i++) {
            at = ZR_MIN(at, zr_simlink_deadline(r->link[i]));
            at = ZR_MIN(at, rig_deadline(&r->end[i]));
        }
        r->now = ZR_MIN(until, ZR_MAX(at, r->now + 1000));
        for (int i = 0; i < 2; i++) {
            const uint8_t *data;
            uint64_t tag;
            int len;
            while ((len = zr_simlink_get(r->link[i], &data, &tag, r->now)) >= 0)
                rig_hear(r, &r->end[1 - i], data, (size_t)len);
        }
        rig_speak(r, 0);
        rig_speak(r, 1);
    }
}

/* The clock of end 1 minus that of end 0, truly, in nanoseconds. */
static inline zr_ns_t rig_offset(const rig *r)
{
    return rig_local(&r->end[1], r->now) - rig_local(&r->end[0], r->now);
}

/* 10 ms each way and 1 ms of jitter, the loss the same in both directions. */
static inline rig rig_plain(double loss, double burst, uint64_t seed)
{
    rig r;
    zr_simlink_conf out = rig_link(ZR_MS(10), ZR_MS(1), loss, burst, seed);
    zr_simlink_conf back = rig_link(ZR_MS(10), ZR_MS(1), loss, burst, seed + 1000003);

    rig_open(&r, &out, &back, ZR_SEC(5000), 0);
    return r;
}

#endif
