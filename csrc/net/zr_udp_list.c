/* A batch as messages. The way of a packet to most of its subscribers is add_copy: keep it short. */
#include <netinet/in.h>
#include <netinet/udp.h>

#include "net/zr_udp_tx_priv.h"

typedef struct filling { /* one call of zr_udp_list_fill */
    tx_list *list;
    zr_udp_routes *routes;
    const zr_udp_sock *sock;
    zr_stat_page *page;
    zr_ns_t now;
    uint32_t dropped;
} filling;

size_t zr_udp_list_bytes(uint32_t dgrams)
{
    return zr_round_up(dgrams * (sizeof(struct mmsghdr) + sizeof(tx_message) + sizeof(struct iovec)), ZR_CACHELINE);
}

tx_list zr_udp_list_at(void *mem, uint32_t dgrams)
{
    tx_list list = { .messages = mem };

    list.hdrs = (void *)(list.messages + dgrams);
    list.iovs = (void *)(list.hdrs + dgrams);
    return list;
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

/* What touches, as in the arena, is one piece for the kernel. Returns the number of pieces. */
static uint32_t put_iovs(struct iovec *iov, const zr_tx *first, uint32_t count, uint32_t *bytes)
{
    uint32_t pieces = 0;

    *bytes = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct iovec *last = pieces > 0 ? iov + pieces - 1 : NULL;
        *bytes += first[i].len;
        if (last != NULL && (const uint8_t *)last->iov_base + last->iov_len == first[i].data) {
            last->iov_len += first[i].len;
            continue;
        }
        iov[pieces++] = (struct iovec){ .iov_base = (void *)(uintptr_t)first[i].data, .iov_len = first[i].len };
    }
    return pieces;
}

/* One message. False, and nothing appended, when a socket of this family cannot name the destination. */
static bool append(tx_list *list, const zr_tx *first, uint32_t count, const zr_addr *to, uint8_t family)
{
    tx_message *m = &list->messages[list->count];
    struct mmsghdr *hdr = &list->hdrs[list->count];
    struct iovec *iov = &list->iovs[list->iov_count];
    socklen_t name_len = zr_udp_to_sockaddr(m->name, to, family);

    if (name_len == 0)
        return false;
    m->first = first;
    m->to = to;
    m->count = count;
    hdr->msg_hdr = (struct msghdr){ .msg_name = m->name, .msg_namelen = name_len, .msg_iov = iov };
    hdr->msg_hdr.msg_iovlen = put_iovs(iov, first, count, &m->bytes);
    list->iov_count += (uint32_t)hdr->msg_hdr.msg_iovlen;
    list->count++;
    if (count > 1) {
        struct cmsghdr *c = (void *)m->control;
        c->cmsg_level = IPPROTO_UDP;
        c->cmsg_type = UDP_SEGMENT;
        c->cmsg_len = CMSG_LEN(sizeof(uint16_t));
        memcpy(CMSG_DATA(c), &first->len, sizeof(uint16_t));
        hdr->msg_hdr.msg_control = c;
        hdr->msg_hdr.msg_controllen = sizeof m->control;
    }
    return true;
}

void zr_udp_list_split(tx_list *list, const tx_message *run, uint8_t family)
{
    zr_udp_list_clear(list);
    for (uint32_t i = 0; i < run->count; i++) {
        bool named = append(list, run->first + i, 1, run->to, family);
        ZR_CHECK(named); /* the run was */
    }
}

static void drop(filling *f, uint32_t count, enum zr_drop_id why)
{
    zr_stat_bump(&f->page->drop[why], count);
    f->dropped += count;
}

/* Entries of one destination. */
static void add_run(filling *f, const zr_tx *first, uint32_t count, const zr_addr *to)
{
    if (f->sock == NULL || f->sock->fd < 0)
        drop(f, count, ZR_DROP_tx_error);
    else if (zr_udp_is_down(f->routes, to, f->now))
        drop(f, count, ZR_DROP_tx_skipped);
    else if (!append(f->list, first, count, to, f->sock->family))
        drop(f, count, ZR_DROP_tx_refused);
}

/* first .. end, of this socket or not; to NULL: each entry's own destination. */
static void add_stretch(filling *f, uint16_t number, const zr_tx *first, const zr_tx *end, const zr_addr *to)
{
    for (const zr_tx *e = first; e < end;) {
        if (e->sock != number) {
            e++;
            continue;
        }
        const zr_addr *where = to == NULL ? &e->to : to;
        uint32_t count = zr_udp_gso_allowed(f->routes, where) ? run_length(e, end) : 1;
        add_run(f, e, count, where);
        e += count;
    }
}

/* The messages from..end of the list once more, for somebody else. */
static void add_copies(filling *f, uint32_t from, uint32_t end, const zr_addr *to, uint32_t dgrams)
{
    tx_list *list = f->list;
    socklen_t name_len = zr_udp_to_sockaddr(list->messages[list->count].name, to, f->sock->family);

    if (name_len == 0) {
        drop(f, dgrams, ZR_DROP_tx_refused);
        return;
    }
    const uint8_t *name = list->messages[list->count].name; /* one for all of them */
    for (uint32_t i = from; i < end; i++) {
        const tx_message *model = &list->messages[i];
        tx_message *m = &list->messages[list->count];
        struct mmsghdr *hdr = &list->hdrs[list->count++];
        m->first = model->first;
        m->to = to;
        m->count = model->count;
        m->bytes = model->bytes;
        hdr->msg_hdr = list->hdrs[i].msg_hdr;
        hdr->msg_hdr.msg_name = (void *)(uintptr_t)name;
        hdr->msg_hdr.msg_namelen = name_len;
    }
}

/* Entries that many destinations get. */
static const zr_fan *add_fans(filling *f, uint16_t number, const zr_batch *batch, const zr_fan *fan)
{
    const zr_fan *end = batch->fans + batch->fan_count;
    const zr_tx *first = batch->tx + fan->first, *stop = first + fan->count;
    uint32_t at = fan->first, from = f->list->count, dropped = f->dropped;

    if (first->sock != number) {
        while (fan < end && fan->first == at)
            fan++;
        return fan;
    }
    add_stretch(f, number, first, stop, NULL);
    uint32_t built = f->list->count;
    bool alike = f->dropped == dropped && f->routes->no_gso_count == 0 && f->routes->down_count == 0;
    for (; fan < end && fan->first == at; fan++) {
        if (alike)
            add_copies(f, from, built, &fan->to, fan->count);
        else
            add_stretch(f, number, first, stop, &fan->to);
    }
    return fan;
}

uint32_t zr_udp_list_fill(tx_list *list, zr_udp_routes *routes, const zr_udp_sock *sock, uint16_t number,
                          const zr_batch *batch, zr_stat_page *page, zr_ns_t now)
{
    filling f = { .list = list, .routes = routes, .sock = sock, .page = page, .now = now };
    const zr_fan *fan = batch->fans, *fans_end = fan + batch->fan_count;
    const zr_tx *e = batch->tx, *end = e + batch->count;

    zr_udp_list_clear(list);
    while (e < end) {
        const zr_tx *fanned = fan < fans_end ? batch->tx + fan->first : end;
        add_stretch(&f, number, e, fanned, NULL);
        e = fanned;
        if (fan < fans_end) {
            e += fan->count;
            fan = add_fans(&f, number, batch, fan);
        }
    }
    return f.dropped;
}
