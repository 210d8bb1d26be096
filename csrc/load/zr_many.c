#include "load/zr_many.h"

#include <netinet/in.h>
#include <netinet/udp.h>
#include <string.h>

void zr_many_init(zr_many *many, uint8_t *data)
{
    memset(many, 0, sizeof *many);
    for (uint32_t i = 0; i < ZR_MANY_AREAS; i++) {
        many->iovs[i] = (struct iovec){ .iov_base = data + i * ZR_MANY_AREA_BYTES, .iov_len = ZR_MANY_AREA_BYTES };
        many->msgs[i].msg_hdr =
            (struct msghdr){ .msg_iov = &many->iovs[i], .msg_iovlen = 1, .msg_control = many->control[i] };
    }
}

static uint32_t segment_of(const struct mmsghdr *msg)
{
    const struct cmsghdr *c = CMSG_FIRSTHDR(&msg->msg_hdr);
    int size = 0;

    if (c != NULL && c->cmsg_level == IPPROTO_UDP && c->cmsg_type == UDP_GRO)
        memcpy(&size, CMSG_DATA(c), sizeof size);
    return size > 0 ? (uint32_t)size : msg->msg_len;
}

int zr_many_recv(zr_many *many, int fd, int flags)
{
    for (uint32_t i = 0; i < ZR_MANY_AREAS; i++) /* the kernel writes them */
        many->msgs[i].msg_hdr.msg_controllen = sizeof many->control[i];

    int got = recvmmsg(fd, many->msgs, ZR_MANY_AREAS, flags, NULL);
    for (int i = 0; i < got; i++)
        many->segment[i] = segment_of(&many->msgs[i]);
    return got < 0 ? 0 : got;
}
