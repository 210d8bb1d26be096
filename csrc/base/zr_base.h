/*
 * zr_base.h - the few words every floor shares: time, bounds, checks.
 *
 * Time is int64_t nanoseconds of the monotonic clock and always an argument: only time/zr_clock.c reads a clock.
 */
#ifndef ZR_BASE_H
#define ZR_BASE_H

#include <stdalign.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef int64_t zr_ns_t;

#define ZR_NEVER  INT64_MAX
#define ZR_US(n)  ((zr_ns_t)(n)*1000)
#define ZR_MS(n)  ((zr_ns_t)(n)*1000000)
#define ZR_SEC(n) ((zr_ns_t)(n)*1000000000)

#define ZR_CACHELINE  64
#define ZR_LANES      64 /* lanes of a relay: workers 0..61, 62 kept, agent 63 */
#define ZR_LANE_AGENT 63u
#define ZR_LANE_ANY   255u /* not known yet: learned from the first valid datagram */
#define ZR_TRACKS_MAX 16u  /* tracks of one stream */

#define ZR_MIN(a, b)  ((a) < (b) ? (a) : (b))
#define ZR_MAX(a, b)  ((a) > (b) ? (a) : (b))
#define ZR_LEN(array) (sizeof(array) / sizeof((array)[0]))
#define ZR_NODISCARD  __attribute__((warn_unused_result))
/* The object that holds `member` at `ptr`. */
#define ZR_CONTAINER(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

/* Prints "file:line: condition" to stderr and aborts: a broken invariant must not travel on (crash-only). */
_Noreturn void zr_check_failed(const char *file, int line, const char *condition);

/* Cheap checks are always on; costly ones only with ZR_DEBUG=1. */
#define ZR_CHECK(condition) ((condition) ? (void)0 : zr_check_failed(__FILE__, __LINE__, #condition))
#ifdef ZR_DEBUG
#define ZR_DEBUG_CHECK(condition) ZR_CHECK(condition)
#else
#define ZR_DEBUG_CHECK(condition) ((void)sizeof(condition))
#endif

/* Rounds `n` up to a multiple of `to`, a power of two. */
static inline size_t zr_round_up(size_t n, size_t to)
{
    return (n + to - 1) & ~(to - 1);
}

/* The smallest power of two that is at least `n` and at least 2; n <= 2^31. */
static inline uint32_t zr_pow2_up(uint32_t n)
{
    return n <= 2 ? 2 : 1u << (32 - __builtin_clz(n - 1));
}

/* Where each of `count` parts begins behind `head` bytes, every one on a cache line of its own; returns the end. */
static inline size_t zr_lay_out(size_t head, const size_t *bytes, int count, size_t *at)
{
    size_t end = zr_round_up(head, ZR_CACHELINE);

    for (int i = 0; i < count; i++) {
        at[i] = end;
        end += zr_round_up(bytes[i], ZR_CACHELINE);
    }
    return end;
}

/* Writes to every page of it, and changes nothing: from then on the memory is there. */
static inline void zr_touch(void *at, size_t bytes)
{
    volatile uint8_t *byte = at;

    for (size_t i = 0; i < bytes; i += 4096)
        byte[i] = byte[i];
}

/* A piece of such a layout, for who wants to know what memory is for. */
typedef struct zr_part {
    const char *name;
    size_t bytes;
} zr_part;

/* The parts of a layout that ends at `end`, by their names; returns `count`. */
static inline int zr_parts_of(zr_part *parts, const char *const *names, const size_t *at, size_t end, int count)
{
    for (int i = 0; i < count; i++)
        parts[i] = (zr_part){ names[i], (i + 1 < count ? at[i + 1] : end) - at[i] };
    return count;
}

#endif
