/*
 * zr_probe.h - a session that knows its own health: joins path, liveness and path MTU, and speaks for them in segments.
 * Sans-IO: accepted datagrams and probe segments in, probe segments out, one deadline.
 *
 *   every accepted datagram of the peer's agent ─▶ on_counter ─▶ zr_path, zr_alive
 *   PING, PONG, PAD, PADDED ─▶ judge (nothing changes) ─▶ input ─▶ zr_path, zr_alive, zr_mtu
 *   on_deadline: silence, sizes      next / sent: what goes out      changed: somebody must be told
 *
 * Segments have the 24-byte header of zr_seg.h with conv 0, layouts in PROTOCOL.md, "Probes". An answer counts only for
 * what was asked: number, time and a random token must be those of a ping or pad still waiting, once. Answers to the
 * peer are limited to 100 a second; a ping beyond that is heard, and not answered.
 *
 * A peer that has been silent for half of T_dead gets a last call, a ping every 20 ms: its answers carry on through a
 * burst of losses that its usual rate would not have outlived. A session that carries streams asks its owner, too: have
 * the workers' lanes heard it (`ask`)? They may, while the peer's agent is stopped or begins anew.
 */
#ifndef ZR_PROBE_H
#define ZR_PROBE_H

#include "base/zr_bytes.h"
#include "base/zr_err.h"
#include "probe/zr_alive.h"
#include "probe/zr_mtu.h"
#include "probe/zr_path.h"

enum zr_probe_cmd {
    ZR_PROBE_PING = 96,
    ZR_PROBE_PONG = 97,
    ZR_PROBE_PAD = 98,
    ZR_PROBE_PADDED = 99,
    ZR_PROBE_CHALLENGE = 100, /* these two are zr_paths.h's */
    ZR_PROBE_RESPONSE = 101,  /* 102, 103: reserved, heard and not answered */
    ZR_PROBE_LAST = 103
};

#define ZR_PROBE_CALL      2u  /* flag of a ping or challenge: I have not heard you for half of T_dead */
#define ZR_PROBE_STATE     24u /* bytes of a ping's body */
#define ZR_PROBE_TIMES     16u /* of a pong's */
#define ZR_PROBE_BODY_MAX  24u
#define ZR_PROBE_AROUND    104u /* IP size of a pad minus its body: IPv6, UDP, envelope, segment header */
#define ZR_PROBE_EVERY     ZR_MS(300)
#define ZR_PROBE_URGENT    ZR_MS(100) /* while the session is down */
#define ZR_PROBE_LAST_CALL ZR_MS(20)  /* once the peer has been silent for half of T_dead */
#define ZR_PROBE_PINGS     64u        /* waiting for answers */
#define ZR_PROBE_ANSWERS   16u        /* owed to the peer */

typedef struct zr_probe_conf {
    uint16_t rate_idle, rate_active; /* datagrams a second that this side promises; 1..ZR_ALIVE_RATE */
    uint16_t rate_elsewhere; /* and that each of the peer's other lanes keeps, with streams; 0: nobody looks there */
    uint16_t ip_max;         /* links.mtu; 0: sizes are not probed */
    uint64_t seed;           /* of the tokens: nobody else's, and no other engine's of this session */
} zr_probe_conf;

/* The fields of a segment's header that mean something to probes, by their own names. */
typedef struct zr_probe_seg {
    uint8_t cmd, flags;     /* cmd, frg */
    uint32_t ts, id, token; /* ts, sn, una */
    uint32_t len;
    const uint8_t *data;
} zr_probe_seg;

typedef struct zr_probe_answer {
    uint8_t cmd;
    uint32_t ts, id, token;
    zr_ns_t came;
} zr_probe_answer;

typedef struct zr_probe {
    zr_probe_conf conf;
    zr_path path;
    zr_alive alive;
    zr_mtu mtu;
    bool active, changed;
    bool ask;       /* since the peer was last heard: somebody was told to look elsewhere */
    bool elsewhere; /* this lane of the peer's is gone, and others were heard: their rate counts */
    zr_ns_t asked_at;
    zr_ns_t ping_at, pinged_at;  /* the next, the last */
    uint32_t pinged;             /* pings sent since the start */
    uint32_t next_id, newest_id; /* ours; of the peer's pings, for what they say */
    bool any_said;
    struct {
        bool waiting;
        zr_ns_t sent;
    } pings[ZR_PROBE_PINGS]; /* by id % size */
    zr_probe_answer answers[ZR_PROBE_ANSWERS];
    uint32_t first, owed;
    zr_ns_t answers_full_at; /* zr_rate */
    zr_ns_t settle_at;       /* T_dead is made anew */
    zr_ns_t called;          /* the peer's last call: it has not heard us for half of its T_dead; 0: never */
} zr_probe;

