#include "gate/zr_gate.h"

#include "base/zr_bytes.h"
#include "base/zr_err.h"
#include "time/zr_rate.h"
#include "wire/zr_mac.h"
#include "wire/zr_seal.h"
#include "wire/zr_xchacha.h"

/* A message ends with mac1 and mac2; each covers all that lies before it. */
#define MAC1_FROM_END (2 * ZR_MAC_BYTES)
#define MAC2_FROM_END ZR_MAC_BYTES

/* Of a cookie reply. */
#define AT_RECEIVER 4
#define AT_NONCE    8
#define AT_COOKIE   (AT_NONCE + ZR_XCHACHA_NONCE)
_Static_assert(AT_COOKIE + ZR_MAC_BYTES + ZR_XCHACHA_TAG == ZR_GATE_COOKIE, "PROTOCOL.md");

/* Whose bucket: messages that a key exchange follows, replies we send, replies we get. */
enum kind { HANDSHAKES, REPLIES, COOKIES, KINDS };

/* What a public key of ours makes of the mesh key. */
typedef struct own_key {
    uint8_t mac1[32], cookie[32];
} own_key;

struct zr_gate {
    zr_mac mac;
    zr_xchacha aead;
    uint8_t seed[32];
    own_key own, former;
    zr_ns_t former_until;
    uint8_t secret[2][ZR_MAC_BYTES]; /* of this period and the one before */
    int64_t period;                  /* of ZR_GATE_SECRET that `secret` is for */
    uint64_t salt[KINDS];
    uint64_t replies; /* made so far: no nonce twice */
    uint32_t credit;  /* hundredths of bytes that may be answered */
    uint32_t queued, busy;
    zr_ns_t loaded_until;
    uint64_t loads; /* times it began */
    zr_ns_t all_full_at[KINDS];
    zr_ns_t unproven_full_at; /* nobody's tokens: is there still more than everybody may? */
    zr_ns_t full_at[ZR_GATE_SOURCES];
};

static const struct {
    zr_ns_t every;
    int burst;
} all[KINDS] = {
    [HANDSHAKES] = { ZR_GATE_ALL_EVERY, ZR_GATE_ALL_BURST },
    [REPLIES] = { ZR_GATE_REPLY_EVERY, ZR_GATE_ALL_BURST },
    [COOKIES] = { ZR_GATE_ALL_EVERY, ZR_GATE_ALL_BURST },
};

size_t zr_gate_bytes(void)
{
    return sizeof(zr_gate);
}

/* 16 bytes that only the seed tells. */
static void draw(zr_gate *gate, uint8_t to[ZR_MAC_BYTES], const char label[8], uint64_t number)
{
    uint8_t what[16];

    memcpy(what, label, 8);
    zr_put64(what + 8, number);
    zr_mac_of(&gate->mac, to, gate->seed, sizeof gate->seed, what, sizeof what);
}

static void renew_secrets(zr_gate *gate, zr_ns_t now)
{
    int64_t period = now / ZR_GATE_SECRET;

    if (period == gate->period)
        return;
    gate->period = period;
    for (int back = 0; back < 2; back++)
        draw(gate, gate->secret[back], "secret--", (uint64_t)(period - back));
}

static int own_key_init(own_key *key, const uint8_t public[32], const uint8_t mesh[32])
{
    int rc = zr_mac_key(key->mac1, "mac1----", public, mesh);
    return rc < 0 ? rc : zr_mac_key(key->cookie, "cookie--", public, mesh);
}

zr_gate *zr_gate_init(void *mem, const zr_gate_keys *keys)
{
    zr_gate *gate = mem;

    if ((uintptr_t)mem % ZR_CACHELINE != 0)
        return NULL;
    memset(gate, 0, sizeof *gate); /* all of it is touched now, so that no flood makes it grow */
    gate->period = -1;
    memcpy(gate->seed, keys->seed, sizeof gate->seed);
    gate->former_until = keys->former_until;
    if (zr_mac_open(&gate->mac) < 0 || zr_xchacha_open(&gate->aead) < 0 ||
        own_key_init(&gate->own, keys->public, keys->mesh) < 0 ||
        (keys->former_until > 0 && own_key_init(&gate->former, keys->former, keys->mesh) < 0)) {
        zr_gate_fini(gate);
        return NULL;
    }
    for (int kind = 0; kind < KINDS; kind++) {
        uint8_t drawn[ZR_MAC_BYTES];
        draw(gate, drawn, "salt----", (uint64_t)kind);
        gate->salt[kind] = zr_get64(drawn);
    }
    return gate;
}

