/*
 * zr_alive.h - is the peer there, and are we there for it? By promised rates and silence alone.
 *
 *            hears nothing for T_dead                     says "I do not hear you"
 *   up  ------------------------------> deaf        up  -------------------------> unheard
 *       <------------------------------                <-------------------------
 *            anything authentic                           says that it does
 *
 * Up is neither: so a cut of one direction takes both ends down, the second as soon as the first one's word arrives.
 *
 *   T_dead = max(K, 2 R) / r, within 150 ms .. 2 s     r  the rate the peer promises, datagrams a second; while only
 *                                                         its other lanes are heard, what each of those keeps
 *   K = ceil(ln 1e-9 / ln p)                            p  measured loss, 1 % at least    R  longest run of losses
 *
 * A promise that falls is kept until the peer has repeated the new one: it must not wait for what does not come.
 * Silence counts as far as somebody listened: `listened` is when the socket was last found empty.
 */
#ifndef ZR_ALIVE_H
#define ZR_ALIVE_H

#include "base/zr_base.h"

#define ZR_ALIVE_MIN   ZR_MS(150)
#define ZR_ALIVE_MAX   ZR_SEC(2)
#define ZR_ALIVE_LOSS  0.01 /* fewer than a few thousand datagrams cannot show less */
#define ZR_ALIVE_RATE  1000u
#define ZR_ALIVE_K_MAX 255u

typedef struct zr_alive {
    uint16_t promise, keep; /* ours: told to the peer, and what is really kept */
    uint16_t theirs;        /* 0: the peer has promised nothing yet, its silence means nothing */
    zr_ns_t dead_after;     /* T_dead */
    zr_ns_t heard;
    zr_ns_t since; /* of the present state */
    bool deaf, unheard;
    uint32_t flaps; /* times it went down */
} zr_alive;

void zr_alive_init(zr_alive *alive, uint16_t rate, zr_ns_t now);
/* T_dead of a peer that promises `rate`, at this loss and longest run. */
zr_ns_t zr_alive_dead_after(uint16_t rate, double loss, uint32_t longest);
/* Packets in a row that chance loses once in 1 / `chance` tries; at least 1. */
uint32_t zr_alive_in_a_row(double loss, double chance);

/* Each returns whether the state, or what the peer must be told, changed. */
bool zr_alive_on_heard(zr_alive *alive, zr_ns_t now);
bool zr_alive_on_told(zr_alive *alive, uint16_t promise, uint16_t repeated, bool deaf, zr_ns_t now);
bool zr_alive_on_deadline(zr_alive *alive, zr_ns_t listened, zr_ns_t now);
bool zr_alive_set_rate(zr_alive *alive, uint16_t rate);

static inline bool zr_alive_up(const zr_alive *alive)
{
    return !alive->deaf && !alive->unheard;
}

/* When on_deadline wants to be called. */
static inline zr_ns_t zr_alive_deadline(const zr_alive *alive)
{
    return alive->theirs == 0 || alive->deaf ? ZR_NEVER : alive->heard + alive->dead_after;
}

#endif
