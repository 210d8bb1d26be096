/*
 * gate_cost.c - what one datagram of a stranger's costs the agent before it is dropped, without the system call.
 *
 *     gate_cost KIND COUNT       prints CPU nanoseconds a datagram; callgrind counts what happens below `counted`
 *
 * Kinds, as the checks come: type, length, lane, mac1, mac2 (no cookie, and the bucket of its replies is empty), forged
 * (a wrong cookie), reply (a cookie is made for it), ratelimit.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/zr_bytes.h"
#include "base/zr_err.h"
#include "cost.h"
#include "wire/zr_mac.h"
#include "worker/zr_agentlane.h"

static const struct {
    const char *name;
    uint8_t type;
    size_t len;
    bool mac1, mac2, loaded, moving; /* moving: each comes from another network */
    enum zr_drop_id why;
} kinds[] = {
    { "type", 0x80, 1200, false, false, false, true, ZR_DROP_type },
    { "length", ZR_ENV_HELLO, 1200, false, false, false, true, ZR_DROP_length },
    { "lane", ZR_ENV_DATA, 1200, false, false, false, true, ZR_DROP_lane },
    { "mac1", ZR_ENV_HELLO, ZR_GATE_HELLO, false, false, false, true, ZR_DROP_mac1 },
    { "mac2", ZR_ENV_HELLO, ZR_GATE_HELLO, true, false, true, false, ZR_DROP_mac2 },
    { "forged", ZR_ENV_HELLO, ZR_GATE_HELLO, true, true, true, false, ZR_DROP_mac2 },
    { "reply", ZR_ENV_HELLO, ZR_GATE_HELLO, true, false, true, true, ZR_DROP_mac2 },
    { "ratelimit", ZR_ENV_HELLO, ZR_GATE_HELLO, true, false, false, false, ZR_DROP_ratelimit },
};

void counted(zr_agentlane *agent, int kind, const uint8_t *data, int count, zr_ns_t *now);

__attribute__((noipa)) void counted(zr_agentlane *agent, int kind, const uint8_t *data, int count, zr_ns_t *now)
{
    zr_addr from = { .ip = { 11, 0, 0, 1 }, .port = 9, .family = 4 };

    for (int i = 0; i < count; i++) {
        if (kinds[kind].moving) {
            zr_put16be(from.ip + 1, (uint16_t)i);
            *now += ZR_US(100);
        }
        (void)zr_agentlane_input(agent, data, kinds[kind].len, false, &from, *now);
        if (i % 32 == 31) {
            (void)zr_agentlane_output(agent, *now);
            zr_batch_reset(zr_agentlane_batch(agent));
        }
    }
}

static int kind_of(const char *name)
{
    for (int i = 0; i < (int)ZR_LEN(kinds); i++)
        if (strcmp(kinds[i].name, name) == 0)
            return i;
    abort();
}

int main(int argc, char **argv)
{
    static uint8_t data[1500];
    const zr_gate_keys keys = { .public = { 1 }, .mesh = { 2 }, .seed = { 3 } };
    zr_agentlane_conf conf = zr_agentlane_conf_default(16);
    zr_stat_page *page = memory(zr_stat_bytes(0));
    uint8_t mac1_key[32];
    zr_ns_t now = ZR_SEC(1);
    zr_mac mac;

    ZR_CHECK(argc == 3);
    int kind = kind_of(argv[1]), count = atoi(argv[2]);
    ZR_CHECK(zr_stat_init(page, 0) == ZR_OK);
    zr_agentlane *agent = zr_agentlane_init(memory(zr_agentlane_bytes(&conf)), &conf, page, now);
    ZR_CHECK(agent != NULL && zr_agentlane_gate_keys(agent, &keys) == ZR_OK && zr_mac_open(&mac) == ZR_OK);
    data[0] = kinds[kind].type;
    ZR_CHECK(zr_mac_key(mac1_key, "mac1----", keys.public, keys.mesh) == ZR_OK);
    if (kinds[kind].mac1)
        zr_mac_of(&mac, data + ZR_GATE_HELLO - 32, mac1_key, 32, data, ZR_GATE_HELLO - 32);
    data[ZR_GATE_HELLO - 1] = kinds[kind].mac2;
    zr_agentlane_busy(agent, kinds[kind].loaded ? 1000 : 0);
    if (!kinds[kind].moving)
        counted(agent, kind, data, 100, &now); /* empties the buckets */
    uint64_t before = atomic_load(&page->drop[kinds[kind].why]),
             replies = atomic_load(&page->stat[ZR_STAT_gate_replies]);
    double start = cpu_ns();
    counted(agent, kind, data, count, &now);
    printf("%.1f\n", (cpu_ns() - start) / count);
    ZR_CHECK(atomic_load(&page->drop[kinds[kind].why]) - before == (uint64_t)count);
    ZR_CHECK((atomic_load(&page->stat[ZR_STAT_gate_replies]) > replies) == (kinds[kind].moving && kinds[kind].loaded));
    return 0;
}
