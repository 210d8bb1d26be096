#include "load/zr_sinks.h"

#include <errno.h>
#include <linux/sock_diag.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/zr_err.h"
#include "coll/zr_win.h"
#include "load/zr_many.h"
#include "net/zr_udp.h"
#include "time/zr_clock.h"

#define READY_MAX 64
#define WAIT      ZR_MS(20) /* a stop is seen after this */

typedef struct sink {
    int fd;
    uint16_t port;
    uint32_t ssrc;
    uint64_t good;
    zr_win seen;
    uint32_t delays[ZR_HIST_BUCKETS];
} sink;

enum word { GOOD, DUPLICATES, OLD, CORRUPT, RTCP, BYTES, CALLS, BUSY, WORDS };

struct zr_sinks {
    zr_sinks_conf conf;
    int epoll;
    atomic_bool stop;
    _Atomic uint64_t words[WORDS]; /* written by the running thread only, once a call */
    struct epoll_event ready[READY_MAX];
    zr_mark_text text;
    zr_many many;
    sink *sinks;
};

static size_t sinks_at(void)
{
    return zr_round_up(sizeof(zr_sinks), ZR_CACHELINE);
}

static size_t data_at(const zr_sinks_conf *conf)
{
    return zr_round_up(sinks_at() + conf->count * sizeof(sink), ZR_CACHELINE);
}

static bool sound(const zr_sinks_conf *conf)
{
    return conf->count > 0 && conf->count <= ZR_SINKS_MAX && conf->per_stream > 0 && conf->size >= ZR_MARK_HEAD &&
           conf->size <= ZR_MARK_SIZE_MAX;
}

size_t zr_sinks_bytes(const zr_sinks_conf *conf)
{
    return sound(conf) ? data_at(conf) + (size_t)ZR_MANY_AREAS * ZR_MANY_AREA_BYTES : 0;
}

static bool open_sink(zr_sinks *sinks, uint32_t i, const zr_addr *at)
{
    sink *s = &sinks->sinks[i];
    struct epoll_event event = { .events = EPOLLIN, .data.u32 = i };
    zr_addr any = *at, bound;

    any.port = 0;
    s->fd = zr_udp_open(&any, sinks->conf.rcvbuf, 0, sinks->conf.gro ? ZR_UDP_GRO : 0);
    if (s->fd < 0 || zr_udp_bound(s->fd, &bound) != ZR_OK)
        return false;
    s->port = bound.port;
    s->ssrc = sinks->conf.ssrc + i / sinks->conf.per_stream;
    zr_win_init(&s->seen);
    return epoll_ctl(sinks->epoll, EPOLL_CTL_ADD, s->fd, &event) == 0;
}

zr_sinks *zr_sinks_open(void *mem, const zr_sinks_conf *conf, const zr_addr *at)
{
    zr_sinks *sinks = mem;

    if (!sound(conf) || (uintptr_t)mem % ZR_CACHELINE != 0) {
        errno = EINVAL;
        return NULL;
    }
    memset(sinks, 0, data_at(conf));
    sinks->conf = *conf;
    sinks->sinks = (void *)((uint8_t *)mem + sinks_at());
    zr_mark_text_init(&sinks->text);
    zr_many_init(&sinks->many, (uint8_t *)mem + data_at(conf));
    for (uint32_t i = 0; i < conf->count; i++)
        sinks->sinks[i].fd = -1;
    sinks->epoll = epoll_create1(EPOLL_CLOEXEC);
    bool open = sinks->epoll >= 0;
    for (uint32_t i = 0; open && i < conf->count; i++)
        open = open_sink(sinks, i, at);
    if (open)
        return sinks;
    int why = errno;
    zr_sinks_close(sinks);
    errno = why;
    return NULL;
}

void zr_sinks_close(zr_sinks *sinks)
{
    for (uint32_t i = 0; i < sinks->conf.count; i++)
        if (sinks->sinks[i].fd >= 0)
            close(sinks->sinks[i].fd);
    if (sinks->epoll >= 0)
        close(sinks->epoll);
}

uint16_t zr_sinks_port(const zr_sinks *sinks, uint32_t i)
{
    return sinks->sinks[i].port;
}

static enum word judge(zr_sinks *sinks, sink *s, const uint8_t *data, size_t len, zr_ns_t now)
{
    static const enum word after[] = { [ZR_WIN_SEEN] = DUPLICATES, [ZR_WIN_OLD] = OLD };
    zr_mark mark;
    enum zr_mark_verdict verdict = zr_mark_read(&mark, data, len, sinks->conf.size, &sinks->text);

