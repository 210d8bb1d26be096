/* zr_worker_priv.h - struct zr_worker, shared by zr_worker.c (memory, the turn) and zr_worker_run.c (the loop). */
#ifndef ZR_WORKER_PRIV_H
#define ZR_WORKER_PRIV_H

#include "worker/zr_idle.h"
#include "worker/zr_worker.h"

/* What an epoll event is about: a socket by its number in zr_batch.h, or one of these. */
enum { TAG_WAKE = UINT16_MAX + 1, TAG_FDPASS, TAG_SIGNAL };

struct zr_worker {
    zr_worker_conf conf;
    zr_fwd *fwd;
    zr_stat_page *page;
    zr_chan *chan;
    zr_udp_rx *rx;
    zr_udp_tx *tx;
    zr_batch batch;
    zr_udp_sock *socks; /* by ZR_SOCK_* */
    uint32_t sock_count;
    int fdpass;         /* -1 once the supervisor is gone or sent nonsense */
    int signal;         /* signalfd or -1 */
    bool commands_left; /* the turn's budget ended before the ring */
    zr_idle idle;
    _Atomic bool stop;
};

/* zr_worker.c, for the spare (zr_spare.c): sockets by conf.fds; ready, and says so in its page; one socket of fdpass.
 */
bool zr_worker_open_sockets(zr_worker *worker);
void zr_worker_announce(zr_worker *worker, zr_ns_t now);
int zr_worker_adopt_ingress(zr_worker *worker);

#endif
