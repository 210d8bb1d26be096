#include "worker/zr_spare.h"

#include "chan_mem.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/zr_err.h"
#include "fd_send.h"
#include "net/zr_fdpass.h"
#include "time/zr_clock.h"

#define STREAMS 8u
#define SLOTS   64u

/* A spare over scratch memory of its own, and the two ends of its socket. */
typedef struct standby {
    zr_worker_conf conf;
    zr_stat_page *page;
    zr_chan *chan;
    zr_worker *worker;
    void *mem;
    int ours, theirs;
} standby;

static standby standby_open(void)
{
    standby s = { .conf = zr_worker_conf_default(0, STREAMS) };
    int pair[2];

    s.conf.fwd.pkts_max = 256;
    s.conf.fwd.cache_max = 64;
    s.conf.batch = 8;
    CHECK_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    s.ours = pair[0];
    s.theirs = pair[1];
    s.page = zr_test_memory(zr_stat_bytes(STREAMS));
    s.chan = zr_test_chan(SLOTS, sizeof(zr_cmd));
    CHECK_EQ(zr_stat_init(s.page, STREAMS), ZR_OK);
    s.mem = zr_test_memory(zr_worker_bytes(&s.conf));
    s.worker = zr_worker_init(s.mem, &s.conf, s.page, s.chan, zr_clock_now());
    CHECK(s.worker != NULL);
    return s;
}

static void standby_close(standby *s)
{
    zr_worker_fini(s->worker);
    close(s->ours);
    if (s->theirs >= 0)
        close(s->theirs);
    free(s->mem);
    free(s->page);
    free(s->chan);
}

static int open_fds(void)
{
    int count = 0;
    for (int fd = 0; fd < 1024; fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

ZR_TEST(a_spare_takes_one_right_order_and_closes_with_whoever_sends_anything_else)
{
    static const struct {
        zr_order order;
        size_t len;
        int fds;
    } cases[] = {
        { { ZR_FDPASS_MAGIC, ZR_FDPASS_BECOME, 0, 1, 0, 0, 0 }, 15, 0 },
        { { ZR_FDPASS_MAGIC + 1, ZR_FDPASS_BECOME, 0, 1, 0, 0, 0 }, 16, 0 },
        { { ZR_FDPASS_MAGIC, 99, 0, 1, 0, 0, 0 }, 16, 0 },
        { { ZR_FDPASS_MAGIC, ZR_FDPASS_INGRESS, 0, 1, 0, 0, 0 }, 16, 0 },
        { { ZR_FDPASS_MAGIC, ZR_FDPASS_BECOME, 1, 1, 0, 0, 0 }, 16, 0 }, /* there is one role */
        { { ZR_FDPASS_MAGIC, ZR_FDPASS_BECOME, 0, 1, 0, 2, 0 }, 16, 0 },
        { { ZR_FDPASS_MAGIC, ZR_FDPASS_BECOME, 0, 1, 0, 0, 1 }, 16, 0 },
        { { ZR_FDPASS_MAGIC, ZR_FDPASS_BECOME, 0, 1, 0, 0, 0 }, 16, 1 },
        { { ZR_FDPASS_MAGIC, ZR_FDPASS_BECOME, 0, 1, 0, 0, 0 }, 16, 17 },
    };
    static uint8_t much[70000];
    zr_role role = { .fds = { -1, -1, -1, -1, -1 } };

    for (size_t c = 0; c <= ZR_LEN(cases); c++) {
        standby s = standby_open();
        role.page = s.page; /* never moved: no order gets that far */
        int before = open_fds();
        if (c < ZR_LEN(cases)) {
            fd_send(s.theirs, &cases[c].order, cases[c].len, cases[c].fds, s.theirs);
        } else {
            memcpy(much, &cases[0].order, 16);
            fd_send(s.theirs, much, sizeof much, 0, s.theirs);
        }
        CHECK_EQ(zr_spare_stand_by(s.worker, s.ours, &role, 1), ZR_E_malformed);
        CHECK_EQ(open_fds(), before);
        CHECK_EQ(send(s.theirs, much, 8, MSG_NOSIGNAL), -1);
        CHECK_EQ(errno, EPIPE);
        standby_close(&s);
    }
    standby s = standby_open();
    close(s.theirs);
    s.theirs = -1;
    CHECK_EQ(zr_spare_stand_by(s.worker, s.ours, &role, 1), ZR_E_closed);
    standby_close(&s);
}
