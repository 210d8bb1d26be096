#include "worker/zr_idle.h"

#include <errno.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/zr_err.h"

int zr_idle_open(zr_idle *idle, zr_ns_t spin, zr_ns_t now)
{
    *idle = (zr_idle){ .spin = spin, .worked = now };
    idle->epoll = epoll_create1(EPOLL_CLOEXEC);
    return idle->epoll < 0 ? ZR_E_os : ZR_OK;
}

void zr_idle_close(zr_idle *idle)
{
    if (idle->epoll >= 0)
        close(idle->epoll);
    idle->epoll = -1;
}

int zr_idle_watch(zr_idle *idle, int fd, uint32_t tag)
{
    struct epoll_event event = { .events = EPOLLIN, .data.u32 = tag };
    return epoll_ctl(idle->epoll, EPOLL_CTL_ADD, fd, &event) == 0 ? ZR_OK : ZR_E_os;
}

void zr_idle_watch_out(zr_idle *idle, int fd, uint32_t tag, bool out)
{
    struct epoll_event event = { .events = EPOLLIN | (out ? EPOLLOUT : 0u), .data.u32 = tag };
    int rc = epoll_ctl(idle->epoll, EPOLL_CTL_MOD, fd, &event);
    ZR_CHECK(rc == 0);
}

void zr_idle_unwatch(zr_idle *idle, int fd)
{
    (void)epoll_ctl(idle->epoll, EPOLL_CTL_DEL, fd, NULL);
}

/* Waits up to `ns`; 0 only looks. A kernel without epoll_pwait2 rounds up to whole milliseconds. */
static void wait_for(zr_idle *idle, zr_stat_page *page, zr_ns_t ns)
{
    long count = -1;

    zr_stat_add(page, ZR_STAT_sys_epoll, 1);
#ifdef SYS_epoll_pwait2
    if (!idle->no_pwait2) {
        struct timespec timeout = { .tv_sec = ns / ZR_SEC(1), .tv_nsec = ns % ZR_SEC(1) };
        count = syscall(SYS_epoll_pwait2, idle->epoll, idle->ready, ZR_IDLE_READY_MAX, &timeout, NULL, (size_t)0);
        idle->no_pwait2 = count < 0 && errno == ENOSYS;
    }
#else
    idle->no_pwait2 = true;
#endif
    if (idle->no_pwait2)
        count = epoll_wait(idle->epoll, idle->ready, ZR_IDLE_READY_MAX, (int)((ns + ZR_MS(1) - 1) / ZR_MS(1)));
    ZR_CHECK(count >= 0 || errno == EINTR);
    idle->ready_count = count < 0 ? 0 : (int)count;
}

void zr_idle_rest(zr_idle *idle, zr_chan *chan, zr_stat_page *page, zr_ns_t now, zr_ns_t deadline, int work)
{
    if (work > 0)
        idle->worked = now;
    if (deadline <= now || now - idle->worked < idle->spin) {
        wait_for(idle, page, 0);
        return;
    }
    zr_chan_sleep(chan->worker_asleep);
    if (idle->mirrors != NULL)
        zr_chan_sleep(&idle->mirrors->inbox.page->asleep);
    bool waiting =
        zr_spsc_peek(zr_chan_commands(chan)) != NULL || (idle->mirrors != NULL && zr_mirrors_waiting(idle->mirrors));
    wait_for(idle, page, waiting ? 0 : ZR_MIN(deadline - now, ZR_IDLE_BLOCK_MAX));
    zr_chan_awake(chan->worker_asleep);
    if (idle->mirrors != NULL)
        zr_chan_awake(&idle->mirrors->inbox.page->asleep);
}
