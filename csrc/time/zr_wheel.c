/*
 * A timer's due tick and the current tick, written in base 64: the timer lies on the level of the highest digit in
 * which the two differ, in the slot of that digit. So slots of a level are all ahead of the current digit, every slot
 * of a level comes before every slot of the next one, and moving the tick without reaching an occupied slot moves no
 * timer. Only the last level is circular: what is due beyond its turn waits in its farthest slot and is placed anew.
 *
 * A timer that is moved to a later time stays where it is until its slot's turn comes: a retransmission timer moves
 * with every acknowledgement and hardly ever fires, and each move would touch its neighbours in two lists.
 */
#include "time/zr_wheel.h"

#include <string.h>

#define TICK_NS ((uint64_t)1 << ZR_WHEEL_TICK_SHIFT)
#define LAST    (ZR_WHEEL_LEVELS - 1u)
#define BITS    6u
#define EXPIRED UINT16_MAX
#define NO_TICK UINT64_MAX

typedef struct spot {
    uint32_t level, slot;
    uint64_t tick; /* when the slot begins; NO_TICK: the wheel is empty */
} spot;

static uint64_t tick_of(zr_ns_t now)
{
    return now < 0 ? 0 : (uint64_t)now >> ZR_WHEEL_TICK_SHIFT;
}

/* The first tick that begins at or after the deadline, so that nothing fires early; never one that is over. */
static uint64_t due_tick(const zr_wheel *wheel, zr_ns_t deadline)
{
    uint64_t due = deadline < 0 ? 0 : ((uint64_t)deadline + TICK_NS - 1) >> ZR_WHEEL_TICK_SHIFT;

    return ZR_MAX(due, wheel->tick);
}

static uint32_t digit(uint64_t tick, uint32_t level)
{
    return (uint32_t)(tick >> (BITS * level)) & (ZR_WHEEL_SLOTS - 1);
}

static spot spot_for(const zr_wheel *wheel, uint64_t due)
{
    uint64_t apart = (due ^ wheel->tick) | 1;
    uint32_t level = (63 - (uint32_t)__builtin_clzll(apart)) / BITS;

    if (level > LAST)
        level = LAST;
    if (level == LAST) {
        uint64_t farthest = (wheel->tick >> (BITS * LAST)) + ZR_WHEEL_SLOTS - 1;
        due = ZR_MIN(due >> (BITS * LAST), farthest) << (BITS * LAST);
    }
    return (spot){ .level = level, .slot = digit(due, level), .tick = due >> (BITS * level) << (BITS * level) };
}

/* The first tick of a slot that is not behind the current tick. */
static uint64_t begin_of(const zr_wheel *wheel, uint32_t level, uint32_t slot)
{
    uint64_t unit = wheel->tick >> (BITS * level);

    return (unit + ((slot - (uint32_t)unit) & (ZR_WHEEL_SLOTS - 1))) << (BITS * level);
}

/* The occupied slot that begins first. */
static spot next_spot(const zr_wheel *wheel)
{
    for (uint32_t level = 0; level <= LAST; level++) {
        if (wheel->used[level] == 0)
            continue;
        /* Rotated so that bit 0 is the current digit, the lowest bit is the nearest slot. */
        uint32_t here = digit(wheel->tick, level);
        uint64_t ahead = wheel->used[level] >> here | wheel->used[level] << ((ZR_WHEEL_SLOTS - here) % ZR_WHEEL_SLOTS);
        uint64_t unit = (wheel->tick >> (BITS * level)) + (uint32_t)__builtin_ctzll(ahead);
        return (spot){ .level = level, .slot = digit(unit, 0), .tick = unit << (BITS * level) };
    }
    return (spot){ .tick = NO_TICK };
}

static void link_last(zr_timer *list, zr_timer *timer)
{
    timer->prev = list->prev;
    timer->next = list;
    list->prev->next = timer;
    list->prev = timer;
}

static void unlink_timer(zr_timer *timer)
{
    timer->prev->next = timer->next;
    timer->next->prev = timer->prev;
    timer->next = timer->prev = NULL;
}

static bool list_empty(const zr_timer *list)
{
    return list->next == list;
}

static void place(zr_wheel *wheel, zr_timer *timer)
{
    spot at = spot_for(wheel, due_tick(wheel, timer->deadline));

    timer->where = (uint16_t)(at.level * ZR_WHEEL_SLOTS + at.slot);
    link_last(&wheel->slots[at.level][at.slot], timer);
    wheel->used[at.level] |= (uint64_t)1 << at.slot;
}

/* Empties a slot: what is due goes to the expired list in order of arming, the rest one level or more down. */
static void spill(zr_wheel *wheel, spot at)
{
    zr_timer *list = &wheel->slots[at.level][at.slot];
    zr_timer *last = list->prev;
    bool more = !list_empty(list);

    wheel->used[at.level] &= ~((uint64_t)1 << at.slot);
    while (more) {
        zr_timer *timer = list->next;
        more = timer != last;
        unlink_timer(timer);
        if (at.level > 0 || due_tick(wheel, timer->deadline) > wheel->tick) {
            place(wheel, timer);
        } else {
            timer->where = EXPIRED;
            link_last(&wheel->expired, timer);
        }
    }
}

