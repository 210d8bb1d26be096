/* lane_sealed.h - lane_end.h with keys: two ends of one session, and a peer that seals whatever the test wants. */
#ifndef LANE_SEALED_H
#define LANE_SEALED_H

#include "forward/zr_lane_priv.h"
#include "lane_end.h"
#include "sim/zr_rng.h"

#ifdef ZR_DEBUG /* a sanitized variant: the same, less often */
enum { MANY = 100 };
#else
enum { MANY = 1 };
#endif

enum { A_TO_B, B_TO_A };

static inline void secret_of(uint8_t to[ZR_SECRET_BYTES], uint32_t generation, int direction)
{
    zr_rng rng;

    zr_rng_seed(&rng, generation * 2 + (uint32_t)direction + 1);
    for (size_t i = 0; i < ZR_SECRET_BYTES; i++)
        to[i] = (uint8_t)zr_rng_next(&rng);
}

/* What the end that sends in `direction` gets out of handshake number `generation`. */
static inline zr_keys keys_of(uint32_t generation, int direction, enum zr_cipher cipher, bool initiator)
{
    zr_keys keys = { .cipher = (uint8_t)cipher, .initiator = initiator };

    secret_of(keys.send, generation, direction);
    secret_of(keys.recv, generation, 1 - direction);
    return keys;
}

static inline uint32_t index_of(uint32_t generation, int direction)
{
    return direction == A_TO_B ? INDEX_A + generation : INDEX_B + generation;
}

static inline zr_session_conf sealed_conf(int direction, enum zr_cipher cipher)
{
    return (zr_session_conf){ .index = index_of(0, direction),
                              .peer_index = index_of(0, 1 - direction),
                              .agent = loopback(direction == A_TO_B ? PORT_B : PORT_A),
                              .lanes = 2,
                              .mtu = MTU,
                              .rate_mhz = 5000,
                              .keys = keys_of(0, direction, cipher, direction == A_TO_B) };
}

/* As end_open, with the keys of generation 0. a sends A_TO_B, b the other way. */
static inline void sealed_open(end *e, uint8_t lane, int direction, enum zr_cipher cipher, zr_ns_t now)
{
    zr_session_conf conf = sealed_conf(direction, cipher);

    end_open(e, lane, BATCH, conf.index, direction == A_TO_B ? PORT_A : PORT_B, conf.peer_index, conf.agent.port);
    CHECK_EQ(zr_lane_session_drop(e->lane, 1), ZR_OK);
    CHECK_EQ(zr_lane_session_add(e->lane, 1, &conf, now), ZR_OK);
}

static inline int rekey(end *e, uint32_t generation, int direction, enum zr_cipher cipher, bool initiator, zr_ns_t now)
{
    zr_keys keys = keys_of(generation, direction, cipher, initiator);
    return zr_lane_session_rekey(e->lane, 1, index_of(generation, direction), index_of(generation, 1 - direction),
                                 &keys, now);
}

/* b, played by the test: seals datagrams for a. */
typedef struct peer {
    zr_seal_kit kit;
    zr_seal seal;
    enum zr_cipher cipher;
} peer;

static inline void peer_open(peer *p, enum zr_cipher cipher)
{
    p->cipher = cipher;
    zr_seal_init(&p->seal);
    CHECK_EQ(zr_seal_kit_open(&p->kit), ZR_OK);
    CHECK_EQ(zr_seal_prepare(&p->seal, &p->kit, cipher, true), ZR_OK);
}

/* b's other half: opens what a sealed. */
static inline void ear_open(peer *p, enum zr_cipher cipher)
{
    p->cipher = cipher;
    zr_seal_init(&p->seal);
    CHECK_EQ(zr_seal_kit_open(&p->kit), ZR_OK);
    CHECK_EQ(zr_seal_prepare(&p->seal, &p->kit, cipher, false), ZR_OK);
}

static inline void peer_close(peer *p)
{
    zr_seal_fini(&p->seal);
    zr_seal_kit_close(&p->kit);
}

/* A sealed datagram of b's lane `env->lane`, under `generation`, to a's lane; returns its length. */
static inline size_t peer_seal(peer *p, uint8_t *to, uint32_t generation, const zr_env *env, const uint8_t *body,
                               size_t body_len)
{
    size_t len = ZR_ENV_HEAD + body_len + ZR_ENV_TAG;
    uint8_t secret[ZR_SECRET_BYTES];

    secret_of(secret, generation, B_TO_A);
    zr_seal_key(&p->seal, p->cipher, secret, env->lane, zr_env_lane(env->receiver), env->epoch);
    zr_env_put(to, env);
    if (body_len > 0)
        memcpy(to + ZR_ENV_HEAD, body, body_len);
    zr_seal_put(&p->seal, env->counter, to, len);
    return len;
}

static inline zr_env env_of(uint32_t generation, uint8_t lane, uint16_t epoch, uint64_t counter)
{
    return (zr_env){ .type = ZR_ENV_DATA,
                     .lane = lane,
                     .epoch = epoch,
                     .receiver = index_of(generation, A_TO_B) << 6,
                     .counter = counter };
}

static inline zr_addr peer_addr(uint8_t lane)
{
    return loopback((uint16_t)(lane == ZR_LANE_AGENT ? PORT_B : PORT_B + 1 + lane));
}

static inline uint64_t dropped(const end *e, enum zr_drop_id why)
{
    return atomic_load(&e->page->drop[why]);
}

/* An empty datagram of b's: what becomes of it at a. */
static inline int hear_under(end *a, peer *b, uint32_t generation, uint8_t lane, uint16_t epoch, uint64_t counter,
                             zr_ns_t now)
{
    uint8_t data[ZR_ENV_HEAD + ZR_ENV_TAG];
    zr_env env = env_of(generation, lane, epoch, counter);
    zr_addr from = peer_addr(lane);

    return give(a, &from, data, peer_seal(b, data, generation, &env, NULL, 0), now);
}

/* What a session, its peer lanes and their windows are, without what counts strangers. */
static inline uint64_t state_of(const end *e)
{
    uint64_t hash = 0xCBF29CE484222325u;
    zr_lane_session session = e->lane->sessions[1];

    session.derive_full_at = 0;
    for (uint32_t i = 0; i < ZR_LANE_GENS; i++)
        session.gens[i].forged = 0;
    const struct {
        const void *at;
        size_t bytes;
    } parts[] = {
        { &session, sizeof session },
        { e->lane->peers, e->lane->conf.peer_lanes_max * sizeof(zr_lane_peer) },
        { e->lane->rxs, zr_lane_rx_max(&e->lane->conf) * sizeof(zr_lane_rx) },
        { &e->lane->due, sizeof e->lane->due },
        { &e->lane->by_index.count, sizeof e->lane->by_index.count },
        { &e->lane->trial, sizeof e->lane->trial },
    };
    for (size_t part = 0; part < ZR_LEN(parts); part++)
        for (size_t i = 0; i < parts[part].bytes; i++)
            hash = (hash ^ ((const uint8_t *)parts[part].at)[i]) * 0x100000001B3u;
    return hash;
}

#endif
