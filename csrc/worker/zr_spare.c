#include "worker/zr_spare.h"

#include <errno.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/zr_err.h"
#include "mem/zr_shm.h"
#include "net/zr_fdpass.h"
#include "time/zr_clock.h"
#include "worker/zr_worker_priv.h"

#define SOCKET_WAIT_MS 1000 /* the sockets were sent right behind the order */
#define HOT_PACKETS    4096u

static bool readable(int fd, int other, int timeout_ms)
{
    struct pollfd fds[2] = { { .fd = fd, .events = POLLIN }, { .fd = other, .events = POLLIN } };
    int rc;

    do
        rc = poll(fds, 2, timeout_ms);
    while (rc < 0 && errno == EINTR);
    return rc > 0 && fds[0].revents != 0;
}

/* The worker's pointers stay what they are: what they point to is the role's from here on. */
static int move_in(zr_worker *w, zr_role *role)
{
    size_t page_bytes = zr_stat_bytes(w->page->streams_max);
    size_t chan_bytes = zr_chan_bytes(w->chan->commands.mask + 1, sizeof(zr_cmd));

    zr_chan there;

    if (zr_stat_look(role->page, page_bytes) != ZR_OK ||
        zr_chan_look(&there, role->chan, chan_bytes, sizeof(zr_cmd)) != ZR_OK)
        return ZR_E_version;
    if (zr_shm_move(role->page, w->page, page_bytes) != ZR_OK ||
        zr_shm_move(role->chan, w->chan->mem, chan_bytes) != ZR_OK)
        return ZR_E_os;
    role->page = NULL;
    role->chan = NULL;
    int rc = zr_stat_attach(w->page, page_bytes);
    return rc == ZR_OK ? zr_chan_attach(w->chan, w->chan->mem, chan_bytes, sizeof(zr_cmd)) : rc;
}

static size_t journal_bytes(const zr_worker *w)
{
    const zr_fwd_conf *conf = &w->conf.fwd;
    return zr_journal_bytes(conf->streams_max, conf->ingress_max, conf->subs_max);
}

/* Nothing of the one before counts: neither what it held nor what it had not read yet. */
static void begin_fresh(zr_worker *w, zr_journal *journal)
{
    if (journal != NULL)
        zr_journal_clear(journal);
    while (zr_spsc_peek(zr_chan_commands(w->chan)) != NULL)
        zr_spsc_release(zr_chan_commands(w->chan));
}

static int take_sockets(zr_worker *w, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        if (!readable(w->fdpass, -1, SOCKET_WAIT_MS) || zr_worker_adopt_ingress(w) == 0)
            return ZR_E_malformed;
    }
    return ZR_OK;
}

static int become(zr_worker *w, zr_role *role, const zr_order *order)
{
    zr_ns_t now = zr_clock_now();
    int sock = w->conf.fds.fdpass, rc = move_in(w, role);

    if (rc != ZR_OK)
        return rc;
    w->conf.fds = role->fds;
    w->conf.fds.fdpass = w->fdpass = sock;
    if (role->journal != NULL && (rc = zr_journal_attach(role->journal, journal_bytes(w))) != ZR_OK)
        return rc;
    if (order->fresh)
        begin_fresh(w, role->journal);
    zr_fwd_become(w->fwd, role->lane, order->epoch, role->journal, now);
    if (!zr_worker_meet_peers(w)) /* before the journal speaks of them */
        return ZR_E_version;
    (void)zr_fwd_replay(w->fwd, now);
    if (!zr_worker_open_sockets(w))
        return ZR_E_os;
    if ((rc = take_sockets(w, order->ingress)) != ZR_OK)
        return rc;
    if (role->name[0] != '\0')
        (void)prctl(PR_SET_NAME, role->name);
    zr_worker_announce(w, now);
    return zr_fdpass_up(sock, order->role);
}

int zr_spare_stand_by(zr_worker *w, int sock, zr_role *roles, uint32_t count)
{
    zr_order order;

    w->conf.fds.fdpass = sock;
    if (!readable(sock, w->signal, -1))
        return ZR_E_closed;
    int rc = zr_fdpass_order(sock, &order);
    if (rc == ZR_OK)
        rc = order.role < count && roles[order.role].page != NULL ? become(w, &roles[order.role], &order)
                                                                  : ZR_E_malformed;
    if (rc == ZR_E_malformed)
        (void)shutdown(sock, SHUT_RDWR); /* nothing more is taken from who sends nonsense */
    return rc;
}

void zr_spare_memory(void *mem, size_t bytes)
{
#ifdef MADV_HUGEPAGE
    (void)madvise(mem, bytes, MADV_HUGEPAGE);
#else
    (void)mem, (void)bytes;
#endif
}

int zr_spare_pin(zr_worker *w)
{
    const zr_pool *pool = zr_fwd_pool(w->fwd);
    size_t bytes = zr_worker_bytes(&w->conf), behind = (size_t)((uint8_t *)w->rx - (uint8_t *)w);

    zr_fwd_touch(w->fwd);
    zr_touch(pool->bufs, (size_t)ZR_MIN(pool->count, HOT_PACKETS) * ZR_PKT_BYTES);
    zr_touch(w->rx, bytes - behind); /* and everything behind it: send lists, batch, sockets */
#ifdef MLOCK_ONFAULT
    return mlock2(w, bytes, MLOCK_ONFAULT) == 0 ? ZR_OK : ZR_E_os;
#else
    return ZR_E_os;
#endif
}
