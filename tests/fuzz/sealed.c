/*
 * What a peer with the right keys may say: the harness seals the fuzzer's bytes and gives them to lanes, while the
 * clock steps, lanes of the peer begin new epochs and handshakes bring new keys.
 *
 * Each record is a step. Byte 0: bit 7 the agent's lane instead of a worker's; bits 4-6 what; bits 0-3 the clock goes
 * on by steps_ms[]. What:
 *
 *   0-4  sealed   {how, ...} bits 0-1 under which keys, counted back from the newest; 2-3 the sending lane; 4-5 its
 * epoch (as it is, the next, the one before, two before); bit 6 {at, mask}: a byte is changed afterwards; bit 7 {by}:
 * the counter is so much off the next one. Then the plaintext 5    rekey    {bit 0 we are the initiator, bit 1 another
 * cipher} 6    proven   the peer was heard under the newest keys elsewhere 7    raw      these bytes, as they are
 *
 * Whatever was said before: a datagram ends in one counter; none that was changed gets behind its tag, none that was
 * not is refused there; none is taken twice; violations are told as they are counted; what is sent opens under keys
 * that the peer is known to have, ever newer ones, and no nonce comes again.
 */
#include "base/zr_err.h"
#include "forward/zr_lane.h"
#include "fuzz.h"
#include "sim/zr_rng.h"
#include "take.h"

enum { PKTS = 256, BATCH = 64, INDEX = 0x0100000, PEER_INDEX = 0x0200000, PEER_PORT = 6000, MTU = 1420 };
enum { SLOT = 1, MEDIA = 7, ANYWHERE = 8, RECORDS_MAX = 64, EPOCH = 100 };
enum { TO_US, FROM_US };

/* A datagram that may not come again. */
typedef struct taken {
    uint32_t generation, from, to;
    uint16_t epoch;
    uint64_t counter;
} taken;

typedef struct world {
    zr_pool pool;
    zr_batch batch;
    zr_stat_page *page;
    zr_lane *lanes[2]; /* a worker's, the agent's */
    zr_ns_t now;
    uint32_t newest; /* generation; all from 0 on have been */
    uint8_t ciphers[RECORDS_MAX + 1];
    bool known[2][RECORDS_MAX + 1];       /* by lane: the peer has these keys */
    uint32_t sending[2];                  /* generation of what was sent last */
    int64_t sent[2][RECORDS_MAX + 1][64]; /* the last counter, to that lane of the peer; -1: none */
    uint16_t epochs[4];
    uint64_t counters[4];
    taken taken[RECORDS_MAX];
    uint32_t taken_count;
    uint64_t violations; /* told */
} world;

static world w;
static zr_seal_kit kit;
static zr_seal to_seal, to_open;
static const uint8_t lane_numbers[2] = { 0, ZR_LANE_AGENT };
static const uint8_t senders[4] = { 0, 1, ZR_LANE_AGENT, 61 }; /* the last one: it has no such lane */

static void *memory(size_t bytes)
{
    void *mem = aligned_alloc(ZR_CACHELINE, zr_round_up(bytes, ZR_CACHELINE));
    ZR_CHECK(mem != NULL);
    return mem;
}

static void secret_of(uint8_t to[ZR_SECRET_BYTES], uint32_t generation, int direction)
{
    zr_rng rng;

    zr_rng_seed(&rng, generation * 2 + (uint32_t)direction + 1);
    for (size_t i = 0; i < ZR_SECRET_BYTES; i++)
        to[i] = (uint8_t)zr_rng_next(&rng);
}

static zr_keys keys_of(uint32_t generation, bool initiator)
{
    zr_keys keys = { .cipher = w.ciphers[generation], .initiator = initiator };

    secret_of(keys.send, generation, FROM_US);
    secret_of(keys.recv, generation, TO_US);
    return keys;
}

static void key(zr_seal *seal, uint32_t generation, int direction, uint8_t from, uint8_t to, uint16_t epoch)
{
    uint8_t secret[ZR_SECRET_BYTES];

    secret_of(secret, generation, direction);
    zr_seal_key(seal, (enum zr_cipher)w.ciphers[generation], secret, from, to, epoch);
}

static zr_lane_conf conf_of(int which)
{
    return (zr_lane_conf){ .lane = lane_numbers[which],
                           .sessions_max = 2,
                           .convs_max = 4,
                           .peer_lanes_max = 4,
                           .blocks_max = 16,
                           .window = 128,
                           .ciphers = 1u << ZR_CIPHER_AES_128_GCM | 1u << ZR_CIPHER_CHACHA20_POLY1305,
                           .keys_max = 8,
                           .probe = { .rate_idle = which == 0 ? 0 : 25, .rate_active = 100, .seed = 1 } };
}

