/*
 * zr_wheel.h - a hierarchical timing wheel (Varghese & Lauck, 1987), tickless: 4 levels of 64 slots, tick 2^19 ns.
 *
 *   level 0: 0.52 ms a slot, 34 ms a turn | 1: 34 ms, 2.1 s | 2: 2.1 s, 137 s | 3: 137 s, 2.4 h (longer ones wait
 * there)
 *
 * A timer never fires early and at most one tick late. Arm, cancel: O(1). A bitmap per level finds the next slot.
 * Timers are embedded in their owners; `kind` tells whose it is.
 *
 *     zr_wheel_advance(w, now);
 *     while ((t = zr_wheel_expired(w)) != NULL) switch (t->kind) { ... }      the caller loops until NULL
 */
#ifndef ZR_WHEEL_H
#define ZR_WHEEL_H

#include "base/zr_base.h"

#define ZR_WHEEL_LEVELS     4
#define ZR_WHEEL_SLOTS      64
#define ZR_WHEEL_TICK_SHIFT 19

typedef struct zr_timer {
    struct zr_timer *next, *prev; /* NULL while not armed */
    zr_ns_t deadline;
    uint16_t kind;  /* the owner's word */
    uint16_t where; /* level and slot, or the expired list */
    uint32_t ref;   /* the owner's word, e.g. its slot */
} zr_timer;

typedef struct zr_wheel {
    uint64_t tick;                                   /* the last tick that was advanced over */
    uint64_t used[ZR_WHEEL_LEVELS];                  /* bit per occupied slot */
    zr_timer slots[ZR_WHEEL_LEVELS][ZR_WHEEL_SLOTS]; /* list heads */
    zr_timer expired;
    uint32_t count;
} zr_wheel;

void zr_wheel_init(zr_wheel *wheel, zr_ns_t now);
/* Before the first arm. */
void zr_timer_init(zr_timer *timer, uint16_t kind, uint32_t ref);
/* Moves the timer if it is armed; to a later time that costs nothing. ZR_NEVER cancels. A deadline in the past expires
 * at the next advance. */
void zr_timer_arm(zr_wheel *wheel, zr_timer *timer, zr_ns_t deadline);
/* Fine on an idle timer, and on one that lies in the expired list. */
void zr_timer_cancel(zr_wheel *wheel, zr_timer *timer);
bool zr_timer_armed(const zr_timer *timer);
/* Moves what is due at `now` to the expired list. `now` going backwards does nothing. */
void zr_wheel_advance(zr_wheel *wheel, zr_ns_t now);
/* Takes one expired timer off the list, NULL when there is none. It may be armed again at once. */
zr_timer *zr_wheel_expired(zr_wheel *wheel);
/* The one it will give next; NULL when there is none. */
const zr_timer *zr_wheel_next(const zr_wheel *wheel);
/* When to call advance next: never later than one tick after the earliest deadline, early for nothing only for a
 * cascade or a timer that has been moved to later; ZR_NEVER when empty. */
zr_ns_t zr_wheel_deadline(const zr_wheel *wheel);
bool zr_wheel_check(const zr_wheel *wheel);

#endif
