/* zr_worker_priv.h - struct zr_worker, shared by zr_worker.c (memory, the turn), zr_worker_tx.c (what leaves),
 * zr_worker_look.c (what the kernel tells of sockets) and zr_worker_run.c (the loop). */
#ifndef ZR_WORKER_PRIV_H
#define ZR_WORKER_PRIV_H

#include "worker/zr_idle.h"
#include "worker/zr_worker.h"

#define ZR_WORKER_LAGS 5u /* looks in a row that must see a lag */

/* What an epoll event is about: a socket by its number in zr_batch.h, or one of these. */
enum { TAG_WAKE = UINT16_MAX + 1, TAG_FDPASS, TAG_SIGNAL };

typedef struct zr_outlet { /* what leaves by one socket */
    zr_batch batch;
    zr_udp_tx *tx;
    uint32_t sock;
    bool blocked;  /* the rest of the batch waits */
    bool armed;    /* EPOLLOUT is asked for */
    bool writable; /* and came */
} zr_outlet;

struct zr_worker {
    zr_worker_conf conf;
    zr_fwd *fwd;
    zr_stat_page *page;
    zr_chan *chan;
    zr_udp_rx *rx;
    zr_outlet links, egress; /* key frame requests to publishers go with egress */
    zr_udp_sock *socks;      /* by ZR_SOCK_* */
    uint32_t sock_count;
    int fdpass;            /* -1 once the supervisor is gone or sent nonsense */
    int signal;            /* signalfd or -1 */
    bool commands_left;    /* the turn's budget ended before the ring */
    zr_ns_t held_until;    /* the fan-out is put off till then; 0: it is not */
    int held;              /* datagrams received meanwhile */
    zr_ns_t look_at;       /* at the sockets, next time */
    uint32_t look_next;    /* ingress slot before */
    uint32_t ingress_used; /* slots below this have had a socket */
    zr_ns_t wall;          /* wall clock minus monotonic */
    zr_idle idle;
    zr_worker_peer peers[ZR_INBOX_WORKERS];
    _Atomic bool stop;
    struct { /* since the last look at the load */
        zr_ns_t since, busy, longest;
        zr_ns_t lags[ZR_WORKER_LAGS]; /* the longest turns of the looks before */
        uint32_t share_before;        /* permille */
        uint32_t looks;
    } load;
};

/* zr_worker_tx.c. Datagrams sent. */
int zr_worker_transmit(zr_worker *worker, zr_ns_t now);
/* When the engines want a turn, and when the worker has to wake at the latest; nothing that is blocked or held. */
zr_ns_t zr_worker_engines(const zr_worker *worker);
zr_ns_t zr_worker_deadline(const zr_worker *worker);
/* Is this turn's fan-out put off? `received`: datagrams in this turn. */
bool zr_worker_hold(zr_worker *worker, int received, zr_ns_t now);

/* zr_worker_look.c */
void zr_worker_look(zr_worker *worker, zr_ns_t now);
void zr_worker_look_at(zr_worker *worker, uint32_t number);
/* zr_worker.c, for the spare (zr_spare.c): everybody's inbox, ours among them; sockets by conf.fds; ready, and says so
 * in its page; one socket of fdpass. */
bool zr_worker_meet_peers(zr_worker *worker);
bool zr_worker_open_sockets(zr_worker *worker);
void zr_worker_announce(zr_worker *worker, zr_ns_t now);
int zr_worker_adopt_ingress(zr_worker *worker);

#endif