/* As the peer reads it. */
static void hear(int which, const zr_tx *tx)
{
    uint8_t *data = memory(tx->len);
    zr_env env;

    memcpy(data, tx->data, tx->len);
    zr_env_parse(&env, data);
    uint32_t generation = zr_env_index(env.receiver) - PEER_INDEX, to = zr_env_lane(env.receiver);
    ZR_CHECK(env.type == ZR_ENV_DATA && env.lane == lane_numbers[which] && generation <= w.newest);
    ZR_CHECK(w.known[which][generation] && generation >= w.sending[which]);
    int64_t *sent = &w.sent[which][generation][to];
    ZR_CHECK((int64_t)env.counter > *sent);
    *sent = (int64_t)env.counter;
    w.sending[which] = generation;
    key(&to_open, generation, FROM_US, env.lane, (uint8_t)to, env.epoch);
    ZR_CHECK(zr_seal_open(&to_open, env.counter, data, tx->len));
    free(data);
}

static void pump(int which)
{
    zr_lane *lane = w.lanes[which];
    enum zr_rekey_why why;
    uint32_t slot, count;
    int rc;

    take_all(lane);
    for (; zr_lane_violations(lane, &slot, &count); w.violations += count)
        ZR_CHECK(slot == SLOT && count > 0);
    (void)zr_lane_unknown(lane, &slot, &count);
    while (zr_lane_rekey_wanted(lane, &slot, &why))
        ZR_CHECK(slot == SLOT);
    if (zr_lane_deadline(lane) <= w.now)
        zr_lane_on_deadline(lane, w.now);
    do {
        rc = zr_lane_output(lane, &w.batch, w.now);
        for (uint32_t i = 0; i < w.batch.count; i++)
            hear(which, &w.batch.tx[i]);
        zr_batch_reset(&w.batch);
    } while (rc == ZR_E_full);
    ZR_CHECK(zr_lane_check(lane));
    ZR_CHECK(zr_ledger_off(w.page, ZR_LEDGER_link) == 0);
}

/* Each conversation has something on its way, so that acknowledgements have something to hit. */
static void speak(int which)
{
    static const uint8_t words[2400]; /* two segments at most on a media conversation */
    const uint32_t convs[2][2] = { { MEDIA, ANYWHERE }, { 0, 0 } };

    for (int i = 0; i < (which == 0 ? 2 : 1); i++) {
        uint32_t number = convs[which][i];
        uint8_t peer = which == 1 ? ZR_LANE_AGENT : number == ANYWHERE ? ZR_LANE_ANY : 0;
        int conv = zr_lane_conv_open(w.lanes[which], SLOT, number, peer, which == 0 ? ZR_CONV_MEDIA : ZR_CONV_CONTROL,
                                     0, w.now);
        ZR_CHECK(conv >= 0);
        for (size_t len = 100; len <= sizeof words; len *= 4)
            ZR_CHECK(zr_lane_send_bytes(w.lanes[which], (uint32_t)conv, words, len, w.now) == ZR_OK);
    }
    pump(which);
}

static void once(void *mem[5])
{
    const zr_lane_conf worker = conf_of(0), control = conf_of(1);

    mem[0] = memory(zr_pool_bytes(PKTS));
    mem[1] = memory(zr_batch_bytes(BATCH, BATCH * 1536));
    mem[2] = memory(zr_stat_bytes(1));
    mem[3] = memory(zr_lane_bytes(&worker));
    mem[4] = memory(zr_lane_bytes(&control));
    ZR_CHECK(zr_seal_kit_open(&kit) == ZR_OK);
    zr_seal_init(&to_seal);
    zr_seal_init(&to_open);
    for (int cipher = ZR_CIPHER_AES_128_GCM; cipher < ZR_CIPHER_COUNT; cipher++) {
        ZR_CHECK(zr_seal_prepare(&to_seal, &kit, (enum zr_cipher)cipher, true) == ZR_OK);
        ZR_CHECK(zr_seal_prepare(&to_open, &kit, (enum zr_cipher)cipher, false) == ZR_OK);
    }
}

/* The first time made, then as it was then: its plan of copies costs more than all that follows. */
static void open_lane(int which, void *mem)
{
    static void *made[2];
    const zr_lane_conf conf = conf_of(which);

    w.lanes[which] = mem;
    if (made[which] != NULL) {
        memcpy(mem, made[which], zr_lane_bytes(&conf));
        return;
    }
    memset(mem, 0xA5, zr_lane_bytes(&conf)); /* init relies on no zeros */
    ZR_CHECK(zr_lane_init(mem, &conf, &w.pool, w.page, w.now) == mem);
    made[which] = memory(zr_lane_bytes(&conf));
    memcpy(made[which], mem, zr_lane_bytes(&conf));
}

