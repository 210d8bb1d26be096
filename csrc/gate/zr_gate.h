/*
 * zr_gate.h - what a handshake message must get through before anybody spends a key exchange on it. Sans-IO.
 *
 *   datagram ─▶ length ─▶ MAC1 ─▶ under load: MAC2 ─▶ bucket of its source ─▶ bucket of all ─▶ passes
 *                 │         │              │                   │                     │
 *   dropped:    length    mac1   mac2, and perhaps a reply   ratelimit           ratelimit
 *
 * Cheapest first, and nothing is remembered of a message before its MAC1 was right: that takes our public key and the
 * key of the mesh, so whoever has not both hears nothing, changes nothing and empties nobody's bucket. Cookie replies
 * (0x0A) have no MAC1; they have buckets of their own, and whoever takes them decides whether they answer anything.
 *
 * Under load is: more than ZR_GATE_QUEUED messages wait, or more than ZR_GATE_BUSY of a core is busy (the caller says
 * both), or the bucket of all ran dry or would; and a second longer. Then a source must show that it hears us: it is
 * sent a cookie, 64 bytes, at most 0.45 of what came, and MAC2 is made with that. A cookie is bound to address and port
 * and holds 120 to 240 s; nothing is kept for it.
 *
 * Our key changes before the peers know: until a time that is named with it the former one is good, too, in MAC1 and in
 * what seals the reply; what came under it is marked. Of a stranger's datagram that costs one more hash while it lasts.
 *
 * Sources are networks: /24, /64 (on loopback: address and port). Their buckets are a fixed table, by a hash that
 * strangers do not know; who collides shares.
 */
#ifndef ZR_GATE_H
#define ZR_GATE_H

#include "base/zr_addr.h"
#include "base/zr_base.h"
#include "stat/zr_drop.h"

#define ZR_GATE_HELLO  180u /* lengths of 0x08, */
#define ZR_GATE_ANSWER 116u /* 0x09 and */
#define ZR_GATE_COOKIE 64u  /* 0x0A */

#define ZR_GATE_SOURCES     65536u /* buckets */
#define ZR_GATE_EVERY       ZR_MS(50)
#define ZR_GATE_BURST       5
#define ZR_GATE_ALL_EVERY   ZR_MS(1)
#define ZR_GATE_ALL_BURST   64
#define ZR_GATE_REPLY_EVERY ZR_US(100) /* cookie replies to anyone; each source has its bucket besides */
#define ZR_GATE_SHARE       45u        /* hundredths of the bytes that came: replies are never more */
#define ZR_GATE_QUEUED      128u
#define ZR_GATE_BUSY        300u /* thousandths of a core */
#define ZR_GATE_LOADED      ZR_SEC(1)
#define ZR_GATE_SECRET      ZR_SEC(120) /* that cookies are made with; the one before is taken as long again */

typedef struct zr_gate zr_gate;

typedef struct zr_gate_keys {
    uint8_t public[32]; /* our own static key's */
    uint8_t mesh[32];
    uint8_t seed[32];     /* random, and never the same twice: cookies and nonces are drawn from it */
    uint8_t former[32];   /* our public key before this one, */
    zr_ns_t former_until; /* taken until then; 0: there was none */
} zr_gate_keys;

typedef struct zr_gate_answer {
    enum zr_drop_id why; /* of what did not pass */
    bool former;         /* MAC1 was right, under our former key; whether it passed or not */
    bool reply;          /* send this to where it came from: */
    uint8_t cookie[ZR_GATE_COOKIE];
} zr_gate_answer;

size_t zr_gate_bytes(void);
/* In `mem`, aligned to ZR_CACHELINE; also takes memory of libcrypto's. NULL: that lacks an algorithm. */
zr_gate *zr_gate_init(void *mem, const zr_gate_keys *keys);
void zr_gate_fini(zr_gate *gate);

/* Both stay until said otherwise. */
void zr_gate_queued(zr_gate *gate, uint32_t messages);
void zr_gate_busy(zr_gate *gate, uint32_t thousandths);

/* One datagram whose first byte is 0x08, 0x09 or 0x0A. ZR_OK: it passes; ZR_E_dropped: *answer says the rest. */
int zr_gate_input(zr_gate *gate, const uint8_t *data, size_t len, const zr_addr *from, zr_ns_t now,
                  zr_gate_answer *answer);
/* Must sources prove their address now? */
bool zr_gate_loaded(const zr_gate *gate, zr_ns_t now);
/* How often that began. */
uint64_t zr_gate_loads(const zr_gate *gate);
/* Is our former key taken, too? */
bool zr_gate_overlap(const zr_gate *gate, zr_ns_t now);
bool zr_gate_check(const zr_gate *gate, zr_ns_t now);

#endif
