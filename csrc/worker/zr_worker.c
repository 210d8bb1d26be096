#include "worker/zr_worker.h"

#include <signal.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/zr_err.h"
#include "mem/zr_life.h"
#include "net/zr_fdpass.h"
#include "worker/zr_ingest.h"
#include "worker/zr_worker_priv.h"

#define ENTRY_BYTES  1536u   /* of the link batch's arena, per entry: a full-size link datagram */
#define EGRESS_BYTES 131072u /* of the egress batch's: key frame requests, and what many get alike, gathered */

enum part {
    PART_FWD,
    PART_RX,
    PART_LINKS,
    PART_LINKS_BATCH,
    PART_EGRESS,
    PART_EGRESS_BATCH,
    PART_FANS,
    PART_SOCKS,
    PARTS
};

static uint32_t batch_entries(const zr_worker_conf *conf)
{
    return conf->batch * 16;
}

static uint32_t areas(const zr_worker_conf *conf)
{
    return ZR_MIN(conf->batch, ZR_WORKER_AREAS_MAX);
}

static size_t lay_out(const zr_worker_conf *conf, size_t at[PARTS])
{
    const size_t bytes[PARTS] = {
        [PART_FWD] = zr_fwd_bytes(&conf->fwd),
        [PART_RX] = zr_udp_rx_bytes(areas(conf), conf->area_bytes),
        [PART_LINKS] = zr_udp_tx_bytes(batch_entries(conf), 0),
        [PART_LINKS_BATCH] = zr_batch_bytes(batch_entries(conf), batch_entries(conf) * ENTRY_BYTES),
        [PART_EGRESS] = zr_udp_tx_bytes(batch_entries(conf), batch_entries(conf)),
        [PART_EGRESS_BATCH] = zr_batch_bytes(batch_entries(conf), EGRESS_BYTES),
        [PART_FANS] = zr_batch_fan_bytes(batch_entries(conf)),
        [PART_SOCKS] = (ZR_SOCK_INGRESS + conf->fwd.ingress_max) * sizeof(zr_udp_sock),
    };
    return zr_lay_out(sizeof(zr_worker), bytes, PARTS, at);
}

zr_worker_conf zr_worker_conf_default(uint8_t lane, uint32_t streams_max)
{
    return (zr_worker_conf){
        .fwd = zr_fwd_conf_default(lane, streams_max),
        .fds = { .link = -1, .egress = -1, .fdpass = -1, .wake = -1, .agent_wake = -1 },
        .batch = 64,
        .area_bytes = ZR_UDP_AREA_BYTES,
        .gso = true,
        .stamps = true,
    };
}

size_t zr_worker_bytes(const zr_worker_conf *conf)
{
    size_t at[PARTS];
    return lay_out(conf, at);
}

int zr_worker_parts(const zr_worker_conf *conf, zr_part *parts)
{
    static const char *const names[PARTS] = {
        [PART_RX] = "receive areas",       [PART_LINKS] = "link messages",       [PART_LINKS_BATCH] = "link batch",
        [PART_EGRESS] = "egress messages", [PART_EGRESS_BATCH] = "egress batch", [PART_FANS] = "fans",
        [PART_SOCKS] = "sockets",
    };
    zr_part own[PARTS];
    size_t at[PARTS], end = lay_out(conf, at);
    int count = zr_fwd_parts(&conf->fwd, parts);

    _Static_assert(PARTS + ZR_FWD_PARTS <= ZR_WORKER_PARTS, "its callers have room for all");
    zr_parts_of(own, names, at, end, PARTS);
    for (int i = 0; count > 0 && i < PARTS; i++)
        if (i != PART_FWD)
            parts[count++] = own[i];
    return count;
}

static bool open_signal(zr_worker *w)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, w->conf.stop_signal);
    w->signal = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    return w->signal >= 0;
}

static bool watch(zr_worker *w, int fd, uint32_t tag)
{
    return fd < 0 || zr_idle_watch(&w->idle, fd, tag) == ZR_OK;
}

static bool open_outlet(zr_outlet *o, const zr_worker_conf *conf, uint8_t *tx, uint8_t *batch, uint32_t fans)
{
    uint32_t entries = batch_entries(conf);

    o->tx = zr_udp_tx_init(tx, entries, fans, conf->gso, conf->calls);
    return o->tx != NULL &&
           zr_batch_init(&o->batch, batch, entries, fans > 0 ? EGRESS_BYTES : entries * ENTRY_BYTES) == ZR_OK;
}

