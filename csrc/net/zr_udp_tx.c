#include "net/zr_udp_tx.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <sys/uio.h>

#include "base/zr_err.h"

#define CALL_MAX     1024u /* messages the kernel takes by one sendmmsg */
#define NO_GSO_SLOTS 256u
#define TRIES_MAX    1 /* again, after EAGAIN or ECONNREFUSED */

typedef struct tx_message { /* what belongs to the mmsghdr of the same number */
    const zr_tx *first;
    uint32_t count, bytes;
    struct sockaddr_storage to;
    alignas(struct cmsghdr) uint8_t control[CMSG_SPACE(sizeof(uint16_t))];
} tx_message;

typedef struct tx_list { /* messages ready to go, and their headers in one array for the kernel */
    struct mmsghdr *hdrs;
    tx_message *messages;
    struct iovec *iovs;
    uint32_t count, iov_count;
} tx_list;

struct zr_udp_tx {
    const zr_udp_calls *calls;
    bool gso;
    uint32_t entries_max;
    tx_list batch, single;        /* single: the entries of one refused run */
    zr_addr no_gso[NO_GSO_SLOTS]; /* hosts; a collision only makes us ask the kernel again */
};

static size_t list_bytes(uint32_t entries)
{
    return zr_round_up(entries * (sizeof(struct mmsghdr) + sizeof(tx_message) + sizeof(struct iovec)), ZR_CACHELINE);
}

static tx_list list_at(void *mem, uint32_t entries)
{
    tx_list list = { .messages = mem };

    list.hdrs = (void *)(list.messages + entries);
    list.iovs = (void *)(list.hdrs + entries);
    return list;
}

size_t zr_udp_tx_bytes(uint32_t entries_max)
{
    return zr_round_up(sizeof(zr_udp_tx), ZR_CACHELINE) + list_bytes(entries_max) + list_bytes(ZR_UDP_RUN_MAX);
}

zr_udp_tx *zr_udp_tx_init(void *mem, uint32_t entries_max, bool gso, const zr_udp_calls *calls)
{
    if (entries_max == 0 || (uintptr_t)mem % ZR_CACHELINE != 0)
        return NULL;

    zr_udp_tx *tx = mem;
    uint8_t *at = (uint8_t *)mem + zr_round_up(sizeof *tx, ZR_CACHELINE);
    *tx = (zr_udp_tx){ .calls = calls == NULL ? &zr_udp_libc : calls, .gso = gso, .entries_max = entries_max };
    tx->batch = list_at(at, entries_max);
    tx->single = list_at(at + list_bytes(entries_max), ZR_UDP_RUN_MAX);
    return tx;
}

static zr_addr *no_gso_slot(zr_udp_tx *tx, const zr_addr *to, zr_addr *host)
{
    *host = *to;
    host->port = 0; /* the route decides, not the port */
    return &tx->no_gso[zr_addr_hash(host) % NO_GSO_SLOTS];
}

static bool gso_allowed(zr_udp_tx *tx, const zr_addr *to)
{
    zr_addr host;
    const zr_addr *slot = no_gso_slot(tx, to, &host);
    return tx->gso && !zr_addr_eq(slot, &host);
}

static void gso_refused(zr_udp_tx *tx, const zr_addr *to, zr_stat_page *page)
{
    zr_addr host, *slot = no_gso_slot(tx, to, &host);

    if (!zr_addr_eq(slot, &host)) {
        *slot = host;
        zr_stat_add(page, ZR_STAT_tx_gso_off, 1);
    }
}

static bool same_way(const zr_tx *a, const zr_tx *b)
{
    return a->sock == b->sock && zr_addr_eq(&a->to, &b->to);
}

