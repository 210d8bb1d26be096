#include "net/zr_fdpass.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/zr_err.h"

#define FDS_MAX 253 /* the kernel's SCM_MAX_FD: whatever is sent arrives, and can be closed */

/* How many descriptors came; the first one is kept in *fd, the others are closed. */
static int take_fds(struct msghdr *msg, int *fd)
{
    int count = 0;

    *fd = -1;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c != NULL; c = CMSG_NXTHDR(msg, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        size_t here = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < here; i++, count++) {
            int got;
            memcpy(&got, CMSG_DATA(c) + i * sizeof(int), sizeof got);
            if (count == 0)
                *fd = got;
            else
                close(got);
        }
    }
    return count;
}

/* One message of at most `bytes`: its length, or an error. *fd, *count: as take_fds; *cut: the control data too. */
static ssize_t receive(int sock, void *to, size_t bytes, int *fd, int *count, bool *cut)
{
    alignas(struct cmsghdr) uint8_t control[CMSG_SPACE(FDS_MAX * sizeof(int))];
    struct iovec iov = { .iov_base = to, .iov_len = bytes };
    struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control };
    ssize_t len;

    do
        len = recvmsg(sock, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    while (len < 0 && errno == EINTR);
    if (len < 0)
        return errno == EAGAIN ? ZR_E_again : errno == ECONNRESET ? ZR_E_closed : ZR_E_os;
    *count = take_fds(&msg, fd);
    *cut = (msg.msg_flags & MSG_CTRUNC) != 0;
    if (len == 0 && *count == 0)
        return ZR_E_closed;
    return (msg.msg_flags & MSG_TRUNC) != 0 ? 0 : len;
}

int zr_fdpass_recv(int sock, zr_fdpass *message)
{
    int fd, count;
    bool cut;
    ssize_t len = receive(sock, message, sizeof *message, &fd, &count, &cut);

    if (len < 0)
        return (int)len;
    bool good = len == sizeof *message && message->magic == ZR_FDPASS_MAGIC && message->op == ZR_FDPASS_INGRESS;
    if (good && count == 0 && cut)
        return ZR_E_nomem;
    if (!good || count != 1 || cut) {
        if (fd >= 0)
            close(fd);
        return ZR_E_malformed;
    }
    return fd;
}

int zr_fdpass_order(int sock, zr_order *order)
{
    int fd, count;
    bool cut;
    ssize_t len = receive(sock, order, sizeof *order, &fd, &count, &cut);

    if (len < 0)
        return (int)len;
    if (fd >= 0)
        close(fd);
    return len == sizeof *order && count == 0 && !cut && order->magic == ZR_FDPASS_MAGIC &&
                   order->op == ZR_FDPASS_BECOME && order->fresh <= 1 && order->pad == 0
               ? ZR_OK
               : ZR_E_malformed;
}

int zr_fdpass_up(int sock, uint16_t role)
{
    zr_fdpass message = { .magic = ZR_FDPASS_MAGIC, .op = ZR_FDPASS_UP, .slot = role };
    return send(sock, &message, sizeof message, MSG_DONTWAIT | MSG_NOSIGNAL) == sizeof message ? ZR_OK : ZR_E_os;
}