static void open_world(void)
{
    static void *mem[5];

    if (mem[0] == NULL)
        once(mem);
    memset(&w, 0, sizeof w);
    memset(w.sent, 0xFF, sizeof w.sent);
    w.now = ZR_SEC(1);
    w.ciphers[0] = ZR_CIPHER_AES_128_GCM;
    w.page = memset(mem[2], 0, zr_stat_bytes(1));
    ZR_CHECK(zr_pool_init(&w.pool, mem[0], PKTS) == ZR_OK);
    ZR_CHECK(zr_batch_init(&w.batch, mem[1], BATCH, BATCH * 1536) == ZR_OK);
    ZR_CHECK(zr_stat_init(w.page, 1) == ZR_OK);
    for (size_t i = 0; i < ZR_LEN(w.epochs); i++)
        w.epochs[i] = EPOCH;
    const zr_session_conf session = { .index = INDEX,
                                      .peer_index = PEER_INDEX,
                                      .agent = { .ip = { 127, 0, 0, 1 }, .port = PEER_PORT, .family = 4 },
                                      .lanes = 2,
                                      .mtu = MTU,
                                      .rate_mhz = 5000,
                                      .keys = keys_of(0, true) };
    for (int which = 0; which < 2; which++) {
        open_lane(which, mem[3 + which]);
        ZR_CHECK(zr_lane_session_add(w.lanes[which], SLOT, &session, w.now) == ZR_OK);
        w.known[which][0] = true;
        speak(which);
    }
}

/* Why it was refused; ZR_DROP_COUNT: it was not. */
static enum zr_drop_id give(int which, uint8_t from, const uint8_t *data, size_t len)
{
    uint64_t before[ZR_DROP_COUNT], accepted = atomic_load(&w.page->stat[ZR_STAT_link_accepted]);
    enum zr_drop_id why = ZR_DROP_COUNT;
    zr_addr addr = { .ip = { 127, 0, 0, 1 },
                     .port = (uint16_t)(from == ZR_LANE_AGENT ? PEER_PORT : PEER_PORT + 1 + from),
                     .family = 4 };
    zr_pkt *pkt = zr_pool_copy(&w.pool, data, ZR_MIN(len, (size_t)ZR_PKT_ROOM));

    ZR_CHECK(pkt != NULL); /* nobody holds so many */
    for (int i = 0; i < ZR_DROP_COUNT; i++)
        before[i] = atomic_load(&w.page->drop[i]);
    zr_stat_add(w.page, ZR_STAT_rx_link, 1);
    int rc = zr_lane_input(w.lanes[which], pkt, &addr, w.now);
    for (int i = 0; i < ZR_DROP_COUNT; i++) {
        if (atomic_load(&w.page->drop[i]) == before[i])
            continue;
        ZR_CHECK(why == ZR_DROP_COUNT && atomic_load(&w.page->drop[i]) == before[i] + 1);
        why = (enum zr_drop_id)i;
    }
    ZR_CHECK(rc == (why == ZR_DROP_COUNT ? ZR_OK : ZR_E_dropped));
    ZR_CHECK(atomic_load(&w.page->stat[ZR_STAT_link_accepted]) == accepted + (rc == ZR_OK));
    return why;
}

static bool behind_the_tag(enum zr_drop_id why)
{
    return why == ZR_DROP_COUNT || why == ZR_DROP_replay || why == ZR_DROP_old || why == ZR_DROP_limit ||
           why == ZR_DROP_probe || (why >= ZR_DROP_kcp_short && why <= ZR_DROP_kcp_frg);
}

/* Taken, or taken apart: its counter is used up. */
static void note(int which, const taken *it, enum zr_drop_id why)
{
    if (!behind_the_tag(why))
        return;
    bool again = false;
    for (uint32_t i = 0; i < w.taken_count; i++)
        again |= memcmp(&w.taken[i], it, sizeof *it) == 0;
    ZR_CHECK(!again || why == ZR_DROP_replay || why == ZR_DROP_old || why == ZR_DROP_limit);
    if (!again)
        w.taken[w.taken_count++] = *it;
    if (why == ZR_DROP_COUNT && it->generation >= w.sending[which])
        w.known[which][it->generation] = true;
}

static uint8_t byte_of(const uint8_t **data, size_t *len)
{
    if (*len == 0)
        return 0;
    --*len;
    return *(*data)++;
}

