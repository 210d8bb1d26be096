/* mesh_rig.h - forwarders joined by their datagrams: relay `host` sends from rig_addr(host, 7001). */
#ifndef MESH_RIG_H
#define MESH_RIG_H

#include "forward/zr_lane_priv.h"
#include "fwd_rig.h"

typedef struct wire {
    rig *from, *to;
    zr_addr source;
} wire;

static inline void mesh_carry(const zr_tx *tx, void *context)
{
    wire *w = context;
    zr_pkt *pkt;

    if (tx->sock != ZR_SOCK_LINK)
        return;
    pkt = zr_pool_copy(zr_fwd_pool(w->to->fwd), tx->data, tx->len);
    CHECK(pkt != NULL);
    zr_fwd_link_input(w->to->fwd, pkt, &w->source, w->to->now);
}

/* Relay at host `mine`: session 0 with the relay at host `theirs`. */
static inline void mesh_know(rig *r, uint32_t session, uint8_t mine, uint8_t theirs)
{
    DO(r, .op = ZR_CMD_session_add, .a = session, .b = mine * 16u + theirs, .c = theirs * 16u + mine, .d = 1, .y = 1420,
       .addr = rig_addr(theirs, 7000));
}

/* Both ends of one pull: parent p (host ph) sends stream 0 to child b (host 2) on conversation `conv`. */
static inline uint32_t mesh_join(rig *p, uint8_t ph, rig *b, uint32_t session, uint32_t conv, uint64_t want,
                                 uint64_t from)
{
    uint64_t first = 0;

    mesh_know(p, 0, ph, 2);
    mesh_know(b, session, 2, ph);
    DO(b, .op = ZR_CMD_pull_start, .a = 0, .b = session, .c = conv, .d = 0);
    CHECK_EQ(rig_do(p, (zr_cmd){ .op = ZR_CMD_child_add, .a = 9, .d = conv, .x = want << 8, .y = from }, &first), 0);
    return (uint32_t)first;
}

static inline void mesh_turn(rig *p, uint8_t ph, rig *b)
{
    wire w = { .from = p, .to = b, .source = rig_addr(ph, 7001) };
    rig_turn(p, mesh_carry, &w);
}

static inline void mesh_open_pair(rig *a, rig *b, uint32_t number)
{
    rig_open(a, 0, 64);
    rig_open(b, 0, 64);
    rig_publish(a, number);
    rig_stream(b, false, 0);
    DO(b, .op = ZR_CMD_sub_add, .a = 0, .c = 0xFFFF, .d = 0xFFFF, .addr = rig_addr(4, 6000));
}

#endif
