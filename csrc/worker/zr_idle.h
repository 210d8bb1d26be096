/*
 * zr_idle.h - what a worker does between turns, and which descriptors had something when it came back.
 *
 *   block   sleep in epoll until a descriptor, a command or the next deadline: right where cores are shared
 *   spin    look again and again for `spin` ns after the last work, then block: right on an isolated core
 *
 * Never blocks longer than 100 ms, so that the heartbeat in the counter page moves while nothing happens.
 */
#ifndef ZR_IDLE_H
#define ZR_IDLE_H

#include <sys/epoll.h>

#include "forward/zr_mirror.h"
#include "ring/zr_chan.h"
#include "stat/zr_stat.h"

#define ZR_IDLE_READY_MAX 64
#define ZR_IDLE_BLOCK_MAX ZR_MS(100)

typedef struct zr_idle {
    int epoll;
    bool no_pwait2; /* kernel before 5.11 */
    zr_ns_t spin;   /* 0: block at once */
    zr_ns_t worked; /* when the last turn did something */

    zr_mirrors *mirrors; /* whose rings are looked at before we sleep; NULL: a worker alone */

    int ready_count;
    struct epoll_event ready[ZR_IDLE_READY_MAX]; /* .data.u32 is the tag */
} zr_idle;

/* ZR_E_os. */
int zr_idle_open(zr_idle *idle, zr_ns_t spin, zr_ns_t now);
void zr_idle_close(zr_idle *idle);
/* Level-triggered, readable. ZR_E_os. */
int zr_idle_watch(zr_idle *idle, int fd, uint32_t tag);
/* Also, or no longer, when it takes data. A descriptor that is watched. */
void zr_idle_watch_out(zr_idle *idle, int fd, uint32_t tag, bool out);
/* Before the descriptor is closed: another process may still hold it open. */
void zr_idle_unwatch(zr_idle *idle, int fd);

/* Waits by the strategy and fills `ready`. `deadline`: when there is something to do anyway; `work`: what the turn
 * before did. Sleeping is announced in the channel, so that the agent knows when to write the eventfd. */
void zr_idle_rest(zr_idle *idle, zr_chan *chan, zr_stat_page *page, zr_ns_t now, zr_ns_t deadline, int work);

#endif
