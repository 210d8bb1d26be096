/*
 * zr_udp_rx.h - many datagrams by one system call, into a few large areas.
 *
 *     while (budget-- > 0 && zr_udp_recv(rx, fd, page) > 0)
 *         while (zr_udp_next(rx, &dgram))
 *             ...                                    dgram.data is borrowed until the next zr_udp_recv
 *
 * An area takes what GRO has merged: a message of up to 64 KiB that is cut again into datagrams of `gso_size`, the last
 * one shorter. recvmmsg's timeout is never used: it is looked at only after a datagram came.
 */
#ifndef ZR_UDP_RX_H
#define ZR_UDP_RX_H

#include "net/zr_udp.h"
#include "stat/zr_stat.h"

#define ZR_UDP_AREA_BYTES 65536u

typedef struct zr_udp_rx zr_udp_rx;

typedef struct zr_udp_dgram {
    const uint8_t *data;
    uint32_t len;   /* 0 is a datagram too */
    bool truncated; /* longer than the area: what lies here is its beginning */
    zr_addr from;
    zr_ns_t stamp; /* when the kernel got it, wall clock; of the first one where GRO merged several. 0: not told */
} zr_udp_dgram;

/* `areas` messages per call, 1..1024, of `area_bytes` each (ZR_UDP_AREA_BYTES; tests take less). */
size_t zr_udp_rx_bytes(uint32_t areas, uint32_t area_bytes);
/* In `mem`, aligned to ZR_CACHELINE. NULL when a size is out of range. `calls` NULL: libc's. */
zr_udp_rx *zr_udp_rx_init(void *mem, uint32_t areas, uint32_t area_bytes, const zr_udp_calls *calls);

/* Messages received by one recvmmsg; 0: nothing there. Fewer than `areas`: the socket was empty then. Counts
 * sys_recvmmsg and rx_batch (in datagrams). */
int zr_udp_recv(zr_udp_rx *rx, int fd, zr_stat_page *page);
uint32_t zr_udp_rx_areas(const zr_udp_rx *rx);
/* The next datagram of the last zr_udp_recv, in order of arrival; false when all were given. */
bool zr_udp_next(zr_udp_rx *rx, zr_udp_dgram *dgram);

#endif
