#include "net/zr_udp_tx.h"

#include <errno.h>

#include "base/zr_err.h"
#include "net/zr_udp_tx_priv.h"

#define CALL_MAX   1024u /* messages the kernel takes by one sendmmsg */
#define TRIES_MAX  16    /* of one message, after errors that are not its own */
#define URGENT_MAX 3     /* of an urgent one, without memory */
#define GROUPS     64u   /* of datagrams that came in at the same time, in one call */
#define FULL_WAIT  ZR_MS(10)
#define PACE_TIME  ZR_MS(100)
#define PACE_KNOWN ZR_MS(250) /* at a rate that the card was seen to take: each end of a pace costs a packet */
#define PACE_LOOK  ZR_MS(20)  /* in this time it takes enough packets to tell its rate */
#define PACE_MIN   125u       /* bytes a millisecond */
#define RATE_TIME  ZR_MS(10)

enum stage { IDLE, LINK, EGRESS };

typedef struct pace { /* no faster than `rate` while now < until */
    zr_ns_t from, until;
    uint64_t rate, sent;      /* bytes a millisecond; bytes since `from` */
    zr_ns_t began;            /* of the window that measures */
    uint64_t bytes, measured; /* in it; rate of the one before */
} pace;

struct zr_udp_tx {
    const zr_udp_calls *calls;
    uint32_t entries_max, fans_max;
    enum stage stage;
    tx_list batch, single; /* single: the entries of one refused run */
    uint32_t waiting;      /* datagrams of the batch that are not settled */
    int tries;             /* of the first unsettled message */
    bool full;             /* what it waits for is room in the socket */
    zr_ns_t resume;
    pace pace;
    struct {
        uint32_t came_us, count;
    } groups[GROUPS];
    uint32_t group_count;
    struct {
        zr_addr to;
        uint32_t bytes;
    } oversize[ZR_UDP_OVERSIZE]; /* not asked for yet */
    uint32_t oversize_count;
    zr_udp_routes routes;
};

static uint32_t dgrams_max(uint32_t entries, uint32_t fans)
{
    return entries + fans * ZR_FAN_DGRAMS;
}

size_t zr_udp_tx_bytes(uint32_t entries, uint32_t fans)
{
    return zr_round_up(sizeof(zr_udp_tx), ZR_CACHELINE) + zr_udp_list_bytes(dgrams_max(entries, fans)) +
           zr_udp_list_bytes(ZR_UDP_RUN_MAX);
}

zr_udp_tx *zr_udp_tx_init(void *mem, uint32_t entries, uint32_t fans, bool gso, const zr_udp_calls *calls)
{
    if (entries == 0 || (uintptr_t)mem % ZR_CACHELINE != 0)
        return NULL;

    zr_udp_tx *tx = mem;
    uint8_t *at = (uint8_t *)mem + zr_round_up(sizeof *tx, ZR_CACHELINE);
    *tx = (zr_udp_tx){ .calls = calls == NULL ? &zr_udp_libc : calls, .entries_max = entries, .fans_max = fans };
    tx->routes.gso = gso;
    tx->batch = zr_udp_list_at(at, dgrams_max(entries, fans));
    tx->single = zr_udp_list_at(at + zr_udp_list_bytes(dgrams_max(entries, fans)), ZR_UDP_RUN_MAX);
    return tx;
}

/* Pacing. */

/* Bytes a millisecond; no time is shorter than one. */
static uint64_t rate_of(uint64_t bytes, zr_ns_t time)
{
    return bytes * (uint64_t)ZR_MS(1) / (uint64_t)ZR_MAX(time, ZR_MS(1));
}

static void pace_measure(pace *p, zr_ns_t now)
{
    zr_ns_t took = now - p->began;

    if (took < RATE_TIME)
        return;
    p->measured = took > 2 * RATE_TIME ? 0 : rate_of(p->bytes, took);
    p->bytes = 0;
    p->began = now;
}

/* At first a fifth less than we sent; of that nobody knows what the card took. Refused once more soon after, it has
 * been full at both ends of the time since, and what it took in it is what it can do: a little less leaves it room.
 * But when what it refused is what went at once as the pace ended, the pace was right, or too slow. */