/* How many entries from `first` on make one message. An empty datagram stands alone: it has no segment size. */
static uint32_t run_length(const zr_tx *first, const zr_tx *end)
{
    uint32_t count = 1, bytes = first->len;

    for (const zr_tx *e = first + 1; e < end && first->len > 0; e++) {
        if (count == ZR_UDP_RUN_MAX || e->len == 0 || e->len > first->len || bytes + e->len > ZR_UDP_RUN_BYTES_MAX ||
            !same_way(first, e))
            break;
        count++;
        bytes += e->len;
        if (e->len < first->len)
            break; /* a shorter one can only be the last */
    }
    return count;
}

static void list_append(tx_list *list, const zr_tx *first, uint32_t count, uint8_t family)
{
    tx_message *m = &list->messages[list->count];
    struct mmsghdr *hdr = &list->hdrs[list->count++];
    struct iovec *iov = &list->iovs[list->iov_count];

    *m = (tx_message){ .first = first, .count = count };
    hdr->msg_hdr = (struct msghdr){ .msg_name = &m->to, .msg_iov = iov };
    hdr->msg_hdr.msg_namelen = zr_udp_to_sockaddr(&m->to, &first->to, family);
    for (uint32_t i = 0; i < count; i++) {
        /* What touches, as in the arena, is one piece for the kernel. */
        struct iovec *last = hdr->msg_hdr.msg_iovlen > 0 ? iov + hdr->msg_hdr.msg_iovlen - 1 : NULL;
        m->bytes += first[i].len;
        if (last != NULL && (const uint8_t *)last->iov_base + last->iov_len == first[i].data) {
            last->iov_len += first[i].len;
            continue;
        }
        iov[hdr->msg_hdr.msg_iovlen++] =
            (struct iovec){ .iov_base = (void *)(uintptr_t)first[i].data, .iov_len = first[i].len };
    }
    list->iov_count += (uint32_t)hdr->msg_hdr.msg_iovlen;
    if (count > 1) {
        struct cmsghdr *c = (void *)m->control;
        c->cmsg_level = IPPROTO_UDP;
        c->cmsg_type = UDP_SEGMENT;
        c->cmsg_len = CMSG_LEN(sizeof(uint16_t));
        memcpy(CMSG_DATA(c), &first->len, sizeof(uint16_t));
        hdr->msg_hdr.msg_control = c;
        hdr->msg_hdr.msg_controllen = sizeof m->control;
    }
}

static void count_sent(const tx_message *m, zr_stat_page *page)
{
    zr_stat_add(page, ZR_STAT_tx_sent, m->count);
    zr_stat_add(page, ZR_STAT_tx_bytes, m->bytes);
    zr_stat_add(page, ZR_STAT_tx_runs, 1);
    zr_stat_add(page, ZR_STAT_tx_gso_runs, m->count > 1);
    zr_hist_add(page, ZR_HIST_tx_run, m->count);
}

static void count_dropped(const tx_message *m, enum zr_drop_id why, zr_stat_page *page)
{
    zr_stat_bump(&page->drop[why], m->count);
}

static enum zr_drop_id drop_word(int error)
{
    switch (error) {
    case EMSGSIZE:
        return ZR_DROP_tx_oversize;
    case ECONNREFUSED:
    case ENETUNREACH:
    case EHOSTUNREACH:
    case ENETDOWN:
    case EHOSTDOWN:
    case EADDRNOTAVAIL:
    case EAFNOSUPPORT:
    case EDESTADDRREQ: /* no address that this socket's family can write */
    case EINVAL:
    case EPERM:
    case EACCES:
        return ZR_DROP_tx_refused;
    default:
        return ZR_DROP_tx_error;
    }
}

static void send_list(zr_udp_tx *tx, const zr_udp_sock *sock, tx_list *list, zr_stat_page *page);

/* A run that the kernel does not want in one piece. Its entries are messages of one, so this does not recur. */
static void send_single(zr_udp_tx *tx, const zr_udp_sock *sock, const tx_message *run, zr_stat_page *page)
{
    tx->single.count = tx->single.iov_count = 0;
    for (uint32_t i = 0; i < run->count; i++)
        list_append(&tx->single, run->first + i, 1, sock->family);
    send_list(tx, sock, &tx->single, page);
}