void zr_wheel_init(zr_wheel *wheel, zr_ns_t now)
{
    memset(wheel, 0, sizeof *wheel);
    wheel->tick = tick_of(now);
    for (uint32_t level = 0; level <= LAST; level++)
        for (uint32_t slot = 0; slot < ZR_WHEEL_SLOTS; slot++) {
            zr_timer *list = &wheel->slots[level][slot];
            list->next = list->prev = list;
        }
    wheel->expired.next = wheel->expired.prev = &wheel->expired;
}

void zr_timer_init(zr_timer *timer, uint16_t kind, uint32_t ref)
{
    *timer = (zr_timer){ .deadline = ZR_NEVER, .kind = kind, .ref = ref };
}

/* Noinline: so that a timer that stays where it is does not pay for it. */
__attribute__((noinline)) static void move(zr_wheel *wheel, zr_timer *timer, zr_ns_t deadline)
{
    zr_timer_cancel(wheel, timer);
    if (deadline == ZR_NEVER)
        return;
    timer->deadline = deadline;
    place(wheel, timer);
    wheel->count++;
}

/* Does the slot that an armed timer lies in come no later than this? */
static bool lies_early(const zr_wheel *wheel, const zr_timer *timer, zr_ns_t deadline)
{
    uint32_t level = timer->where / ZR_WHEEL_SLOTS, slot = timer->where % ZR_WHEEL_SLOTS;

    return timer->where != EXPIRED && begin_of(wheel, level, slot) <= due_tick(wheel, deadline);
}

void zr_timer_arm(zr_wheel *wheel, zr_timer *timer, zr_ns_t deadline)
{
    if (zr_timer_armed(timer) && deadline != ZR_NEVER && lies_early(wheel, timer, deadline))
        timer->deadline = deadline;
    else
        move(wheel, timer, deadline);
}

void zr_timer_cancel(zr_wheel *wheel, zr_timer *timer)
{
    if (!zr_timer_armed(timer))
        return;

    uint32_t level = timer->where / ZR_WHEEL_SLOTS, slot = timer->where % ZR_WHEEL_SLOTS;
    unlink_timer(timer);
    if (timer->where != EXPIRED && list_empty(&wheel->slots[level][slot]))
        wheel->used[level] &= ~((uint64_t)1 << slot);
    timer->deadline = ZR_NEVER;
    wheel->count--;
}

bool zr_timer_armed(const zr_timer *timer)
{
    return timer->next != NULL;
}

void zr_wheel_advance(zr_wheel *wheel, zr_ns_t now)
{
    uint64_t until = tick_of(now);

    if (until < wheel->tick)
        return;
    for (spot at = next_spot(wheel); at.tick <= until; at = next_spot(wheel)) {
        wheel->tick = at.tick;
        spill(wheel, at);
    }
    wheel->tick = until;
}

zr_timer *zr_wheel_expired(zr_wheel *wheel)
{
    if (list_empty(&wheel->expired))
        return NULL;

    zr_timer *timer = wheel->expired.next;
    unlink_timer(timer);
    wheel->count--;
    return timer;
}

const zr_timer *zr_wheel_next(const zr_wheel *wheel)
{
    return list_empty(&wheel->expired) ? NULL : wheel->expired.next;
}

zr_ns_t zr_wheel_deadline(const zr_wheel *wheel)
{
    uint64_t tick = list_empty(&wheel->expired) ? next_spot(wheel).tick : wheel->tick;

    if (tick > (uint64_t)ZR_NEVER >> ZR_WHEEL_TICK_SHIFT)
        return ZR_NEVER;
    return (zr_ns_t)(tick << ZR_WHEEL_TICK_SHIFT);
}

/* Counts a list while its links and its timers' places are right, else returns false. */
static bool list_sound(const zr_timer *list, uint16_t where, uint32_t *count, uint32_t max)
{
    for (const zr_timer *t = list->next; t != list; t = t->next) {
        if (t == NULL || t->next == NULL || t->next->prev != t || t->where != where || ++*count > max)
            return false;
    }
    return true;
}

bool zr_wheel_check(const zr_wheel *wheel)
{
    uint32_t count = 0;

    for (uint32_t level = 0; level <= LAST; level++)
        for (uint32_t slot = 0; slot < ZR_WHEEL_SLOTS; slot++) {
            const zr_timer *list = &wheel->slots[level][slot];
            uint16_t where = (uint16_t)(level * ZR_WHEEL_SLOTS + slot);

            if (!list_sound(list, where, &count, wheel->count))
                return false;
            if (list_empty(list) != ((wheel->used[level] >> slot & 1) == 0))
                return false;
            /* Each timer lies where it would be put now, or in a slot that comes before. */
            for (const zr_timer *t = list->next; t != list; t = t->next)
                if (begin_of(wheel, level, slot) > due_tick(wheel, t->deadline))
                    return false;
        }
    return list_sound(&wheel->expired, EXPIRED, &count, wheel->count) && count == wheel->count;
}