static bool open_outlets(zr_worker *w, uint8_t *base, const size_t at[PARTS])
{
    const zr_worker_conf *conf = &w->conf;
    uint32_t fans = batch_entries(conf);

    w->links.sock = ZR_SOCK_LINK;
    w->egress.sock = ZR_SOCK_EGRESS;
    if (!open_outlet(&w->links, conf, base + at[PART_LINKS], base + at[PART_LINKS_BATCH], 0) ||
        !open_outlet(&w->egress, conf, base + at[PART_EGRESS], base + at[PART_EGRESS_BATCH], fans))
        return false;
    zr_batch_add_fans(&w->egress.batch, base + at[PART_FANS], fans);
    return true;
}

/* Everybody's inbox, ours among them. */
bool zr_worker_meet_peers(zr_worker *w)
{
    for (uint32_t i = 0; w->conf.peers != NULL && i < w->conf.fwd.workers; i++)
        if (zr_fwd_meet(w->fwd, i, &w->peers[i].inbox) != ZR_OK)
            return false;
    w->idle.mirrors = w->conf.peers != NULL ? zr_fwd_mirrors(w->fwd) : NULL;
    return true;
}

bool zr_worker_open_sockets(zr_worker *w)
{
    const zr_worker_fds *fds = &w->conf.fds;

    if (fds->link >= 0 && zr_udp_sock_of(&w->socks[ZR_SOCK_LINK], fds->link) != ZR_OK)
        return false;
    if (fds->egress >= 0 && zr_udp_sock_of(&w->socks[ZR_SOCK_EGRESS], fds->egress) != ZR_OK)
        return false;
    zr_addr own;
    if (fds->link >= 0 && zr_udp_bound(fds->link, &own) == ZR_OK)
        zr_fwd_set_own(w->fwd, &own);
    for (uint32_t number = 0; number < ZR_SOCK_INGRESS; number++)
        if (w->socks[number].fd >= 0)
            zr_udp_tell_errors(&w->socks[number]);
    if (w->conf.stamps && fds->link >= 0)
        (void)zr_udp_stamp(fds->link);
    return watch(w, fds->link, ZR_SOCK_LINK) && watch(w, fds->egress, ZR_SOCK_EGRESS) &&
           watch(w, fds->wake, TAG_WAKE) && watch(w, fds->fdpass, TAG_FDPASS);
}

/* What every worker has, also one that is a spare yet. */
static bool open_own(zr_worker *w, zr_ns_t now)
{
    return zr_idle_open(&w->idle, w->conf.spin, now) == ZR_OK &&
           (w->conf.stop_signal == 0 || (open_signal(w) && watch(w, w->signal, TAG_SIGNAL)));
}

void zr_worker_announce(zr_worker *w, zr_ns_t now)
{
    (void)zr_life_begin(&w->page->life); /* without it our death is heard of later */
    atomic_store_explicit(&w->page->started_ns, (uint64_t)now, memory_order_relaxed);
    atomic_store_explicit(&w->page->heartbeat_ns, (uint64_t)now, memory_order_relaxed);
    /* Last: who sees our pid there may take us for a working one. */
    atomic_store_explicit(&w->page->pid, (uint64_t)getpid(), memory_order_release);
}

zr_worker *zr_worker_init(void *mem, const zr_worker_conf *conf, zr_stat_page *page, zr_chan *chan, zr_ns_t now)
{
    size_t at[PARTS];
    uint8_t *base = mem;
    zr_worker *w = mem;

    if ((uintptr_t)mem % ZR_CACHELINE != 0 || conf->batch == 0 || conf->batch > 1024 || conf->spin < 0 ||
        conf->hold < 0 || conf->hold > ZR_WORKER_HOLD_MAX || conf->fwd.ingress_max > UINT16_MAX - ZR_SOCK_INGRESS)
        return NULL;
    lay_out(conf, at);
    *w = (zr_worker){ .conf = *conf, .page = page, .chan = chan, .fdpass = conf->fds.fdpass, .signal = -1 };
    w->idle.epoll = -1;
    w->fwd = zr_fwd_init(base + at[PART_FWD], &conf->fwd, page, chan, now);
    if (conf->peers != NULL)
        memcpy(w->peers, conf->peers, conf->fwd.workers * sizeof *conf->peers);
    w->conf.peers = conf->peers != NULL ? w->peers : NULL;
    w->rx = zr_udp_rx_init(base + at[PART_RX], areas(conf), conf->area_bytes, conf->calls);
    w->socks = (void *)(base + at[PART_SOCKS]);
    w->sock_count = ZR_SOCK_INGRESS + conf->fwd.ingress_max;
    for (uint32_t i = 0; i < w->sock_count; i++)
        w->socks[i] = (zr_udp_sock){ .fd = -1 };
    if (w->fwd == NULL || w->rx == NULL || !open_outlets(w, base, at) || !open_own(w, now) ||
        (!conf->spare && (!zr_worker_meet_peers(w) || !zr_worker_open_sockets(w)))) {
        zr_worker_fini(w);
        return NULL;
    }
    zr_worker_announce(w, now);
    return w;
}

