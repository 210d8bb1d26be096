/*
 * worker_rig.h - a worker whose every other end is the test's: the agent's of its channel, the supervisor's of its
 * socket, a publisher and whoever subscribes. It takes turns when it is told to.
 */
#ifndef WORKER_RIG_H
#define WORKER_RIG_H

#include "chan_mem.h"

#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/zr_bytes.h"
#include "base/zr_err.h"
#include "net/zr_fdpass.h"
#include "time/zr_clock.h"
#include "wire/zr_codec.h"
#include "worker/zr_worker.h"

#define STREAMS 8u
#define SLOTS   64u

static const zr_addr loopback = { .ip = { 127, 0, 0, 1 }, .family = 4 };

/* A worker with sockets of its own on loopback, and the agent's end of its channel. */
typedef struct rig {
    zr_worker_conf conf;
    zr_stat_page *page;
    zr_chan *chan;
    zr_worker *worker;
    void *mem;
    int supervisor, client; /* our end of the fd-pass pair; a publisher's or subscriber's socket */
    int ingress;            /* slot 0's socket as the publisher sees it */
    zr_addr ingress_at;
} rig;

static inline zr_addr bound(int fd)
{
    zr_addr addr;
    CHECK_EQ(zr_udp_bound(fd, &addr), ZR_OK);
    return addr;
}

static inline rig rig_open_with(const zr_udp_calls *calls, zr_ns_t hold)
{
    rig r = { .conf = zr_worker_conf_default(0, STREAMS) };
    int pair[2];

    r.conf.calls = calls;
    r.conf.hold = hold;

    r.conf.fwd.pkts_max = 256;
    r.conf.fwd.cache_max = 64;
    r.conf.batch = 8;
    r.conf.fds.link = zr_udp_open(&loopback, 0, 0, 0);
    r.conf.fds.egress = zr_udp_open(&loopback, 0, 0, 0);
    r.conf.fds.wake = eventfd(0, EFD_NONBLOCK);
    r.conf.fds.agent_wake = eventfd(0, EFD_NONBLOCK);
    CHECK_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
    r.conf.fds.fdpass = pair[0];
    r.supervisor = pair[1];
    r.client = zr_udp_open(&loopback, 0, 0, 0);
    r.page = zr_test_memory(zr_stat_bytes(STREAMS));
    r.chan = zr_test_chan(SLOTS, sizeof(zr_cmd));
    CHECK_EQ(zr_stat_init(r.page, STREAMS), ZR_OK);
    r.mem = zr_test_memory(zr_worker_bytes(&r.conf));
    r.worker = zr_worker_init(r.mem, &r.conf, r.page, r.chan, zr_clock_now());
    CHECK(r.worker != NULL);
    CHECK_EQ(r.page->pid, getpid());
    return r;
}

static inline rig rig_open(void)
{
    return rig_open_with(NULL, 0);
}

static inline void rig_close(rig *r)
{
    for (int i = 0; i < ZR_LEDGER_COUNT; i++)
        CHECK_EQ(zr_ledger_off(r->page, (enum zr_ledger)i), 0);
    CHECK(zr_fwd_check(zr_worker_fwd(r->worker)));
    zr_worker_fini(r->worker);
    close(r->conf.fds.link);
    close(r->conf.fds.egress);
    close(r->conf.fds.wake);
    close(r->conf.fds.agent_wake);
    close(r->conf.fds.fdpass);
    close(r->supervisor);
    close(r->client);
    free(r->mem);
    free(r->page);
    free(r->chan);
}

static inline void post(rig *r, zr_cmd cmd)
{
    zr_cmd *slot = zr_spsc_claim(zr_chan_commands(r->chan));
    CHECK(slot != NULL);
    *slot = cmd;
    zr_spsc_commit(zr_chan_commands(r->chan));
}

/* Turns until nothing is left to do. */
static inline void turns(rig *r)
{
    for (int i = 0; i < 50; i++) {
        zr_ns_t now = zr_clock_now();
        int work = zr_worker_turn(r->worker, now);
        zr_worker_rest(r->worker, ZR_NEVER - 1, 0); /* deadline passed: only looks */
        work += zr_worker_turn(r->worker, now);
        if (work == 0)
            return;
    }
}

static inline void pass_ingress(rig *r, uint16_t slot, int fd)
{
    alignas(struct cmsghdr) uint8_t control[CMSG_SPACE(sizeof(int))] = { 0 };
    zr_fdpass message = { ZR_FDPASS_MAGIC, ZR_FDPASS_INGRESS, slot };
    struct iovec iov = { .iov_base = &message, .iov_len = sizeof message };
    struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control };
    struct cmsghdr *c = CMSG_FIRSTHDR(&msg);

    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(c), &fd, sizeof fd);
    CHECK_EQ(sendmsg(r->supervisor, &msg, 0), sizeof message);
    close(fd);
}

static inline void open_stream(rig *r, const zr_addr *subscriber)
{
    int fd = zr_udp_open(&loopback, 0, 0, ZR_UDP_GRO);

    r->ingress_at = bound(fd);
    post(r, (zr_cmd){ .op = ZR_CMD_stream_open, .a = 0, .b = 1, .x = 1 });
    post(r, (zr_cmd){ .op = ZR_CMD_stream_track, .a = 0, .b = 0, .c = ZR_CODEC_opus << 8 | 96u << 16, .d = 48000 });
    post(r, (zr_cmd){ .op = ZR_CMD_ingress_bind, .a = 0, .b = 0, .c = 1 });
    post(r, (zr_cmd){ .op = ZR_CMD_sub_add, .a = 0, .b = 0, .c = 1, .d = 255 | 255 << 8, .addr = *subscriber });
    pass_ingress(r, 0, fd);
    turns(r);
}

static inline void publish(rig *r, uint16_t seq, size_t payload)
{
    uint8_t rtp[2000] = { 0x80, 96 };
    struct sockaddr_storage to;
    socklen_t len = zr_udp_to_sockaddr(&to, &r->ingress_at, 4);

    zr_put16be(rtp + 2, seq);
    zr_put32be(rtp + 8, 7);
    CHECK_EQ(sendto(r->client, rtp, 12 + payload, 0, (struct sockaddr *)&to, len), (long long)(12 + payload));
}

static inline uint64_t stat_of(const rig *r, enum zr_stat_id id)
{
    return atomic_load(&r->page->stat[id]);
}

static inline uint64_t drops_of(const rig *r, enum zr_drop_id id)
{
    return atomic_load(&r->page->drop[id]);
}

#endif
