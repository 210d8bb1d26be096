#include <errno.h>
#include <sys/eventfd.h>

#include "base/zr_err.h"
#include "time/zr_clock.h"
#include "worker/zr_worker_priv.h"

void zr_worker_rest(zr_worker *w, zr_ns_t now, int work)
{
    zr_idle_rest(&w->idle, w->chan, w->page, now, zr_worker_deadline(w), work);
}

/* What is ready may wait for a whole turn: the longest stands for the lag. A single long turn is no overload, nor is a
 * single busy tenth of a second: the process may have been kept from its CPU. So it takes two looks in a row; and half
 * a second of lag where the work itself is little: that is what the start of other processes looks like from here. */
static void tell_load(zr_worker *w, zr_ns_t now)
{
    uint32_t share = (uint32_t)(w->load.busy * 1000 / (now - w->load.since));
    zr_load load = { .busy = ZR_MIN(share, w->load.share_before) };

    w->load.lags[w->load.looks++ % ZR_WORKER_LAGS] = w->load.longest;
    load.lag = w->load.lags[0];
    for (uint32_t i = 1; i < ZR_WORKER_LAGS; i++)
        load.lag = ZR_MIN(load.lag, w->load.lags[i]);
    zr_fwd_load(w->fwd, &load, now);
    w->load.share_before = share;
    w->load.since = now;
    w->load.busy = w->load.longest = 0;
}

/* How long the turn took that began at `began`; answers the time now. */
static zr_ns_t time_turn(zr_worker *w, zr_ns_t began, int work)
{
    zr_ns_t now = zr_clock_now();
    uint64_t took = (uint64_t)(now - began);

    if (work > 0) {
        zr_stat_add(w->page, ZR_STAT_busy_ns, took);
        zr_stat_max(w->page, ZR_STAT_turn_ns_max, took);
        zr_hist_add(w->page, ZR_HIST_turn_ns, took);
        w->load.busy += (zr_ns_t)took;
        w->load.longest = ZR_MAX(w->load.longest, (zr_ns_t)took);
    }
    if (now - w->load.since >= ZR_SHED_EVERY)
        tell_load(w, now);
    return now;
}

int zr_worker_run(zr_worker *w)
{
    for (zr_ns_t now = zr_clock_now();; now = zr_clock_now()) {
        int work = zr_worker_turn(w, now);
        if (zr_worker_stopping(w))
            return ZR_OK;
        now = time_turn(w, now, work);
        zr_worker_rest(w, now, work);
    }
}

void zr_worker_ask_stop(zr_worker *w)
{
    int saved = errno; /* a signal handler may be our caller */

    atomic_store_explicit(&w->stop, true, memory_order_relaxed);
    if (w->conf.fds.wake >= 0)
        (void)eventfd_write(w->conf.fds.wake, 1);
    errno = saved;
}

bool zr_worker_stopping(const zr_worker *w)
{
    return atomic_load_explicit(&w->stop, memory_order_relaxed) || zr_fwd_stopping(w->fwd);
}

zr_fwd *zr_worker_fwd(zr_worker *w)
{
    return w->fwd;
}
