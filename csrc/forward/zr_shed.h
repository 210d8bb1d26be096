/*
 * zr_shed.h - what is left out when there is too much: levels, drop order, and what a track has lost by it.
 *
 *   numbers of the last 100 ms -> zr_shed_level -> level 0..4 -> zr_shed_gate: the lowest class left out on arrival
 *   queue over a bound          -> classes 6, 5, 4, 3, audio, control; in a class the oldest first
 *
 * Class 6 FEC, padding · 5 enhancement, discardable · 4 base delta · 3 key frame · 1 audio · 0 control. Whole frames:
 * the rest of a frame that was cut goes too, and what depends on it until the track's next key frame. So each scope (a
 * stream, its players, a child) remembers for each of its tracks what is cut: zr_shed_track. A frame is what has one
 * RTP timestamp; of spatial layers with one timestamp the lower ones may stay.
 */
#ifndef ZR_SHED_H
#define ZR_SHED_H

#include "base/zr_base.h"
#include "wire/zr_media.h"

#define ZR_SHED_LEVELS    5
#define ZR_SHED_EVERY     ZR_MS(100) /* how often the level is looked at */
#define ZR_SHED_AFTER_UP  ZR_SEC(1)  /* it falls this long after it rose, */
#define ZR_SHED_AFTER_OFF ZR_MS(500) /* and this long after it fell: one level each time */

enum zr_shed_class {
    ZR_SHED_CONTROL,
    ZR_SHED_AUDIO,
    ZR_SHED_AGAIN,
    ZR_SHED_KEY,
    ZR_SHED_BASE,
    ZR_SHED_EXTRA,
    ZR_SHED_FEC,
    ZR_SHED_NONE
};

/* Of the last 100 ms; shares in permille. */
typedef struct zr_load {
    uint32_t busy; /* time spent working / time */
    uint32_t ring; /* the fullest ring */
    uint32_t pool; /* the packet pool */
    zr_ns_t lag;   /* what a ready packet may have waited for its turn */
} zr_load;

typedef struct zr_shed {
    uint16_t enter[ZR_SHED_LEVELS]; /* busy, permille; [0] unused */
    uint8_t level, gate;
    zr_ns_t rose, fell;
} zr_shed;

/* 0.75, 0.85, 0.93, 0.98 of busy. */
extern const uint16_t zr_shed_enter_default[ZR_SHED_LEVELS];

/* The worst level that any signal asks for, above `level`, or the highest up to it that one still holds. */
uint8_t zr_shed_level(uint8_t level, const zr_load *load, const uint16_t enter[ZR_SHED_LEVELS]);
void zr_shed_init(zr_shed *shed, const uint16_t enter[ZR_SHED_LEVELS], zr_ns_t now);
/* Up at once, down one by one. True when the level changed. */
bool zr_shed_look(zr_shed *shed, const zr_load *load, zr_ns_t now);
/* The lowest class that a level leaves out; ZR_SHED_NONE: nothing. */
uint8_t zr_shed_gate(uint8_t level);

/* What is cut of one track. All zero: nothing. */
typedef struct zr_shed_track {
    uint8_t cut;     /* lowest class of the frame at `newest` that is cut; 0: none */
    uint8_t broken;  /* from this class on everything waits for a key frame; 0: nothing does */
    uint8_t healing; /* as `broken` was until the key frame at `key`: what lies in [oldest, key) came from before it */
    uint32_t oldest, newest, key;
} zr_shed_track;

typedef struct zr_shed_frame { /* of a packet: all that the order is made by */
    uint8_t cls;               /* zr_shed_class_of */
    bool discardable, heals;   /* nothing depends on it; a decoder can start here */
    bool keyed;                /* its codec's key frames are known here: what depends on a frame has an end */
    uint32_t timestamp;
} zr_shed_frame;

enum zr_shed_verdict { ZR_SHED_PASS, ZR_SHED_CUT, ZR_SHED_DEPENDANT };

static inline uint8_t zr_shed_class_of(const zr_media *media)
{
    if ((media->flags & (ZR_MEDIA_RTCP | ZR_MEDIA_AUDIO)) != 0)
        return (media->flags & ZR_MEDIA_RTCP) != 0 ? ZR_SHED_CONTROL : ZR_SHED_AUDIO;
    return media->cls == ZR_SHED_BASE && (media->flags & ZR_MEDIA_DISCARDABLE) != 0 ? ZR_SHED_EXTRA : media->cls;
}

static inline bool zr_shed_clean(const zr_shed_track *track)
{
    return (track->cut | track->broken | track->healing) == 0;
}

/* Does this packet go because of what went before? A key frame ends what was broken. */
enum zr_shed_verdict zr_shed_judge(zr_shed_track *track, const zr_shed_frame *frame);
/* The packet is left out: so is the rest of its frame, and what depends on it. */
void zr_shed_cut(zr_shed_track *track, const zr_shed_frame *frame);

#endif