void zr_probe_init(zr_probe *probe, const zr_probe_conf *conf, zr_ns_t now);
/* The session carries streams, or no longer does. */
void zr_probe_set_active(zr_probe *probe, bool active, zr_ns_t now);

/* A datagram of the peer's same lane was accepted; see zr_path_on_counter. */
void zr_probe_on_counter(zr_probe *probe, uint32_t run, uint64_t counter, zr_ns_t now);
/* Something authentic of the peer's came elsewhere, at `when`: a worker's lane heard it. */
void zr_probe_on_heard(zr_probe *probe, zr_ns_t when, zr_ns_t now);
/* May this segment (conv 0, cmd 96..103) come now? False: drop its datagram, nothing was asked that this answers. */
bool zr_probe_judge(const zr_probe *probe, const zr_probe_seg *seg, zr_ns_t now);
/* One that was judged true. */
void zr_probe_input(zr_probe *probe, const zr_probe_seg *seg, zr_ns_t now);

zr_ns_t zr_probe_deadline(const zr_probe *probe);
/* `listened`: see zr_alive.h. */
void zr_probe_on_deadline(zr_probe *probe, zr_ns_t listened, zr_ns_t now);
/* The next segment to send, its body in `body` (seg->data is body, or NULL: seg->len zeros); ZR_E_again: none is due.
 */
int zr_probe_next(const zr_probe *probe, zr_probe_seg *seg, uint8_t body[ZR_PROBE_BODY_MAX], zr_ns_t now);
/* It is in a datagram. */
void zr_probe_sent(zr_probe *probe, const zr_probe_seg *seg, zr_ns_t now);
/* When the next ping is due. */
zr_ns_t zr_probe_ping_at(const zr_probe *probe);
static inline bool zr_probe_due(const zr_probe *probe, zr_ns_t now)
{
    return probe->owed > 0 || now >= zr_probe_ping_at(probe) || zr_mtu_due(&probe->mtu, now) != 0;
}
/* The peer has been silent for half of T_dead: our pings and challenges say so (ZR_PROBE_CALL). */
bool zr_probe_silent(const zr_probe *probe, zr_ns_t now);
/* It says so of us. */
void zr_probe_on_call(zr_probe *probe, zr_ns_t now);
/* Either, or no ping was ever answered, or the session is down: it is time to try other ways. */
bool zr_probe_worried(const zr_probe *probe, zr_ns_t now);
/* Another way is used from now on. */
void zr_probe_moved(zr_probe *probe, zr_ns_t now);
/* As zr_mtu_on_refused. */
void zr_probe_on_refused(zr_probe *probe, uint32_t size, zr_ns_t now);
/* Up or down, the size, or the way: changed since it was last asked? */
bool zr_probe_take_changed(zr_probe *probe);
/* The longest this side may be silent. */
static inline zr_ns_t zr_probe_beat(const zr_probe *probe)
{
    return probe->pinged_at == 0 ? ZR_MS(250) : ZR_SEC(1) / probe->alive.keep; /* before: nothing is promised */
}
/* Everything that is known, for who shows it. Shares 0..1; nothing known yet is 0. */
typedef struct zr_probe_view {
    bool up, deaf, unheard, ask, offset_known;
    uint16_t mtu;             /* IP bytes */
    uint16_t promise, theirs; /* datagrams a second */
    zr_ns_t heard, since, dead_after;
    uint32_t pings; /* sent; `samples` of them were answered */
    uint32_t srtt_us, rtt_min_us, samples, longest_in, longest_out, flaps;
    double loss_in, loss_out, drift_ppm;
    int64_t jitter_ns, queue_in_ns, queue_out_ns, offset_ns;
    int64_t delay_in_ns, delay_out_ns, delay_error_ns; /* where the offset is known, too */
    uint64_t reordered;
    uint32_t received, expected; /* of the peer's datagrams; they wrap */
} zr_probe_view;
void zr_probe_look(const zr_probe *probe, zr_probe_view *view, zr_ns_t now);
bool zr_probe_check(const zr_probe *probe);

#endif
