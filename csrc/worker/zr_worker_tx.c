/* What leaves a worker: one batch and one sender for the egress socket, one for the link socket, so that neither waits
 * for the other. A batch that its socket does not take whole is kept; until it has gone, the forwarder is not asked for
 * more, and packets wait in their streams' queues. */
#include "base/zr_err.h"
#include "time/zr_clock.h"
#include "worker/zr_worker_priv.h"

#define HELD_MAX ((int)ZR_UDP_RUN_MAX) /* datagrams that end a hold: a run does not get longer */

typedef int zr_output(zr_fwd *fwd, zr_batch *batch, zr_ns_t now);

static void arm(zr_worker *w, zr_outlet *o)
{
    bool out = o->blocked && zr_udp_tx_full(o->tx);

    if (out != o->armed)
        zr_idle_watch_out(&w->idle, w->socks[o->sock].fd, o->sock, out);
    o->armed = out;
}

static int transmit_by(zr_worker *w, zr_outlet *o, zr_output *output, zr_ns_t now)
{
    int sent = 0, rc = ZR_E_full; /* behind a kept batch there may be more */

    if (o->blocked && !o->writable && now < zr_udp_tx_resume(o->tx))
        return 0;
    o->writable = false;
    do {
        if (!o->blocked) {
            rc = output(w->fwd, &o->batch, now);
            ZR_CHECK(rc == ZR_OK || o->batch.count > 0); /* an empty batch has room for anything */
        }
        o->blocked = zr_udp_send(o->tx, w->socks, w->sock_count, &o->batch, w->page, now) != ZR_OK;
        if (w->conf.stamps && o->batch.count > 0)
            zr_udp_tx_timed(o->tx, w->page, zr_clock_now());
        if (o->blocked)
            break;
        sent += (int)zr_batch_dgrams(&o->batch);
        zr_batch_reset(&o->batch);
    } while (rc == ZR_E_full);
    arm(w, o);
    return sent;
}

int zr_worker_transmit(zr_worker *w, zr_ns_t now)
{
    return transmit_by(w, &w->links, zr_fwd_output_links, now) + transmit_by(w, &w->egress, zr_fwd_output_egress, now);
}

static uint32_t waits(const zr_worker *w)
{
    return (w->egress.blocked ? ZR_FWD_EGRESS_BLOCKED : 0u) | (w->links.blocked ? ZR_FWD_LINKS_BLOCKED : 0u) |
           (w->held_until > 0 ? ZR_FWD_HELD : 0u);
}

zr_ns_t zr_worker_engines(const zr_worker *w)
{
    return zr_fwd_deadline_but(w->fwd, waits(w));
}

zr_ns_t zr_worker_deadline(const zr_worker *w)
{
    zr_ns_t at = zr_worker_engines(w);

    if (w->held_until > 0)
        at = ZR_MIN(at, w->held_until);
    if (w->egress.blocked)
        at = ZR_MIN(at, zr_udp_tx_resume(w->egress.tx));
    if (w->links.blocked)
        at = ZR_MIN(at, zr_udp_tx_resume(w->links.tx));
    return at;
}

bool zr_worker_hold(zr_worker *w, int received, zr_ns_t now)
{
    if (w->conf.hold == 0 || w->egress.blocked || !zr_fwd_turning(w->fwd)) {
        w->held_until = 0;
        return false;
    }
    if (w->held_until == 0) {
        zr_ns_t engines = zr_fwd_deadline_but(w->fwd, waits(w) | ZR_FWD_HELD);
        w->held_until = ZR_MIN(now + w->conf.hold, engines);
        w->held = 0;
        zr_stat_add(w->page, ZR_STAT_holds, 1);
    }
    w->held += received;
    if (now < w->held_until && w->held < HELD_MAX)
        return true;
    w->held_until = 0;
    return false;
}
