/*
 * zr_many.h - one recvmmsg into a few areas, with what GRO says of each message. For the sinks and the bare forwarders:
 * the yardstick shares no receive path with what it measures (net/zr_udp_rx.h).
 */
#ifndef ZR_MANY_H
#define ZR_MANY_H

#include <sys/socket.h>
#include <sys/uio.h>

#include "base/zr_base.h"

#define ZR_MANY_AREAS      16u
#define ZR_MANY_AREA_BYTES 65536u

typedef struct zr_many {
    struct mmsghdr msgs[ZR_MANY_AREAS];
    struct iovec iovs[ZR_MANY_AREAS];
    alignas(struct cmsghdr) uint8_t control[ZR_MANY_AREAS][CMSG_SPACE(sizeof(int))];
    uint32_t segment[ZR_MANY_AREAS]; /* bytes of a datagram in message i; the last one of it may be shorter */
} zr_many;

/* `data`: ZR_MANY_AREAS * ZR_MANY_AREA_BYTES. */
void zr_many_init(zr_many *many, uint8_t *data);
/* Messages, or 0: nothing there, interrupted, or an error left by a packet sent earlier. flags: of recvmmsg. */
int zr_many_recv(zr_many *many, int fd, int flags);

#endif
