/*
 * zr_paths.h - the addresses a peer is listed at: which of them work, how well, and which one is sent to. Sans-IO.
 *
 *   challenge (8 random bytes) ──▶ address i      its answer proves that the peer is reached there: i is *proven*
 *   one a second, in turn, so that those not used stay warm: 1.5 kbit/s each way, however many there are
 *
 *   hurry: the peer is silent, or says so of us            all are asked every 20 ms, after 200 ms every 100 ms
 *       the used one left 3 in a row unanswered, another answered a later one   ──▶ that one is used
 *   calm: another loses a tenth less, or is a fifth nearer and loses no more, for 10 s on end   ──▶ that one is used
 *
 * Only listed addresses are ever sent to, and only an answer to a challenge moves anything: where datagrams come from
 * does not. An answer goes where its challenge came from when that is listed, else to the used address, and is as long
 * as the challenge: an address that has not answered gets what it sent and one challenge a second (in a hurry: fifty).
 *
 * With one address there is nothing to choose, and nothing is asked.
 */
#ifndef ZR_PATHS_H
#define ZR_PATHS_H

#include "base/zr_addr.h"
#include "base/zr_base.h"

#define ZR_PATHS_MAX     8u
#define ZR_PATHS_BODY    8u /* bytes of a challenge and of an answer */
#define ZR_PATHS_ASKED   16u
#define ZR_PATHS_ANSWERS 16u /* owed to the peer */
#define ZR_PATHS_EVERY   ZR_SEC(1)
#define ZR_PATHS_DEAD    ZR_SEC(5) /* one that does not answer is asked this rarely */
#define ZR_PATHS_HURRY   ZR_MS(20)
#define ZR_PATHS_SLOWLY  ZR_MS(100) /* once hurry has not helped for ZR_PATHS_SOON */
#define ZR_PATHS_SOON    ZR_MS(200)
#define ZR_PATHS_LATE    ZR_SEC(1) /* an answer after this counts as none */
#define ZR_PATHS_SLACK   ZR_MS(10) /* beyond the round trip, before one is missed */
#define ZR_PATHS_MISSED  3u
#define ZR_PATHS_BETTER  ZR_SEC(10)
#define ZR_PATHS_KNOWN   8u /* challenges before a loss means anything */
#define ZR_PATHS_NONE    UINT32_MAX

typedef struct zr_paths_one {
    zr_addr addr;
    bool proven;                 /* answered, and not left the last ZR_PATHS_KNOWN unanswered */
    uint32_t outcomes, known;    /* of up to 32 challenges, newest in bit 0: 1 was lost */
    uint32_t srtt_us, rttvar_us; /* 0: not measured */
    zr_ns_t asked;               /* newest challenge */
    zr_ns_t answered;            /* when the newest one that was answered had been sent; 0: none */
    uint32_t missed;             /* overdue in a row */
    zr_ns_t missed_from;         /* when the first of these had been sent */
    uint32_t next;               /* in ring */
    struct {
        uint64_t token;
        zr_ns_t sent; /* 0: free */
        bool overdue;
    } ring[ZR_PATHS_ASKED];
} zr_paths_one;

typedef struct zr_paths {
    zr_paths_one one[ZR_PATHS_MAX];
    uint32_t count, used;
    uint32_t due;  /* bit i: one[i] is to be asked now */
    uint32_t turn; /* asked next, when calm */
    zr_ns_t next;
    zr_ns_t hurry_since, hurry_until;
    uint32_t candidate; /* for `used`, better since `better_since`; or none */
    zr_ns_t better_since;
    bool moved;
    uint32_t moves;
    uint64_t seed, tokens; /* made so far */
    struct {
        uint64_t token;
        uint32_t to;
    } answers[ZR_PATHS_ANSWERS];
    uint32_t first, owed;
    zr_ns_t answers_full_at; /* zr_rate */
} zr_paths;

/* What goes out next: a challenge, or an answer, to one[to].addr. */
typedef struct zr_paths_out {
    bool answer;
    uint32_t to;
    uint64_t token;
} zr_paths_out;

/* With one address, that of the handshake. */
void zr_paths_init(zr_paths *paths, const zr_addr *used, uint64_t seed, zr_ns_t now);
/* The listed addresses from now on; what is known of those that stay is kept. False, and nothing changed: none or too
 * many, one twice, or the used one is not among them. */
bool zr_paths_set(zr_paths *paths, const zr_addr *addrs, uint32_t count, zr_ns_t now);
/* Its number, or ZR_PATHS_NONE. */
uint32_t zr_paths_find(const zr_paths *paths, const zr_addr *addr);

void zr_paths_on_challenge(zr_paths *paths, uint64_t token, const zr_addr *from, zr_ns_t now);
/* Would this answer anything that was asked? */
bool zr_paths_asked(const zr_paths *paths, uint64_t token);
void zr_paths_on_answer(zr_paths *paths, uint64_t token, zr_ns_t now);
/* The peer is silent, or does not hear us. Say it again while that lasts. */
void zr_paths_hurry(zr_paths *paths, zr_ns_t now);

zr_ns_t zr_paths_deadline(const zr_paths *paths);
void zr_paths_on_deadline(zr_paths *paths, zr_ns_t now);
/* False: nothing is due. */
bool zr_paths_next(const zr_paths *paths, zr_paths_out *out);
/* It is in a datagram. */
void zr_paths_sent(zr_paths *paths, const zr_paths_out *out, zr_ns_t now);
/* Another one is used than when this was last asked. */
bool zr_paths_take_moved(zr_paths *paths);
static inline const zr_addr *zr_paths_used(const zr_paths *paths)
{
    return &paths->one[paths->used].addr;
}
/* Of the newest challenges, 0..1. */
double zr_paths_loss(const zr_paths_one *one);
bool zr_paths_check(const zr_paths *paths);

#endif
