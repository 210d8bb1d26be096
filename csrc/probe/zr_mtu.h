/*
 * zr_mtu.h - the largest datagram that reaches the peer, found by padded probes and trusted only while they arrive.
 *
 *   1200 --> 1280 --> 1400 --> links.mtu     IP sizes; the next is tried as soon as one is acknowledged
 *
 *   three tries without an answer            given up, tried again 8 s later
 *   a working size stops being answered      back to 1200 at once, and up again from there. A size in use is asked for
 *                                            every 60 ms on a busy session (so within 300 ms), every 10 s on an idle
 * one the session is down                      nothing is asked and nothing concluded
 *
 * Where loss alone would silence that many probes more than once in 1e5 times, more of them must stay unanswered.
 * What a router says of sizes is not listened to: only what arrives counts. A size that our own interface refuses goes
 * no further, so nobody is waited for: one in use is left for 1200 at once, one that is tried is given up.
 */
#ifndef ZR_MTU_H
#define ZR_MTU_H

#include "base/zr_base.h"

#define ZR_MTU_BASE   1200u
#define ZR_MTU_STEPS  4
#define ZR_MTU_TRIES  3u
#define ZR_MTU_AGAIN  ZR_SEC(8) /* a size that was given up */
#define ZR_MTU_ACTIVE ZR_MS(60) /* a size in use, busy session */
#define ZR_MTU_IDLE   ZR_SEC(10)
#define ZR_MTU_SLACK  ZR_MS(30) /* beyond the round trip */
#define ZR_MTU_ASKED  32u       /* probes remembered */

typedef struct zr_mtu {
    uint16_t sizes[ZR_MTU_STEPS];
    uint8_t count, at; /* sizes[at] works */
    bool climbing;     /* a larger one is being tried */
    bool paused, active;
    uint32_t unanswered; /* probes of the size at hand since the last answer to one, */
    uint32_t tries;      /* and how many of them say that it is lost */
    zr_ns_t next;        /* probe; ZR_NEVER: none */
    zr_ns_t fail_at;     /* the size at hand is given up; ZR_NEVER: not enough of them are unanswered */
    zr_ns_t climb_at;    /* the next attempt at a larger one */
    struct {
        uint32_t id, token;
        uint16_t size; /* 0: free or answered */
    } asked[ZR_MTU_ASKED];
} zr_mtu;

/* `most`: the IP size never to be passed. Below 1280 there is nothing to find. */
void zr_mtu_init(zr_mtu *mtu, uint16_t most, zr_ns_t now);
/* What may be sent: IP bytes. */
static inline uint16_t zr_mtu_size(const zr_mtu *mtu)
{
    return mtu->sizes[mtu->at];
}
/* The size that the probe due now has; 0: none is. */
uint16_t zr_mtu_due(const zr_mtu *mtu, zr_ns_t now);
/* It is sent under this id and token. `trip`: usual round trip and what it varies by; `loss`: of one, there and back.
 */
void zr_mtu_sent(zr_mtu *mtu, uint32_t id, uint32_t token, bool active, zr_ns_t trip, double loss, zr_ns_t now);
/* Was such a probe sent and not answered yet? */
bool zr_mtu_asked(const zr_mtu *mtu, uint32_t id, uint32_t token);
/* Both: true when the size changed. */
bool zr_mtu_on_answer(zr_mtu *mtu, uint32_t id, uint32_t token, zr_ns_t now);
bool zr_mtu_on_deadline(zr_mtu *mtu, zr_ns_t now);
/* Our own interface refused a datagram of this IP size (EMSGSIZE). True when the size changed. */
bool zr_mtu_on_refused(zr_mtu *mtu, uint32_t size, zr_ns_t now);
/* While the session is down nothing is asked; up again: what stood before counts for nothing. */
void zr_mtu_pause(zr_mtu *mtu, bool paused, zr_ns_t now);
/* Another path: nothing is known of its sizes. */
void zr_mtu_restart(zr_mtu *mtu, zr_ns_t now);
/* The session became busy or idle. */
void zr_mtu_hurry(zr_mtu *mtu, zr_ns_t now);
zr_ns_t zr_mtu_deadline(const zr_mtu *mtu);

#endif
