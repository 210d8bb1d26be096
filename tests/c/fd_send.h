/* fd_send.h - a message with descriptors, as a supervisor sends it, or one that it would never send. */
#ifndef FD_SEND_H
#define FD_SEND_H

#include <stdalign.h>
#include <sys/socket.h>

#include "zr_test.h"

enum { FD_SEND_MAX = 32 };

/* `len` bytes and the same descriptor `fds` times. */
static inline void fd_send(int sock, const void *data, size_t len, int fds, int fd)
{
    alignas(struct cmsghdr) uint8_t control[CMSG_SPACE(FD_SEND_MAX * sizeof(int))] = { 0 };
    struct iovec iov = { .iov_base = (void *)(uintptr_t)data, .iov_len = len };
    struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

    if (fds > 0) {
        msg.msg_control = control;
        msg.msg_controllen = CMSG_SPACE((size_t)fds * sizeof(int));
        struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN((size_t)fds * sizeof(int));
        for (int i = 0; i < fds; i++)
            memcpy(CMSG_DATA(c) + (size_t)i * sizeof(int), &fd, sizeof fd);
    }
    CHECK_EQ(sendmsg(sock, &msg, MSG_NOSIGNAL), (long long)len);
}

#endif