static void say(int which, const uint8_t *body, size_t len)
{
    uint8_t how = byte_of(&body, &len), back = how & 3, who = how >> 2 & 3, datagram[ZR_PKT_ROOM];
    static const int16_t epoch_by[4] = { 0, 1, -1, -2 };
    bool was = back <= w.newest, changed = (how & 0x40) != 0;
    uint8_t at = changed ? byte_of(&body, &len) : 0, mask = changed ? byte_of(&body, &len) : 0;
    int8_t by = (how & 0x80) != 0 ? (int8_t)byte_of(&body, &len) : 0;
    taken it;

    memset(&it, 0, sizeof it);
    if ((how >> 4 & 3) == 1 && w.epochs[who] < UINT16_MAX) {
        w.epochs[who]++;
        w.counters[who] = 0;
    }
    it.generation = was ? w.newest - back : 0;
    it.from = senders[who];
    it.to = lane_numbers[which];
    it.epoch = (uint16_t)(w.epochs[who] + ((how >> 4 & 3) == 1 ? 0 : epoch_by[how >> 4 & 3]));
    it.counter = w.counters[who] + (uint64_t)(int64_t)by;
    if (by == 0)
        w.counters[who]++;
    const zr_env env = { .type = ZR_ENV_DATA,
                         .lane = senders[who],
                         .epoch = it.epoch,
                         .receiver = (uint32_t)(INDEX + (was ? it.generation : RECORDS_MAX + 1)) << 6 | it.to,
                         .counter = it.counter };
    len = ZR_MIN(len, (size_t)ZR_PKT_ROOM - ZR_ENV_HEAD - ZR_ENV_TAG);
    zr_env_put(datagram, &env);
    if (len > 0)
        memcpy(datagram + ZR_ENV_HEAD, body, len);
    len += ZR_ENV_HEAD + ZR_ENV_TAG;
    key(&to_seal, it.generation, TO_US, env.lane, lane_numbers[which], env.epoch);
    zr_seal_put(&to_seal, env.counter, datagram, len);
    if (changed)
        datagram[at * len / 256] ^= (uint8_t)(mask | (mask == 0));
    enum zr_drop_id why = give(which, senders[who], datagram, len);
    if (changed || !was || who == 3)
        ZR_CHECK(!behind_the_tag(why));
    else
        ZR_CHECK(why != ZR_DROP_auth && why != ZR_DROP_type && why != ZR_DROP_short && why != ZR_DROP_src);
    note(which, &it, why);
}

static void rekey(uint8_t how)
{
    uint32_t generation = ++w.newest;

    w.ciphers[generation] = (how & 2) != 0 ? ZR_CIPHER_CHACHA20_POLY1305 : ZR_CIPHER_AES_128_GCM;
    zr_keys keys = keys_of(generation, (how & 1) != 0);
    for (int which = 0; which < 2; which++) {
        ZR_CHECK(zr_lane_session_rekey(w.lanes[which], SLOT, INDEX + generation, PEER_INDEX + generation, &keys,
                                       w.now) == ZR_OK);
        w.known[which][generation] = keys.initiator;
    }
}

static void proven(void)
{
    zr_keys keys = keys_of(w.newest, true);

    for (int which = 0; which < 2; which++) {
        int rc = zr_lane_session_rekey(w.lanes[which], SLOT, INDEX + w.newest, PEER_INDEX + w.newest, &keys, w.now);
        ZR_CHECK(rc == ZR_OK || rc == ZR_E_exists); /* of keys that are over */
        w.known[which][w.newest] |= rc == ZR_OK;
    }
}

static void step(const uint8_t *record, size_t len)
{
    static const uint32_t steps_ms[16] = {
        0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 999, 1000, 2000, 9999, 60000, 450000
    };
    int which = record[0] >> 7;

    w.now += ZR_MS((zr_ns_t)steps_ms[record[0] & 15]);
    switch (record[0] >> 4 & 7) {
    case 5:
        rekey(len > 1 ? record[1] : 0);
        break;
    case 6:
        proven();
        break;
    case 7:
        (void)give(which, 0, record + 1, len - 1);
        break;
    default:
        say(which, record + 1, len - 1);
        break;
    }
    for (which = 0; which < 2; which++)
        pump(which);
}

static uint64_t broken(void)
{
    uint64_t sum = 0;

    for (int i = ZR_DROP_kcp_short; i <= ZR_DROP_kcp_frg; i++)
        sum += atomic_load(&w.page->drop[i]);
    return sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *record;
    size_t len;

    open_world();
    for (int n = 0; n < RECORDS_MAX && (record = fuzz_record(&data, &size, &len)) != NULL; n++) {
        if (len > 0)
            step(record, len);
        free(record);
    }
    ZR_CHECK(w.violations <= broken() && (w.violations == broken() || w.violations >= 16));
    for (int which = 0; which < 2; which++)
        ZR_CHECK(zr_lane_session_drop(w.lanes[which], SLOT) == ZR_OK && zr_lane_check(w.lanes[which]));
    ZR_CHECK(w.pool.in_use == 0 && zr_pool_check(&w.pool));
    return 0;
}
