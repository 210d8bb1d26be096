/*
 * zr_sinks.h - the subscribers of a measurement: a socket each, every packet of which is verified.
 *
 *   epoll -> recvmmsg -> zr_mark_read -> of my stream? -> seen before? -> delay = now - due -> histogram
 *
 * got = good + duplicates + old + corrupt; RTCP is counted apart. What is missing, whoever knows what was sent says.
 * Delays are nanoseconds in the buckets of stat/zr_stat.h (<= 12.5 % wide), per subscriber.
 */
#ifndef ZR_SINKS_H
#define ZR_SINKS_H

#include "base/zr_addr.h"
#include "load/zr_mark.h"
#include "stat/zr_stat.h"

#define ZR_SINKS_MAX 65536u

typedef struct zr_sinks_conf {
    uint32_t count;
    uint32_t per_stream; /* sink i expects the ssrc of stream i / per_stream */
    uint32_t ssrc, size; /* as the generator's */
    uint32_t rcvbuf;     /* asked for, bytes */
    bool gro;
} zr_sinks_conf;

typedef struct zr_sinks_counts {
    uint64_t good, duplicates, old, corrupt, rtcp, bytes; /* old: behind the window, again or very late */
    uint64_t calls;                                       /* recvmmsg */
    uint64_t busy_ns;                                     /* not waiting */
} zr_sinks_counts;

typedef struct zr_sinks zr_sinks;

/* 0 when out of range. */
size_t zr_sinks_bytes(const zr_sinks_conf *conf);
/* In `mem`, aligned to ZR_CACHELINE: sockets bound to `at` with free ports. NULL: see errno. */
zr_sinks *zr_sinks_open(void *mem, const zr_sinks_conf *conf, const zr_addr *at);
void zr_sinks_close(zr_sinks *sinks);
uint16_t zr_sinks_port(const zr_sinks *sinks, uint32_t i);

/* Waits up to `wait`, empties what is ready; the number of packets. */
int zr_sinks_turn(zr_sinks *sinks, zr_ns_t wait);
/* Turns until zr_sinks_stop, which any thread may call; a stop ends one run. */
void zr_sinks_run(zr_sinks *sinks);
void zr_sinks_stop(zr_sinks *sinks);

/* Totals of all sinks since open; any thread, while it runs too. */
void zr_sinks_counted(const zr_sinks *sinks, zr_sinks_counts *counts);
/* The rest: not while it runs. */
uint64_t zr_sinks_good(const zr_sinks *sinks, uint32_t i);
/* What the kernel dropped at the socket because its buffer was full. */
uint64_t zr_sinks_dropped(const zr_sinks *sinks, uint32_t i);
/* Adds sink i's delays to `into`. */
void zr_sinks_delays(const zr_sinks *sinks, uint32_t i, uint64_t into[ZR_HIST_BUCKETS]);
/* Forgets delays, not what was seen: between a warm-up and a measurement. */
void zr_sinks_clear_delays(zr_sinks *sinks);

#endif