static void pace_slow(pace *p, zr_stat_page *page, zr_ns_t now)
{
    bool paced = now < p->until;
    bool known = p->until > 0 && now - p->until < PACE_TIME;
    uint64_t took = rate_of(p->sent, now - p->from);

    if (paced && now - p->from < PACE_LOOK)
        return;
    if (!known)
        p->rate = ZR_MAX(p->measured, rate_of(p->bytes, now - p->began)) * 4 / 5;
    else if (paced)
        p->rate = took * 31 / 32;
    else
        p->rate = ZR_MAX(took, p->rate);
    p->rate = ZR_MAX(p->rate, (uint64_t)PACE_MIN);
    p->from = now;
    p->until = now + (known ? PACE_KNOWN : PACE_TIME);
    p->sent = 0;
    zr_stat_add(page, ZR_STAT_tx_paced, 1);
}

/* Of `due` messages, those that may go now; the last may be ahead of its time. */
static uint32_t pace_allow(zr_udp_tx *tx, const tx_list *list, uint32_t due, zr_ns_t now)
{
    pace *p = &tx->pace;
    uint32_t count = 0;

    if (now >= p->until)
        return due;
    uint64_t allowed = p->rate * (uint64_t)(now - p->from) / (uint64_t)ZR_MS(1), bytes = p->sent;
    for (; count < due && bytes <= allowed; count++)
        bytes += list->messages[list->at + count].bytes;
    if (count == 0) {
        zr_ns_t when = p->from + (zr_ns_t)((p->sent + 1) * (uint64_t)ZR_MS(1) / p->rate) + 1;
        tx->resume = ZR_MIN(when, p->until);
    }
    return count;
}

/* What became of messages. */

static void note_time(zr_udp_tx *tx, uint32_t came_us, uint32_t count)
{
    if (came_us == 0)
        return;
    if (tx->group_count == 0 || tx->groups[tx->group_count - 1].came_us != came_us) {
        if (tx->group_count == GROUPS)
            return; /* a sample of the call is enough */
        tx->groups[tx->group_count].came_us = came_us;
        tx->groups[tx->group_count++].count = 0;
    }
    tx->groups[tx->group_count - 1].count += count;
}

static void took(zr_udp_tx *tx, tx_list *list, uint32_t count, zr_stat_page *page)
{
    uint64_t dgrams = 0, bytes = 0, gso = 0, alike = 0;
    const tx_message *m = &list->messages[list->at], *end = m + count;
    uint32_t length = m->count;

    for (; m < end; m++) {
        if (m->count != length) {
            zr_hist_add_many(page, ZR_HIST_tx_run, length, alike);
            length = m->count;
            alike = 0;
        }
        alike++;
        dgrams += m->count;
        bytes += m->bytes;
        gso += m->count > 1;
        note_time(tx, m->first->came_us, m->count);
        if (tx->routes.down_count > 0)
            zr_udp_set_up(&tx->routes, m->to);
    }
    zr_hist_add_many(page, ZR_HIST_tx_run, length, alike);
    zr_hist_add(page, ZR_HIST_tx_batch, dgrams);
    zr_stat_add(page, ZR_STAT_tx_sent, dgrams);
    zr_stat_add(page, ZR_STAT_tx_bytes, bytes);
    zr_stat_add(page, ZR_STAT_tx_runs, count);
    zr_stat_add(page, ZR_STAT_tx_gso_runs, gso);
    tx->pace.bytes += bytes;
    tx->pace.sent += bytes;
    tx->waiting -= (uint32_t)dgrams;
    tx->tries = 0;
    list->at += count;
}

static void dropped(zr_udp_tx *tx, tx_list *list, enum zr_drop_id why, zr_stat_page *page)
{
    uint32_t count = list->messages[list->at++].count;

    zr_stat_bump(&page->drop[why], count);
    tx->waiting -= count;
    tx->tries = 0;
}

static void unreachable(zr_udp_tx *tx, tx_list *list, bool host, zr_stat_page *page, zr_ns_t now)
{
    const zr_addr *to = list->messages[list->at].to;

    zr_udp_set_down(&tx->routes, to, host, page, now);
    dropped(tx, list, ZR_DROP_tx_refused, page);
    while (list->at < list->count && zr_addr_eq(list->messages[list->at].to, to)) /* the rest of what it would get */
        dropped(tx, list, ZR_DROP_tx_skipped, page);
}

static void too_long(zr_udp_tx *tx, tx_list *list, zr_stat_page *page)
{
    const tx_message *m = &list->messages[list->at];

    zr_stat_set(page, ZR_STAT_tx_refused_bytes, m->bytes);
    if (tx->oversize_count < ZR_UDP_OVERSIZE) {
        tx->oversize[tx->oversize_count].to = *m->to;
        tx->oversize[tx->oversize_count++].bytes = m->bytes;
    }
    dropped(tx, list, ZR_DROP_tx_oversize, page);
}

