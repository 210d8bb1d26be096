#include "forward/zr_shed.h"

#include "coll/zr_seq.h"

const uint16_t zr_shed_enter_default[ZR_SHED_LEVELS] = { 0, 750, 850, 930, 980 };

/* Where a level begins and where it ends; shares in permille. What a level has no number for never asks for it. */
#define NEVER      UINT32_MAX
#define NEVER_LAG  INT64_MAX
#define BUSY_BELOW 150u /* it ends this much below where it begins, */
#define BUSY_TOP   130u /* and level 4 this much */

static const struct limits {
    uint32_t ring_enter, ring_leave, pool_enter, pool_leave;
    zr_ns_t lag_enter, lag_leave;
} limits[ZR_SHED_LEVELS] = {
    [1] = { 500, 350, NEVER, NEVER, NEVER_LAG, NEVER_LAG },
    [2] = { 650, 500, NEVER, NEVER, ZR_MS(20), ZR_MS(10) },
    [3] = { 800, 650, NEVER, NEVER, ZR_MS(50), ZR_MS(25) },
    [4] = { NEVER, NEVER, 950, 850, ZR_MS(200), ZR_MS(100) },
};

static bool enters(uint8_t level, const zr_load *load, const uint16_t enter[])
{
    const struct limits *at = &limits[level];

    return load->busy >= enter[level] || load->ring >= at->ring_enter || load->pool >= at->pool_enter ||
           load->lag >= at->lag_enter;
}

static bool stays(uint8_t level, const zr_load *load, const uint16_t enter[])
{
    const struct limits *at = &limits[level];
    uint32_t below = level == ZR_SHED_LEVELS - 1 ? BUSY_TOP : BUSY_BELOW;

    return load->busy + below > enter[level] || load->ring > at->ring_leave || load->pool > at->pool_leave ||
           load->lag > at->lag_leave;
}

uint8_t zr_shed_level(uint8_t level, const zr_load *load, const uint16_t enter[ZR_SHED_LEVELS])
{
    for (uint8_t to = ZR_SHED_LEVELS - 1; to > level; to--)
        if (enters(to, load, enter))
            return to;
    while (level > 0 && !stays(level, load, enter))
        level--;
    return level;
}

uint8_t zr_shed_gate(uint8_t level)
{
    static const uint8_t gates[ZR_SHED_LEVELS] = { ZR_SHED_NONE, ZR_SHED_NONE, ZR_SHED_FEC, ZR_SHED_EXTRA,
                                                   ZR_SHED_BASE };
    return gates[level];
}

void zr_shed_init(zr_shed *shed, const uint16_t enter[ZR_SHED_LEVELS], zr_ns_t now)
{
    *shed = (zr_shed){ .gate = zr_shed_gate(0), .rose = now - ZR_SHED_AFTER_UP, .fell = now - ZR_SHED_AFTER_OFF };
    for (int i = 0; i < ZR_SHED_LEVELS; i++)
        shed->enter[i] = enter[i];
}

bool zr_shed_look(zr_shed *shed, const zr_load *load, zr_ns_t now)
{
    uint8_t to = zr_shed_level(shed->level, load, shed->enter);

    if (to == shed->level)
        return false;
    if (to > shed->level) {
        shed->level = to;
        shed->rose = now;
    } else {
        if (now - shed->rose < ZR_SHED_AFTER_UP || now - shed->fell < ZR_SHED_AFTER_OFF)
            return false;
        shed->level--;
        shed->fell = now;
    }
    shed->gate = zr_shed_gate(shed->level);
    return true;
}

static void leave_out(zr_shed_track *track, uint32_t timestamp)
{
    if (zr_seq_before(timestamp, track->oldest))
        track->oldest = timestamp;
    if (zr_seq_before(track->newest, timestamp)) {
        track->newest = timestamp;
        track->cut = 0; /* what is left of that frame is among the dependants */
    }
}

enum zr_shed_verdict zr_shed_judge(zr_shed_track *track, const zr_shed_frame *frame)
{
    if (track->broken > 0 && frame->heals && zr_seq_before(track->newest, frame->timestamp)) {
        track->healing = track->broken;
        track->cut = track->broken = 0;
        track->key = frame->timestamp;
        return ZR_SHED_PASS;
    }
    if (track->cut > 0 && frame->timestamp == track->newest && frame->cls >= track->cut)
        return ZR_SHED_CUT;
    if (track->broken > 0 && frame->cls >= track->broken) {
        if (frame->cls == ZR_SHED_KEY && zr_seq_before(frame->timestamp, track->oldest))
            return ZR_SHED_PASS; /* overtaken: of a key frame from before */
        leave_out(track, frame->timestamp);
        return ZR_SHED_DEPENDANT;
    }
    if (track->healing > 0 && frame->timestamp != track->key) {
        if (frame->heals)
            track->healing = 0;
        else if (frame->cls >= track->healing && frame->timestamp - track->oldest < track->key - track->oldest)
            return ZR_SHED_DEPENDANT;
    }
    return ZR_SHED_PASS;
}

void zr_shed_cut(zr_shed_track *track, const zr_shed_frame *frame)
{
    bool breaks = frame->keyed && !frame->discardable && frame->cls < ZR_SHED_FEC;

    if (frame->cls < ZR_SHED_KEY || frame->cls == ZR_SHED_FEC)
        return; /* each packet stands alone */
    if (track->broken > 0) {
        leave_out(track, frame->timestamp);
    } else {
        if (track->healing == 0 || breaks)
            track->oldest = frame->timestamp;
        track->newest = frame->timestamp;
    }
    track->cut = frame->timestamp == track->newest ? frame->cls : track->cut;
    if (breaks) {
        /* A key frame that is cut leaves nothing to follow it but the next one. */
        track->broken = track->broken == 0 ? frame->cls : ZR_MIN(track->broken, frame->cls);
        track->healing = 0;
    }
}
