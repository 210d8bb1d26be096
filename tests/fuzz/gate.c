/*
 * Datagrams into the gate, with steps of the clock in between.
 *
 * Each record is a control byte and a datagram. Control: bits 0-1 where it comes from (a network, its neighbour, IPv6,
 * loopback); bit 2 its MAC1 is made right; bit 3 its MAC2 too, with the cookie of its source; bit 4 many wait; bits 5-7
 * the clock goes on by 0, 1 ms, 50 ms, 1 s, 60 s, 120 s, 240 s, 1 h.
 */
#include "base/zr_err.h"
#include "fuzz.h"
#include "gate/zr_gate.h"
#include "wire/zr_mac.h"

enum { RECORDS_MAX = 256, PERIOD_S = 120 };

typedef struct world {
    zr_gate *gate;
    zr_mac mac;
    uint8_t mac1_key[2][32]; /* of our key, and of the one before */
    zr_ns_t now;
    uint32_t replies;
} world;

static const zr_gate_keys keys = {
    .public = { 1, 2, 3 }, .mesh = { 4, 5, 6 }, .seed = { 7, 8, 9 }, .former = { 10 }, .former_until = ZR_SEC(1900)
};
static const zr_addr sources[4] = { { .ip = { 192, 0, 2, 1 }, .port = 4000, .family = 4 },
                                    { .ip = { 192, 0, 2, 2 }, .port = 4000, .family = 4 },
                                    { .ip = { 0x20, 1, 0xd, 0xb8, [15] = 1 }, .port = 4000, .family = 6 },
                                    { .ip = { 127, 0, 0, 1 }, .port = 4000, .family = 4 } };

static void cookie_of(world *w, const zr_addr *from, uint8_t cookie[16])
{
    uint8_t what[16] = "secret--", secret[16], source[19];

    zr_put64(what + 8, (uint64_t)(w->now / ZR_SEC(PERIOD_S)));
    zr_mac_of(&w->mac, secret, keys.seed, sizeof keys.seed, what, sizeof what);
    memcpy(source, from->ip, 16);
    zr_put16(source + 16, from->port);
    source[18] = from->family;
    zr_mac_of(&w->mac, cookie, secret, sizeof secret, source, sizeof source);
}

static bool mac1_right(world *w, const uint8_t *data, size_t len)
{
    uint8_t mac[16];

    for (int i = 0; i < (w->now < keys.former_until ? 2 : 1); i++) {
        zr_mac_of(&w->mac, mac, w->mac1_key[i], sizeof w->mac1_key[i], data, len - 32);
        if (memcmp(mac, data + len - 32, sizeof mac) == 0)
            return true;
    }
    return false;
}

/* What holds for every verdict, whatever came before. */
static void judge(world *w, const uint8_t *data, size_t len, int rc, const zr_gate_answer *answer)
{
    size_t exact = data[0] == 0x08 ? ZR_GATE_HELLO : data[0] == 0x09 ? ZR_GATE_ANSWER : ZR_GATE_COOKIE;

    ZR_CHECK(rc == ZR_OK || rc == ZR_E_dropped);
    ZR_CHECK((len == exact) == (rc == ZR_OK || answer->why != ZR_DROP_length));
    if (len != exact || data[0] == 0x0A) {
        ZR_CHECK(rc == ZR_OK || (!answer->reply && (len != exact || answer->why == ZR_DROP_ratelimit)));
        return;
    }
    ZR_CHECK(mac1_right(w, data, len) == (rc == ZR_OK || answer->why != ZR_DROP_mac1));
    if (rc == ZR_OK || !answer->reply)
        return;
    ZR_CHECK(answer->why == ZR_DROP_mac2 && zr_gate_loaded(w->gate, w->now));
    ZR_CHECK(zr_get32(answer->cookie) == 0x0A && zr_get32(answer->cookie + 4) == zr_get32(data + 4));
    ZR_CHECK(zr_get64(answer->cookie + 24) == w->replies++);
}

static void give(world *w, uint8_t *record, size_t size)
{
    static const uint32_t steps_ms[8] = { 0, 1, 50, 1000, 60000, 120000, 240000, 3600000 };
    uint8_t control = record[0], *data = record + 1;
    const zr_addr *from = &sources[control & 3];
    size_t len = size - 1;
    zr_gate_answer answer;

    w->now += ZR_MS(steps_ms[control >> 5]);
    if (len > 0)
        data[0] = (uint8_t)(0x08 + data[0] % 3); /* others do not come here */
    if ((control & 4) != 0 && len >= 32)
        zr_mac_of(&w->mac, data + len - 32, w->mac1_key[data[1] & 1], 32, data, len - 32);
    if ((control & 8) != 0 && len >= 32) {
        uint8_t cookie[16];
        cookie_of(w, from, cookie);
        zr_mac_of(&w->mac, data + len - 16, cookie, sizeof cookie, data, len - 16);
    }
    zr_gate_queued(w->gate, (control & 16) != 0 ? 1024 : 0);
    int rc = zr_gate_input(w->gate, data, len, from, w->now, &answer);
    if (len > 0)
        judge(w, data, len, rc, &answer);
    else
        ZR_CHECK(rc == ZR_E_dropped && answer.why == ZR_DROP_length && !answer.reply);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void *mem;
    world w = { .now = ZR_SEC(1000) };
    uint8_t *record;
    size_t len;

    if (mem == NULL)
        mem = aligned_alloc(ZR_CACHELINE, zr_round_up(zr_gate_bytes(), ZR_CACHELINE));
    ZR_CHECK(mem != NULL);
    w.gate = zr_gate_init(mem, &keys);
    ZR_CHECK(w.gate != NULL && zr_mac_open(&w.mac) == ZR_OK);
    ZR_CHECK(zr_mac_key(w.mac1_key[0], "mac1----", keys.public, keys.mesh) == ZR_OK);
    ZR_CHECK(zr_mac_key(w.mac1_key[1], "mac1----", keys.former, keys.mesh) == ZR_OK);
    for (int n = 0; n < RECORDS_MAX && (record = fuzz_record(&data, &size, &len)) != NULL; n++) {
        if (len > 0)
            give(&w, record, len);
        free(record);
    }
    ZR_CHECK(zr_gate_check(w.gate, w.now));
    zr_gate_fini(w.gate);
    zr_mac_close(&w.mac);
    return 0;
}