static bool without_memory(zr_udp_tx *tx, tx_list *list, zr_stat_page *page, zr_ns_t now)
{
    pace_slow(&tx->pace, page, now);
    if (list->messages[list->at].first->urgent && tx->tries++ < URGENT_MAX) {
        tx->resume = now + ZR_MS(1);
        return false;
    }
    tx->pace.sent += list->messages[list->at].bytes; /* else the next one would go the same way at once */
    dropped(tx, list, ZR_DROP_tx_nobufs, page);
    return true;
}

/* May this be said of an earlier datagram (ICMP)? Then asking again tells. */
static bool may_be_earlier(int error)
{
    switch (error) {
    case ECONNREFUSED:
    case EHOSTUNREACH:
    case ENETUNREACH:
    case EHOSTDOWN:
    case EACCES:
    case EMSGSIZE:
    case EPROTO:
    case ENOPROTOOPT:
    case EOPNOTSUPP:
        return true;
    default:
        return false;
    }
}

/* The first unsettled message was refused. False: it has to wait, and all that follow. */
static bool refused(zr_udp_tx *tx, tx_list *list, const zr_udp_sock *sock, int error, zr_stat_page *page, zr_ns_t now)
{
    const tx_message *m = &list->messages[list->at];

    ZR_CHECK(error != EBADF && error != ENOTSOCK && error != EFAULT);
    if (error == EINTR)
        return true;
    if (error == EAGAIN || error == EWOULDBLOCK) {
        zr_stat_add(page, ZR_STAT_tx_blocked, 1);
        tx->full = true;
        tx->resume = now + FULL_WAIT;
        return false;
    }
    if (may_be_earlier(error) && tx->tries++ < (error == ECONNREFUSED ? TRIES_MAX : 1)) {
        zr_stat_add(page, ZR_STAT_tx_hints, 1);
        return true;
    }
    if (error == ENOBUFS || error == ENOMEM)
        return without_memory(tx, list, page, now);
    if (m->count > 1 && (error == EIO || error == EINVAL || error == EMSGSIZE)) {
        zr_udp_gso_refused(&tx->routes, m->to, page);
        zr_udp_list_split(&tx->single, m, sock->family);
        list->at++;
        tx->tries = 0;
        return true;
    }
    switch (error) {
    case EMSGSIZE:
        too_long(tx, list, page);
        return true;
    case ENETUNREACH:
    case EHOSTUNREACH:
    case ENETDOWN:
    case EHOSTDOWN:
    case EADDRNOTAVAIL:
        unreachable(tx, list, true, page, now);
        return true;
    case EINVAL:
    case EPERM:
    case EACCES:
        unreachable(tx, list, false, page, now);
        return true;
    case ECONNREFUSED:
    case EAFNOSUPPORT:
    case EDESTADDRREQ:
        dropped(tx, list, ZR_DROP_tx_refused, page);
        return true;
    default:
        dropped(tx, list, ZR_DROP_tx_error, page);
        return true;
    }
}

/* All that is listed. False: the rest has to wait. */
static bool push(zr_udp_tx *tx, const zr_udp_sock *sock, zr_stat_page *page, zr_ns_t now)
{
    tx->full = false;
    for (;;) {
        tx_list *list = tx->single.at < tx->single.count ? &tx->single : &tx->batch;
        if (list->at == list->count)
            return true;
        uint32_t due = pace_allow(tx, list, ZR_MIN(list->count - list->at, CALL_MAX), now);
        if (due == 0)
            return false;
        zr_stat_add(page, ZR_STAT_sys_sendmmsg, 1);
        int went = tx->calls->sendmmsg(sock->fd, list->hdrs + list->at, due, MSG_DONTWAIT);
        if (went > 0) {
            took(tx, list, (uint32_t)went, page);
            zr_stat_add(page, ZR_STAT_tx_short, (uint32_t)went < due);
        } else if (!refused(tx, list, sock, went == 0 ? EAGAIN : errno, page, now)) {
            return false;
        }
    }
}

static const zr_udp_sock *sock_of(const zr_udp_sock *socks, uint32_t sock_count, uint32_t number)
{
    return number < sock_count ? &socks[number] : NULL;
}

static void fill(zr_udp_tx *tx, const zr_udp_sock *sock, uint16_t number, const zr_batch *batch, zr_stat_page *page,
                 zr_ns_t now)
{
    tx->waiting -= zr_udp_list_fill(&tx->batch, &tx->routes, sock, number, batch, page, now);
}

static void drop_listed(zr_udp_tx *tx, zr_stat_page *page)
{
    while (tx->single.at < tx->single.count)
        dropped(tx, &tx->single, ZR_DROP_tx_again, page);
    while (tx->batch.at < tx->batch.count)
        dropped(tx, &tx->batch, ZR_DROP_tx_again, page);
}

