/* kcp_link.h - two media conversations with a wire of some delay and loss between them, in steps of a millisecond. */
#ifndef KCP_LINK_H
#define KCP_LINK_H

#include "kcp_said.h"

enum { WIRE_MAX = 2048 };

typedef struct wire {
    uint32_t delay_ms;
    double loss;
    bool cut;                   /* all is lost */
    uint32_t first, end;        /* of what is under way; in order, whatever the delay becomes */
    uint64_t datagrams, pushed; /* sent; PUSHes among them, copies and all */
    struct {
        zr_ns_t at;
        uint16_t len;
        uint8_t data[MTU];
    } at[WIRE_MAX];
} wire;

static wire ab, ba;
static zr_kcp_plan plan;
static uint32_t link_seed;

static inline double chance(void)
{
    link_seed = link_seed * 1664525 + 1013904223;
    return (link_seed >> 8) / 16777216.0;
}

/* Between relays: the usual plan, a wire of `delay_ms` one way that loses as much both ways. */
static inline void start_link(const origin *from, zr_kcp_conf conf, uint32_t delay_ms, double loss)
{
    zr_kcp_plan_init(&plan, 1e-6, 6);
    conf.plan = &plan;
    link_seed = 1;
    ab.delay_ms = ba.delay_ms = delay_ms;
    ab.loss = ba.loss = loss;
    ab.cut = ba.cut = false;
    ab.first = ab.end = ba.first = ba.end = 0;
    ab.datagrams = ba.datagrams = ab.pushed = ba.pushed = 0;
    start_at(from, conf);
}

/* What an output put into the batch goes onto the wire. */
static inline void post(wire *to)
{
    for (uint32_t i = 0; i < batch.count; i++) {
        const zr_tx *tx = &batch.tx[i];
        to->datagrams++;
        if (to->cut || chance() < to->loss)
            continue;
        CHECK(to->end - to->first < WIRE_MAX);
        uint32_t slot = to->end++ % WIRE_MAX;
        to->at[slot].at = now + ZR_MS((zr_ns_t)to->delay_ms);
        to->at[slot].len = tx->len;
        memcpy(to->at[slot].data, tx->data, tx->len);
    }
}

static inline void arrive(wire *from, zr_kcp *to)
{
    for (; from->first != from->end && from->at[from->first % WIRE_MAX].at <= now; from->first++)
        input_bytes(to, from->at[from->first % WIRE_MAX].data, from->at[from->first % WIRE_MAX].len);
}

/* All that one has to say now; `heard` of it, if given, sees every segment. */
static inline void speak(zr_kcp *from, wire *to, void (*heard)(const zr_seg *seg))
{
    for (int rc = ZR_E_full, first = 1; rc == ZR_E_full; first = 0) {
        rc = first ? turn(from) : output(from);
        for (uint32_t i = 0; i < batch.count; i++) {
            zr_seg seg;
            for (size_t pos = 0; zr_seg_next(&seg, batch.tx[i].data, batch.tx[i].len, &pos) == ZR_OK;) {
                to->pushed += seg.cmd == ZR_SEG_PUSH;
                if (heard != NULL)
                    heard(&seg);
            }
        }
        post(to);
    }
}

/* A millisecond goes by. Nothing is due before its deadline says so. */
static inline void step(void (*from_a)(const zr_seg *seg), void (*from_b)(const zr_seg *seg))
{
    now += ZR_MS(1);
    arrive(&ab, &b);
    arrive(&ba, &a);
    speak(&a, &ab, from_a);
    speak(&b, &ba, from_b);
}

/* Takes what b has; each message must be one of `sent`, whose first word is its number. How many. */
static inline uint32_t take_numbers(uint8_t *seen, uint32_t sent)
{
    static uint8_t got[2000];
    uint32_t n = 0;

    for (int len; (len = zr_kcp_recv_bytes(&b, got, sizeof got)) >= 0; n++) {
        uint32_t number = zr_get32(got);
        CHECK(len >= 4 && number < sent && !seen[number]);
        seen[number] = 1;
    }
    return n;
}

static inline int send_number(uint32_t number, size_t len)
{
    static uint8_t text[2000];
    zr_put32(text, number);
    return zr_kcp_send_bytes(&a, text, len, now);
}

#endif