void zr_gate_fini(zr_gate *gate)
{
    zr_xchacha_close(&gate->aead);
    zr_mac_close(&gate->mac);
    zr_wipe(gate, offsetof(zr_gate, full_at));
}

void zr_gate_queued(zr_gate *gate, uint32_t messages)
{
    gate->queued = messages;
}

void zr_gate_busy(zr_gate *gate, uint32_t thousandths)
{
    gate->busy = thousandths;
}

bool zr_gate_loaded(const zr_gate *gate, zr_ns_t now)
{
    return gate->queued > ZR_GATE_QUEUED || gate->busy > ZR_GATE_BUSY || now < gate->loaded_until;
}

uint64_t zr_gate_loads(const zr_gate *gate)
{
    return gate->loads;
}

static void set_loaded(zr_gate *gate, zr_ns_t now)
{
    gate->loads += now >= gate->loaded_until;
    gate->loaded_until = now + ZR_GATE_LOADED;
}

/* On loopback a source is an address with its port: several relays of one machine share the IP. */
static zr_ns_t *bucket_of(zr_gate *gate, const zr_addr *from, enum kind kind)
{
    static const zr_addr loopback6 = { .ip = { [15] = 1 }, .family = 6 };
    zr_addr source = *from;

    if (!(from->family == 4 && from->ip[0] == 127) && !zr_addr_same_ip(from, &loopback6)) {
        size_t network = from->family == 4 ? 3 : 8;
        memset(source.ip + network, 0, sizeof source.ip - network);
        source.port = 0;
    }
    zr_put64(source.ip, zr_get64(source.ip) ^ gate->salt[kind]);
    return &gate->full_at[zr_addr_hash(&source) % ZR_GATE_SOURCES];
}

/* One token of the source's bucket and one of everybody's; none when either is empty. */
static bool take(zr_gate *gate, const zr_addr *from, enum kind kind, zr_ns_t now)
{
    zr_ns_t *mine = bucket_of(gate, from, kind), before = *mine;

    if (!zr_rate_take(mine, now, ZR_GATE_EVERY, ZR_GATE_BURST))
        return false;
    if (zr_rate_take(&gate->all_full_at[kind], now, all[kind].every, all[kind].burst))
        return true;
    *mine = before;
    if (kind == HANDSHAKES) /* from now on only who proves its address takes from it */
        set_loaded(gate, now);
    return false;
}

bool zr_gate_overlap(const zr_gate *gate, zr_ns_t now)
{
    return now < gate->former_until;
}

static bool mac1_right(zr_gate *gate, const own_key *key, const uint8_t *data, size_t len)
{
    uint8_t mac[ZR_MAC_BYTES];

    zr_mac_of(&gate->mac, mac, key->mac1, sizeof key->mac1, data, len - MAC1_FROM_END);
    return zr_mac_eq(mac, data + len - MAC1_FROM_END);
}

/* The key of ours that MAC1 was made with, or NULL. */
static const own_key *key_of(zr_gate *gate, const uint8_t *data, size_t len, zr_ns_t now)
{
    if (mac1_right(gate, &gate->own, data, len))
        return &gate->own;
    return zr_gate_overlap(gate, now) && mac1_right(gate, &gate->former, data, len) ? &gate->former : NULL;
}

static void cookie_for(zr_gate *gate, uint8_t cookie[ZR_MAC_BYTES], int back, const zr_addr *from)
{
    uint8_t source[19];

    memcpy(source, from->ip, 16);
    zr_put16(source + 16, from->port);
    source[18] = from->family;
    zr_mac_of(&gate->mac, cookie, gate->secret[back], ZR_MAC_BYTES, source, sizeof source);
}