    if (verdict == ZR_MARK_RTCP)
        return RTCP;
    if (verdict != ZR_MARK_GOOD || mark.ssrc != s->ssrc)
        return CORRUPT;
    enum zr_win_verdict fresh = zr_win_mark(&s->seen, mark.number);
    if (fresh != ZR_WIN_NEW)
        return after[fresh];
    s->delays[zr_hist_bucket((uint64_t)ZR_MAX(now - mark.due, 0))]++;
    s->good++;
    return GOOD;
}

static int empty(zr_sinks *sinks, sink *s)
{
    uint64_t counted[WORDS] = { 0 };
    int packets = 0, got;

    do {
        got = zr_many_recv(&sinks->many, s->fd, MSG_DONTWAIT);
        counted[CALLS]++;
        zr_ns_t now = zr_clock_now();
        for (int i = 0; i < got; i++) {
            const uint8_t *data = sinks->many.iovs[i].iov_base;
            uint32_t len = sinks->many.msgs[i].msg_len, at = 0;
            do { /* once for an empty datagram too */
                uint32_t size = ZR_MIN(sinks->many.segment[i], len - at);
                counted[judge(sinks, s, data + at, size, now)]++;
                counted[BYTES] += size;
                at += size;
                packets++;
            } while (at < len);
        }
    } while (got == (int)ZR_MANY_AREAS);
    for (int i = 0; i < WORDS; i++)
        if (counted[i] > 0)
            zr_stat_bump(&sinks->words[i], counted[i]);
    return packets;
}

int zr_sinks_turn(zr_sinks *sinks, zr_ns_t wait)
{
    int packets = 0, ready = epoll_wait(sinks->epoll, sinks->ready, READY_MAX, (int)(wait / ZR_MS(1)));
    zr_ns_t woke = zr_clock_now();

    for (int i = 0; i < ready; i++)
        packets += empty(sinks, &sinks->sinks[sinks->ready[i].data.u32]);
    zr_stat_bump(&sinks->words[BUSY], (uint64_t)(zr_clock_now() - woke));
    return packets;
}

void zr_sinks_run(zr_sinks *sinks)
{
    while (!atomic_exchange_explicit(&sinks->stop, false, memory_order_relaxed))
        (void)zr_sinks_turn(sinks, WAIT);
}

void zr_sinks_stop(zr_sinks *sinks)
{
    atomic_store_explicit(&sinks->stop, true, memory_order_relaxed);
}

static uint64_t get(const zr_sinks *sinks, enum word word)
{
    return atomic_load_explicit(&sinks->words[word], memory_order_relaxed);
}

void zr_sinks_counted(const zr_sinks *sinks, zr_sinks_counts *counts)
{
    *counts = (zr_sinks_counts){
        .good = get(sinks, GOOD),
        .duplicates = get(sinks, DUPLICATES),
        .old = get(sinks, OLD),
        .corrupt = get(sinks, CORRUPT),
        .rtcp = get(sinks, RTCP),
        .bytes = get(sinks, BYTES),
        .calls = get(sinks, CALLS),
        .busy_ns = get(sinks, BUSY),
    };
}

uint64_t zr_sinks_good(const zr_sinks *sinks, uint32_t i)
{
    return sinks->sinks[i].good;
}

uint64_t zr_sinks_dropped(const zr_sinks *sinks, uint32_t i)
{
    uint32_t info[SK_MEMINFO_VARS] = { 0 };
    socklen_t len = sizeof info;

    if (getsockopt(sinks->sinks[i].fd, SOL_SOCKET, SO_MEMINFO, info, &len) != 0)
        return 0;
    return info[SK_MEMINFO_DROPS];
}

void zr_sinks_delays(const zr_sinks *sinks, uint32_t i, uint64_t into[ZR_HIST_BUCKETS])
{
    for (uint32_t b = 0; b < ZR_HIST_BUCKETS; b++)
        into[b] += sinks->sinks[i].delays[b];
}

void zr_sinks_clear_delays(zr_sinks *sinks)
{
    for (uint32_t i = 0; i < sinks->conf.count; i++)
        memset(sinks->sinks[i].delays, 0, sizeof sinks->sinks[i].delays);
}