static void close_ingress(zr_worker *w, uint32_t slot)
{
    zr_udp_sock *sock = &w->socks[ZR_SOCK_INGRESS + slot];

    if (sock->fd < 0)
        return;
    zr_worker_look_at(w, ZR_SOCK_INGRESS + slot);
    zr_idle_unwatch(&w->idle, sock->fd);
    close(sock->fd);
    sock->fd = -1;
}

static void close_outlet(zr_worker *w, zr_outlet *o)
{
    if (o->tx != NULL)
        zr_udp_tx_give_up(o->tx, w->page);
    zr_batch_reset(&o->batch);
}

void zr_worker_fini(zr_worker *w)
{
    for (uint32_t i = ZR_SOCK_INGRESS; w->socks != NULL && i < w->sock_count; i++)
        close_ingress(w, i - ZR_SOCK_INGRESS);
    if (w->signal >= 0)
        close(w->signal);
    zr_idle_close(&w->idle);
    close_outlet(w, &w->links);
    close_outlet(w, &w->egress);
    if (w->fwd != NULL)
        zr_fwd_fini(w->fwd);
    w->fwd = NULL;
}

static int run_commands(zr_worker *w, zr_ns_t now)
{
    int slot, done = zr_fwd_commands(w->fwd, ZR_WORKER_COMMANDS_PER_TURN, now);

    w->commands_left = done == ZR_WORKER_COMMANDS_PER_TURN;
    while ((slot = zr_fwd_ingress_closed(w->fwd)) >= 0)
        close_ingress(w, (uint32_t)slot);
    return done;
}

/*
 * One socket from the supervisor; ours from now on. One message a turn, and none while commands wait: a slot's old
 * socket is closed by a command posted before its new one was asked for, and must be closed before the new one comes.
 */
int zr_worker_adopt_ingress(zr_worker *w)
{
    zr_fdpass message;
    zr_udp_sock sock;

    if (w->commands_left)
        return 0;
    int fd = zr_fdpass_recv(w->fdpass, &message);
    if (fd == ZR_E_again)
        return 0;
    if (fd == ZR_E_nomem) {
        zr_fwd_ingress_lost(w->fwd, message.slot);
        return 1;
    }
    bool good = fd >= 0 && message.slot < w->conf.fwd.ingress_max && zr_udp_sock_of(&sock, fd) == ZR_OK;
    if (good) {
        close_ingress(w, message.slot);
        good = zr_idle_watch(&w->idle, fd, ZR_SOCK_INGRESS + (uint32_t)message.slot) == ZR_OK;
    }
    if (good) {
        w->socks[ZR_SOCK_INGRESS + message.slot] = sock;
        w->ingress_used = ZR_MAX(w->ingress_used, (uint32_t)message.slot + 1);
        if (w->conf.stamps)
            (void)zr_udp_stamp(fd);
        return 1;
    }
    /* Nothing more is taken from who sends nonsense; forwarding goes on. Also the way when the supervisor died. */
    if (fd >= 0)
        close(fd);
    if (fd != ZR_E_closed)
        zr_stat_add(w->page, ZR_STAT_fdpass_refused, 1);
    zr_idle_unwatch(&w->idle, w->fdpass);
    shutdown(w->fdpass, SHUT_RDWR);
    w->fdpass = -1;
    return 0;
}

/* When the kernel got a datagram, on our clock. A wall clock that was set a moment ago tells nothing. */
static zr_ns_t came(const zr_worker *w, zr_ns_t stamp, zr_ns_t now)
{
    zr_ns_t at = stamp - w->wall;
    return stamp == 0 || at > now || now - at > ZR_SEC(1) ? now : at;
}

static int receive_from(zr_worker *w, uint32_t number, zr_ns_t now)
{
    int count = 0, messages = (int)zr_udp_rx_areas(w->rx);

    while (messages == (int)zr_udp_rx_areas(w->rx) && count < ZR_WORKER_DGRAMS_PER_TURN) {
        zr_udp_dgram dgram;
        messages = zr_udp_recv(w->rx, w->socks[number].fd, w->page);
        while (zr_udp_next(w->rx, &dgram)) {
            (void)zr_ingest(w->fwd, w->page, number, dgram.data, dgram.len, dgram.truncated, &dgram.from,
                            came(w, dgram.stamp, now), now);
            count++;
        }
    }
    return count;
}