/* Ingress sockets carry a key frame request now and then, for which nobody waits. What stands together goes together.
 */
static void send_ingress(zr_udp_tx *tx, const zr_udp_sock *socks, uint32_t sock_count, const zr_batch *batch,
                         zr_stat_page *page, zr_ns_t now)
{
    const zr_tx *end = batch->tx + batch->count;

    for (zr_tx *e = batch->tx, *stop; e < end; e = stop) {
        for (stop = e + 1; stop < end && stop->sock == e->sock;)
            stop++;
        if (e->sock < ZR_SOCK_INGRESS)
            continue;
        const zr_batch part = { .tx = e, .count = (uint32_t)(stop - e) };
        const zr_udp_sock *sock = sock_of(socks, sock_count, e->sock);
        fill(tx, sock, e->sock, &part, page, now);
        if (!push(tx, sock, page, now))
            drop_listed(tx, page);
    }
}

static bool send_stages(zr_udp_tx *tx, const zr_udp_sock *socks, uint32_t sock_count, const zr_batch *batch,
                        zr_stat_page *page, zr_ns_t now)
{
    if (tx->stage == IDLE) {
        send_ingress(tx, socks, sock_count, batch, page, now);
        fill(tx, sock_of(socks, sock_count, ZR_SOCK_LINK), ZR_SOCK_LINK, batch, page, now);
        tx->stage = LINK;
    }
    if (tx->stage == LINK) {
        if (!push(tx, &socks[ZR_SOCK_LINK], page, now))
            return false;
        fill(tx, sock_of(socks, sock_count, ZR_SOCK_EGRESS), ZR_SOCK_EGRESS, batch, page, now);
        tx->stage = EGRESS;
    }
    if (!push(tx, sock_of(socks, sock_count, ZR_SOCK_EGRESS), page, now))
        return false;
    tx->stage = IDLE;
    return true;
}

int zr_udp_send(zr_udp_tx *tx, const zr_udp_sock *socks, uint32_t sock_count, const zr_batch *batch, zr_stat_page *page,
                zr_ns_t now)
{
    uint32_t before = tx->waiting;

    ZR_CHECK(batch->count <= tx->entries_max && batch->fan_cap <= tx->fans_max);
    if (tx->stage == IDLE) {
        if (batch->count == 0)
            return ZR_OK;
        tx->waiting = zr_batch_dgrams(batch);
        zr_stat_add(page, ZR_STAT_tx_due, tx->waiting);
        zr_udp_routes_sweep(&tx->routes, now);
    }
    pace_measure(&tx->pace, now);
    bool done = send_stages(tx, socks, sock_count, batch, page, now);
    ZR_CHECK(!done || tx->waiting == 0); /* each datagram was settled once */
    if (tx->waiting != before)
        zr_stat_add(page, ZR_STAT_tx_waiting, (uint64_t)tx->waiting - before);
    return done ? ZR_OK : ZR_E_again;
}

bool zr_udp_tx_full(const zr_udp_tx *tx)
{
    return tx->full;
}

zr_ns_t zr_udp_tx_resume(const zr_udp_tx *tx)
{
    return tx->resume;
}

void zr_udp_tx_give_up(zr_udp_tx *tx, zr_stat_page *page)
{
    zr_stat_add(page, ZR_STAT_tx_waiting, (uint64_t)0 - tx->waiting);
    zr_stat_bump(&page->drop[ZR_DROP_tx_again], tx->waiting);
    zr_udp_list_clear(&tx->batch);
    zr_udp_list_clear(&tx->single);
    tx->waiting = 0;
    tx->stage = IDLE;
}

bool zr_udp_tx_oversize(zr_udp_tx *tx, zr_addr *to, uint32_t *bytes)
{
    if (tx->oversize_count == 0)
        return false;
    *to = tx->oversize[--tx->oversize_count].to;
    *bytes = tx->oversize[tx->oversize_count].bytes;
    return true;
}

void zr_udp_tx_timed(zr_udp_tx *tx, zr_stat_page *page, zr_ns_t now)
{
    uint32_t now_us = (uint32_t)((uint64_t)now / 1000);

    for (uint32_t i = 0; i < tx->group_count; i++) {
        int32_t took_us = (int32_t)(now_us - tx->groups[i].came_us);
        zr_hist_add_many(page, ZR_HIST_forward_us, took_us < 0 ? 0 : (uint32_t)took_us, tx->groups[i].count);
    }
    tx->group_count = 0;
}
