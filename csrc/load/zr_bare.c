#include "load/zr_bare.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <string.h>

#include "base/zr_err.h"
#include "load/zr_many.h"
#include "net/zr_udp.h"

#define RUN_SEGMENTS_MAX 64u
#define RUN_BYTES_MAX    65000u
#define CALL_MAX         1024u /* messages the kernel looks at in one call */

/* A run of the last call: the areas' bytes, one message for every destination. */
typedef struct run {
    struct iovec iovs[ZR_MANY_AREAS];
    uint32_t areas, segment, bytes;
    bool closed; /* ended with a shorter datagram */
} run;

struct zr_bare {
    int fd;
    bool segment;
    uint32_t to_count;
    alignas(struct cmsghdr) uint8_t control[CMSG_SPACE(sizeof(uint16_t))];
    zr_many many;
    run run;
    struct mmsghdr *msgs; /* of a run: one for each destination */
    struct sockaddr_storage *to;
};

static size_t lay_out(uint32_t to_count, size_t at[3])
{
    const size_t bytes[3] = { to_count * sizeof(struct mmsghdr), to_count * sizeof(struct sockaddr_storage),
                              (size_t)ZR_MANY_AREAS * ZR_MANY_AREA_BYTES };
    return zr_lay_out(sizeof(zr_bare), bytes, 3, at);
}

size_t zr_bare_bytes(uint32_t to_count)
{
    size_t at[3];
    return to_count > 0 && to_count <= ZR_BARE_TO_MAX ? lay_out(to_count, at) : 0;
}

static bool make_blocking(int fd)
{
    int flags = fcntl(fd, F_GETFL);
    return flags >= 0 && fcntl(fd, F_SETFL, flags & ~O_NONBLOCK) == 0;
}

zr_bare *zr_bare_init(void *mem, int fd, const zr_addr *to, uint32_t to_count, bool segment)
{
    zr_bare *bare = mem;
    uint8_t *base = mem;
    zr_udp_sock sock;
    size_t at[3];

    if (zr_bare_bytes(to_count) == 0 || (uintptr_t)mem % ZR_CACHELINE != 0 || zr_udp_sock_of(&sock, fd) != ZR_OK ||
        !make_blocking(fd))
        return NULL;
    lay_out(to_count, at);
    memset(mem, 0, at[2]);
    bare->fd = fd;
    bare->segment = segment;
    bare->to_count = to_count;
    bare->msgs = (void *)(base + at[0]);
    bare->to = (void *)(base + at[1]);
    zr_many_init(&bare->many, base + at[2]);
    struct cmsghdr *c = (void *)bare->control;
    c->cmsg_level = IPPROTO_UDP;
    c->cmsg_type = UDP_SEGMENT;
    c->cmsg_len = CMSG_LEN(sizeof(uint16_t));
    for (uint32_t i = 0; i < to_count; i++) {
        socklen_t len = zr_udp_to_sockaddr(&bare->to[i], &to[i], sock.family);
        if (len == 0)
            return NULL;
        bare->msgs[i].msg_hdr = (struct msghdr){ .msg_name = &bare->to[i], .msg_namelen = len };
    }
    return bare;
}

/* As few sendmmsg as it takes; what the kernel refuses is lost, and seen as such by the sinks. */
static void send_all(zr_bare *bare, struct mmsghdr *msgs, uint32_t count)
{
    for (uint32_t done = 0; done < count;) {
        int rc = sendmmsg(bare->fd, msgs + done, ZR_MIN(count - done, CALL_MAX), 0);
        if (rc < 0 && (errno == EINTR || errno == ECONNREFUSED))
            continue;
        done += rc > 0 ? (uint32_t)rc : 1;
    }
}

static void send_run(zr_bare *bare)
{
    run *r = &bare->run;
    uint16_t segment = (uint16_t)r->segment;

    if (r->areas == 0)
        return;
    memcpy(CMSG_DATA((struct cmsghdr *)(void *)bare->control), &segment, sizeof segment);
    for (uint32_t i = 0; i < bare->to_count; i++) {
        struct msghdr *msg = &bare->msgs[i].msg_hdr;
        msg->msg_iov = r->iovs;
        msg->msg_iovlen = r->areas;
        msg->msg_control = r->bytes > r->segment ? bare->control : NULL;
        msg->msg_controllen = r->bytes > r->segment ? sizeof bare->control : 0;
    }
    send_all(bare, bare->msgs, bare->to_count);
    r->areas = r->bytes = 0;
    r->closed = false;
}

/* Equal sizes, the last may be shorter. */
static bool joins(const run *r, uint32_t segment, uint32_t bytes)
{
    bool fits = segment == r->segment || (segment == bytes && bytes < r->segment);

    return r->areas > 0 && !r->closed && bytes > 0 && fits && r->bytes + bytes <= RUN_BYTES_MAX &&
           (r->bytes + bytes + r->segment - 1) / r->segment <= RUN_SEGMENTS_MAX;
}

static int forward_runs(zr_bare *bare, int got)
{
    run *r = &bare->run;
    uint32_t count = 0;

    for (int i = 0; i < got; i++) {
        uint32_t bytes = bare->many.msgs[i].msg_len, segment = bare->many.segment[i];
        if (!joins(r, segment, bytes))
            send_run(bare);
        if (r->areas == 0)
            r->segment = segment;
        r->iovs[r->areas++] = (struct iovec){ .iov_base = bare->many.iovs[i].iov_base, .iov_len = bytes };
        r->bytes += bytes;
        r->closed = r->segment == 0 || bytes % r->segment != 0;
        count += segment == 0 ? 1 : (bytes + segment - 1) / segment;
    }
    send_run(bare);
    return (int)count;
}

static int forward_singles(zr_bare *bare, int got)
{
    for (uint32_t to = 0; to < bare->to_count; to++) {
        struct mmsghdr msgs[ZR_MANY_AREAS];
        struct iovec iovs[ZR_MANY_AREAS];
        for (int i = 0; i < got; i++) {
            iovs[i] = (struct iovec){ .iov_base = bare->many.iovs[i].iov_base, .iov_len = bare->many.msgs[i].msg_len };
            msgs[i].msg_hdr = (struct msghdr){ .msg_name = bare->msgs[to].msg_hdr.msg_name,
                                               .msg_namelen = bare->msgs[to].msg_hdr.msg_namelen,
                                               .msg_iov = &iovs[i],
                                               .msg_iovlen = 1 };
        }
        send_all(bare, msgs, (uint32_t)got);
    }
    return got;
}

int zr_bare_turn(zr_bare *bare, bool wait)
{
    int got = zr_many_recv(&bare->many, bare->fd, wait ? MSG_WAITFORONE : MSG_DONTWAIT);
    return bare->segment ? forward_runs(bare, got) : forward_singles(bare, got);
}

_Noreturn void zr_bare_run(zr_bare *bare)
{
    for (;;)
        (void)zr_bare_turn(bare, true);
}
