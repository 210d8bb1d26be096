#include "net/zr_udp_rx.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <sys/uio.h>

#include "base/zr_err.h"

#define AREAS_MAX 1024u /* the kernel's own limit on one call */
#define TRIES_MAX 16    /* EINTR, and errors left by packets sent earlier */

typedef struct rx_area {
    struct sockaddr_storage from;
    struct iovec iov;
    uint32_t size; /* bytes of one datagram: what GRO says, else all of it */
    zr_ns_t stamp;
    alignas(struct cmsghdr) uint8_t control[CMSG_SPACE(sizeof(int)) + CMSG_SPACE(sizeof(struct timespec))];
} rx_area;

struct zr_udp_rx {
    const zr_udp_calls *calls;
    struct mmsghdr *msgs;
    rx_area *areas;
    uint32_t count, area_bytes;
    uint32_t filled, at; /* messages of the last call, and the one being given out */
    uint32_t off;        /* within it: next byte */
};

static size_t data_off(uint32_t areas)
{
    return zr_round_up(zr_round_up(sizeof(zr_udp_rx), ZR_CACHELINE) +
                           areas * (sizeof(struct mmsghdr) + sizeof(rx_area)),
                       ZR_CACHELINE);
}

size_t zr_udp_rx_bytes(uint32_t areas, uint32_t area_bytes)
{
    return data_off(areas) + (size_t)areas * area_bytes;
}

zr_udp_rx *zr_udp_rx_init(void *mem, uint32_t areas, uint32_t area_bytes, const zr_udp_calls *calls)
{
    if (areas == 0 || areas > AREAS_MAX || area_bytes == 0 || (uintptr_t)mem % ZR_CACHELINE != 0)
        return NULL;

    zr_udp_rx *rx = mem;
    uint8_t *data = (uint8_t *)mem + data_off(areas);
    *rx = (zr_udp_rx){ .calls = calls == NULL ? &zr_udp_libc : calls, .count = areas, .area_bytes = area_bytes };
    rx->areas = (void *)((uint8_t *)mem + zr_round_up(sizeof *rx, ZR_CACHELINE));
    rx->msgs = (void *)(rx->areas + areas);
    for (uint32_t i = 0; i < areas; i++) {
        rx_area *area = &rx->areas[i];
        area->iov = (struct iovec){ .iov_base = data + (size_t)i * area_bytes, .iov_len = area_bytes };
        rx->msgs[i] = (struct mmsghdr){
            .msg_hdr = { .msg_name = &area->from, .msg_iov = &area->iov, .msg_iovlen = 1, .msg_control = area->control }
        };
    }
    return rx;
}

uint32_t zr_udp_rx_areas(const zr_udp_rx *rx)
{
    return rx->count;
}

/* What the kernel says beside a message. Returns how many datagrams it is. */
static uint32_t look(struct mmsghdr *msg, rx_area *area)
{
    area->size = msg->msg_len;
    area->stamp = 0;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg->msg_hdr); c != NULL; c = CMSG_NXTHDR(&msg->msg_hdr, c)) {
        if (c->cmsg_level == IPPROTO_UDP && c->cmsg_type == UDP_GRO) {
            int size;
            memcpy(&size, CMSG_DATA(c), sizeof size);
            if (size > 0 && (uint32_t)size < msg->msg_len)
                area->size = (uint32_t)size;
        } else if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SO_TIMESTAMPNS) {
            struct timespec ts;
            memcpy(&ts, CMSG_DATA(c), sizeof ts);
            area->stamp = ZR_SEC(ts.tv_sec) + ts.tv_nsec;
        }
    }
    return area->size == 0 ? 1 : (msg->msg_len + area->size - 1) / area->size;
}

int zr_udp_recv(zr_udp_rx *rx, int fd, zr_stat_page *page)
{
    int got = -1;

    rx->filled = rx->at = rx->off = 0;
    for (int tries = 0; got < 0; tries++) {
        for (uint32_t i = 0; i < rx->count; i++) { /* the kernel writes these lengths */
            rx->msgs[i].msg_hdr.msg_namelen = sizeof(struct sockaddr_storage);
            rx->msgs[i].msg_hdr.msg_controllen = sizeof rx->areas[i].control;
        }
        zr_stat_add(page, ZR_STAT_sys_recvmmsg, 1);
        got = rx->calls->recvmmsg(fd, rx->msgs, rx->count, MSG_DONTWAIT, NULL);
        if (got < 0) {
            ZR_CHECK(errno != EBADF && errno != ENOTSOCK && errno != EFAULT);
            /* Others than EAGAIN tell of packets sent earlier (ECONNREFUSED ...) and are gone once told. */
            if (errno == EAGAIN || tries == TRIES_MAX)
                return 0;
        }
    }
    rx->filled = (uint32_t)got;
    uint64_t count = 0;
    for (uint32_t i = 0; i < rx->filled; i++)
        count += look(&rx->msgs[i], &rx->areas[i]);
    if (count > 0)
        zr_hist_add(page, ZR_HIST_rx_batch, count);
    return got;
}

bool zr_udp_next(zr_udp_rx *rx, zr_udp_dgram *dgram)
{
    if (rx->at == rx->filled)
        return false;

    struct mmsghdr *msg = &rx->msgs[rx->at];
    const rx_area *area = &rx->areas[rx->at];
    uint32_t len = ZR_MIN(area->size, msg->msg_len - rx->off);
    *dgram = (zr_udp_dgram){
        .data = (const uint8_t *)area->iov.iov_base + rx->off,
        .len = len,
        .truncated = (msg->msg_hdr.msg_flags & MSG_TRUNC) != 0 && rx->off + len == msg->msg_len,
        .from = zr_udp_from_sockaddr(&area->from),
        .stamp = area->stamp,
    };
    rx->off += len;
    if (rx->off >= msg->msg_len) { /* also after an empty one */
        rx->at++;
        rx->off = 0;
    }
    return true;
}