static bool mac2_right(zr_gate *gate, const uint8_t *data, size_t len, const zr_addr *from)
{
    static const uint8_t none[ZR_MAC_BYTES];
    uint8_t cookie[ZR_MAC_BYTES], mac[ZR_MAC_BYTES];
    const uint8_t *given = data + len - MAC2_FROM_END;

    if (memcmp(given, none, sizeof none) == 0) /* it has no cookie: no secret is in this comparison */
        return false;
    for (int back = 0; back < 2; back++) {
        cookie_for(gate, cookie, back, from);
        zr_mac_of(&gate->mac, mac, cookie, sizeof cookie, data, len - MAC2_FROM_END);
        if (zr_mac_eq(mac, given))
            return true;
    }
    return false;
}

static void make_reply(zr_gate *gate, const own_key *key, uint8_t reply[ZR_GATE_COOKIE], const uint8_t *data,
                       size_t len, const zr_addr *from)
{
    uint8_t cookie[ZR_MAC_BYTES];

    cookie_for(gate, cookie, 0, from);
    memset(reply, 0, AT_RECEIVER);
    reply[0] = ZR_ENV_COOKIE;
    memcpy(reply + AT_RECEIVER, data + 4, 4); /* the sender's index */
    draw(gate, reply + AT_NONCE, "nonce---", gate->replies);
    zr_put64(reply + AT_NONCE + ZR_MAC_BYTES, gate->replies++);
    zr_xchacha_seal(&gate->aead, reply + AT_COOKIE, key->cookie, reply + AT_NONCE, data + len - MAC1_FROM_END,
                    ZR_MAC_BYTES, cookie, ZR_MAC_BYTES);
}

/* Whom we answer did not prove that it is where it says: all answers together stay below a share of what came. */
static bool may_reply(zr_gate *gate, size_t len, const zr_addr *from, zr_ns_t now)
{
    const uint32_t price = 100 * ZR_GATE_COOKIE;

    gate->credit = ZR_MIN(gate->credit + ZR_GATE_SHARE * (uint32_t)len, 2 * price);
    if (gate->credit < price || !take(gate, from, REPLIES, now))
        return false;
    gate->credit -= price;
    return true;
}

static int refuse(zr_gate_answer *answer, enum zr_drop_id why)
{
    answer->why = why;
    return ZR_E_dropped;
}

static size_t length_of(uint8_t type)
{
    return type == ZR_ENV_HELLO ? ZR_GATE_HELLO : type == ZR_ENV_ANSWER ? ZR_GATE_ANSWER : ZR_GATE_COOKIE;
}

int zr_gate_input(zr_gate *gate, const uint8_t *data, size_t len, const zr_addr *from, zr_ns_t now,
                  zr_gate_answer *answer)
{
    answer->reply = answer->former = false;
    if (len == 0 || len != length_of(data[0]))
        return refuse(answer, ZR_DROP_length);
    if (data[0] == ZR_ENV_COOKIE)
        return take(gate, from, COOKIES, now) ? ZR_OK : refuse(answer, ZR_DROP_ratelimit);
    const own_key *key = key_of(gate, data, len, now);
    if (key == NULL)
        return refuse(answer, ZR_DROP_mac1);
    answer->former = key == &gate->former;
    if (gate->queued > ZR_GATE_QUEUED || gate->busy > ZR_GATE_BUSY)
        set_loaded(gate, now);
    if (now < gate->loaded_until) {
        renew_secrets(gate, now);
        if (!mac2_right(gate, data, len, from)) {
            if (!zr_rate_take(&gate->unproven_full_at, now, ZR_GATE_ALL_EVERY, ZR_GATE_ALL_BURST))
                set_loaded(gate, now);
            answer->reply = may_reply(gate, len, from, now);
            if (answer->reply)
                make_reply(gate, key, answer->cookie, data, len, from);
            return refuse(answer, ZR_DROP_mac2);
        }
    }
    return take(gate, from, HANDSHAKES, now) ? ZR_OK : refuse(answer, ZR_DROP_ratelimit);
}

bool zr_gate_check(const zr_gate *gate, zr_ns_t now)
{
    if (gate->loaded_until > now + ZR_GATE_LOADED || gate->credit > 200 * ZR_GATE_COOKIE)
        return false;
    for (int kind = 0; kind < KINDS; kind++)
        if (gate->all_full_at[kind] > now + all[kind].burst * all[kind].every)
            return false;
    for (uint32_t i = 0; i < ZR_GATE_SOURCES; i++)
        if (gate->full_at[i] > now + ZR_GATE_BURST * ZR_GATE_EVERY)
            return false;
    return true;
}