static void drop_errors(zr_worker *w, uint32_t number)
{
    const zr_udp_calls *calls = w->conf.calls == NULL ? &zr_udp_libc : w->conf.calls;
    int count = zr_udp_drop_errors(w->socks[number].fd, calls);
    zr_stat_add(w->page, ZR_STAT_tx_hints, (uint64_t)count);
}

static int receive(zr_worker *w, zr_ns_t now)
{
    int work = 0;
    uint64_t ignored;

    for (int i = 0; i < w->idle.ready_count; i++) {
        uint32_t tag = w->idle.ready[i].data.u32;
        if (tag == TAG_WAKE) {
            (void)eventfd_read(w->conf.fds.wake, &ignored);
        } else if (tag == TAG_SIGNAL) {
            zr_worker_ask_stop(w);
        } else if (tag == TAG_FDPASS) {
            work += w->fdpass >= 0 ? zr_worker_adopt_ingress(w) : 0;
        } else if (w->socks[tag].fd >= 0) { /* else: closed by a command of this turn */
            uint32_t events = w->idle.ready[i].events;
            if ((events & EPOLLOUT) != 0)
                *(tag == ZR_SOCK_LINK ? &w->links.writable : &w->egress.writable) = true;
            if ((events & EPOLLERR) != 0)
                drop_errors(w, tag);
            if ((events & ~(uint32_t)EPOLLOUT) != 0)
                work += receive_from(w, tag, now);
        }
    }
    w->idle.ready_count = 0;
    return work;
}

static int read_inbox(zr_worker *w, zr_ns_t now)
{
    return zr_fwd_mirror_input(w->fwd, ZR_WORKER_RECORDS_PER_TURN, now);
}

static void wake_others(zr_worker *w)
{
    for (int other; (other = zr_fwd_wake_next(w->fwd)) >= 0;) {
        (void)eventfd_write(w->peers[other].wake, 1);
        zr_stat_add(w->page, ZR_STAT_wakes, 1);
    }
}

static int run_deadlines(zr_worker *w, zr_ns_t now)
{
    zr_ns_t deadline = zr_worker_engines(w);

    if (deadline > now)
        return 0;
    if (deadline > 0) /* else: left over from the turn before */
        zr_hist_add(w->page, ZR_HIST_loop_lag_ns, (uint64_t)(now - deadline));
    zr_fwd_on_deadline(w->fwd, now);
    return 1;
}

static void count(zr_worker *w, zr_ns_t now)
{
    const zr_pool *pool = zr_fwd_pool(w->fwd);

    zr_stat_add(w->page, ZR_STAT_turns, 1);
    zr_stat_set(w->page, ZR_STAT_pool_in_use, pool->in_use);
    zr_stat_set(w->page, ZR_STAT_pool_in_use_max, pool->in_use_max);
    zr_stat_set(w->page, ZR_STAT_pool_exhausted, pool->exhausted);
    atomic_store_explicit(&w->page->heartbeat_ns, (uint64_t)now, memory_order_relaxed);
    zr_worker_look(w, now);
    if (zr_fwd_events_waiting(w->fwd) && w->conf.fds.agent_wake >= 0 && zr_chan_wake_needed(w->chan->agent_asleep)) {
        (void)eventfd_write(w->conf.fds.agent_wake, 1);
        zr_stat_add(w->page, ZR_STAT_wakes, 1);
    }
}

int zr_worker_turn(zr_worker *w, zr_ns_t now)
{
    int received, work = 0;

    zr_stat_turn_begin(w->page);
    work += run_commands(w, now);            /* what the control plane wants, bounded */
    work += received = receive(w, now);      /* sockets -> packets -> lane, streams */
    work += read_inbox(w, now);              /* other workers -> streams */
    work += run_deadlines(w, now);           /* wheels -> engines */
    if (!zr_worker_hold(w, received, now))   /* [egress] hold: longer runs, later */
        work += zr_fwd_fan_out(w->fwd, now); /* streams -> children, subscribers */
    wake_others(w);                          /* those we gave something, once */
    work += zr_worker_transmit(w, now);      /* engines -> batches -> sockets */
    count(w, now);                           /* counters, heartbeat, events */
    zr_stat_turn_end(w->page);
    return work;
}