/* The first unsent message was refused. Returns how many messages are settled by that: 0 means try again. */
static uint32_t on_refused(zr_udp_tx *tx, const zr_udp_sock *sock, const tx_list *list, uint32_t at, int error,
                           int *tries, zr_stat_page *page)
{
    const tx_message *m = &list->messages[at];

    ZR_CHECK(error != EBADF && error != ENOTSOCK && error != EFAULT);
    if (error == EINTR)
        return 0;
    if ((error == EAGAIN || error == ECONNREFUSED) && (*tries)++ < TRIES_MAX)
        return 0;
    *tries = 0;
    if (error == EAGAIN) { /* the socket's buffer is full for all that follows, too */
        for (uint32_t i = at; i < list->count; i++)
            count_dropped(&list->messages[i], ZR_DROP_tx_again, page);
        return list->count - at;
    }
    if (m->count > 1 && (error == EIO || error == EINVAL || error == EMSGSIZE)) {
        gso_refused(tx, &m->first->to, page);
        send_single(tx, sock, m, page);
        return 1;
    }
    count_dropped(m, drop_word(error), page);
    return 1;
}

static void send_list(zr_udp_tx *tx, const zr_udp_sock *sock, tx_list *list, zr_stat_page *page)
{
    int tries = 0;

    for (uint32_t at = 0; at < list->count;) {
        uint32_t due = ZR_MIN(list->count - at, CALL_MAX);
        zr_stat_add(page, ZR_STAT_sys_sendmmsg, 1);
        int took = tx->calls->sendmmsg(sock->fd, list->hdrs + at, due, MSG_DONTWAIT);
        if (took <= 0) {
            at += on_refused(tx, sock, list, at, took == 0 ? EAGAIN : errno, &tries, page);
            continue;
        }
        tries = 0;
        for (uint32_t end = at + (uint32_t)took; at < end; at++)
            count_sent(&list->messages[at], page);
        zr_stat_add(page, ZR_STAT_tx_short, (uint32_t)took < due);
    }
    list->count = list->iov_count = 0;
}

/* All entries of `batch` from `first` on that leave by socket `number`. */
static void send_by(zr_udp_tx *tx, const zr_udp_sock *sock, uint16_t number, const zr_tx *first, const zr_tx *end,
                    zr_stat_page *page)
{
    for (const zr_tx *e = first; e < end;) {
        if (e->sock != number) {
            e++;
            continue;
        }
        uint32_t count = gso_allowed(tx, &e->to) ? run_length(e, end) : 1;
        if (sock == NULL || sock->fd < 0)
            zr_stat_bump(&page->drop[ZR_DROP_tx_error], count);
        else
            list_append(&tx->batch, e, count, sock->family);
        e += count;
    }
    if (tx->batch.count > 0)
        send_list(tx, sock, &tx->batch, page);
}

void zr_udp_send(zr_udp_tx *tx, const zr_udp_sock *socks, uint32_t sock_count, const zr_batch *batch,
                 zr_stat_page *page)
{
    const zr_tx *end = batch->tx + batch->count;

    ZR_CHECK(batch->count <= tx->entries_max);
    zr_stat_add(page, ZR_STAT_tx_due, batch->count);
    if (batch->count == 0)
        return;
    for (uint16_t number = ZR_SOCK_LINK; number < ZR_SOCK_INGRESS; number++)
        send_by(tx, number < sock_count ? &socks[number] : NULL, number, batch->tx, end, page);
    /* Ingress sockets carry a key frame request now and then: what stands together goes together. */
    for (const zr_tx *e = batch->tx; e < end;) {
        const zr_tx *stop = e + 1;
        while (stop < end && stop->sock == e->sock)
            stop++;
        if (e->sock >= ZR_SOCK_INGRESS)
            send_by(tx, e->sock < sock_count ? &socks[e->sock] : NULL, e->sock, e, stop, page);
        e = stop;
    }
}
