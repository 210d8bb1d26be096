/* Keys on their way into a worker: by commands, in shared memory that outlives it, and not a byte longer than needed.
 */
#include "forward/zr_lane_priv.h"
#include "fwd_rig.h"

enum { SEALED = 256, AT_ONCE = 256 };

static void secret(uint8_t to[ZR_SECRET_BYTES], uint8_t generation, bool from_a)
{
    for (uint8_t i = 0; i < ZR_SECRET_BYTES; i++)
        to[i] = (uint8_t)(generation * 64 + from_a * 32 + i + 1);
}

/* Parts of the keys that `mine` has out of a handshake; `skip`: one that gets lost. */
static void tell(rig *r, uint32_t session, uint8_t generation, bool a, bool at_once, uint32_t skip)
{
    uint8_t secrets[2 * ZR_SECRET_BYTES];

    secret(secrets, generation, a);
    secret(secrets + ZR_SECRET_BYTES, generation, !a);
    for (uint32_t part = 0; part < 4; part++)
        if (part != skip)
            DO(r, .op = ZR_CMD_session_secret, .a = session, .b = part,
               .c = ZR_CIPHER_AES_128_GCM | (at_once ? AT_ONCE : 0), .x = zr_get64(secrets + 16 * part),
               .y = zr_get64(secrets + 16 * part + 8));
}

static zr_cmd add(bool a, uint32_t sealed)
{
    return (zr_cmd){ .op = ZR_CMD_session_add,
                     .b = a ? 18 : 33,
                     .c = a ? 33 : 18,
                     .d = 1 | sealed,
                     .y = 1420,
                     .addr = rig_addr(a ? 2 : 1, 7000) };
}

typedef struct wire {
    rig *to;
    zr_addr source;
    uint32_t sealed;
} wire;

static void carry(const zr_tx *tx, void *context)
{
    wire *w = context;

    if (tx->sock != ZR_SOCK_LINK)
        return;
    zr_pkt *pkt = zr_pool_copy(zr_fwd_pool(w->to->fwd), tx->data, tx->len);
    CHECK(pkt != NULL);
    w->sealed += (zr_get64(tx->data + tx->len - 16) | zr_get64(tx->data + tx->len - 8)) != 0;
    CHECK_EQ(zr_fwd_link_input(w->to->fwd, pkt, &w->source, w->to->now), ZR_OK);
}

static bool ring_holds(const rig *r, uint8_t generation, bool from_a)
{
    uint8_t looked_for[ZR_SECRET_BYTES];

    secret(looked_for, generation, from_a);
    for (size_t at = 0; at < ZR_SECRET_BYTES; at += 8)
        if (memmem(r->memory[1], CHAN_VIEW + zr_chan_bytes(64, sizeof(zr_cmd)), looked_for + at, 8) != NULL)
            return true;
    return false;
}

ZR_TEST(media_between_workers_is_sealed_and_the_secrets_do_not_stay_in_the_ring)
{
    uint64_t first;
    rig a, b;

    rig_open(&a, 0, 64);
    rig_open(&b, 0, 64);
    rig_publish(&a, 0);
    rig_stream(&b, false, 0);
    tell(&a, 0, 0, true, true, 4);
    tell(&b, 0, 0, false, false, 4);
    CHECK_EQ(rig_do(&a, add(true, SEALED), NULL), 0);
    CHECK_EQ(rig_do(&b, add(false, SEALED), NULL), 0);
    for (int from_a = 0; from_a < 2; from_a++)
        CHECK(!ring_holds(&a, 0, from_a) && !ring_holds(&b, 0, from_a));
    CHECK_EQ(a.fwd->told.parts, 0);
    DO(&b, .op = ZR_CMD_pull_start, .a = 0, .b = 0, .c = 5, .d = 0);
    CHECK_EQ(rig_do(&a, (zr_cmd){ .op = ZR_CMD_child_add, .a = 9, .d = 5 }, &first), 0);
    for (uint16_t i = 0; i < 20; i++) {
        wire w = { .to = &b, .source = rig_addr(1, 7001) };
        if (i == 10) {
            tell(&b, 0, 1, false, false, 4);
            DO(&b, .op = ZR_CMD_session_rekey, .a = 0, .b = 35, .c = 20);
            tell(&a, 0, 1, true, true, 4);
            DO(&a, .op = ZR_CMD_session_rekey, .a = 0, .b = 20, .c = 35);
            CHECK(!ring_holds(&a, 1, true) && !ring_holds(&b, 1, true));
        }
        rig_media(&a, false, i, i, i == 0);
        rig_turn(&a, carry, &w);
        CHECK(w.sealed > 0);
    }
    CHECK_EQ(b.page->streams[0].packets, 20);
    CHECK_EQ(rig_stat(&b, ZR_STAT_rekeys), 1);
    rig_turn(&b, NULL, NULL);
    rig_balanced(&a);
    rig_close(&a);
    rig_close(&b);
}

ZR_TEST(a_session_that_was_to_be_sealed_never_becomes_one_in_plaintext)
{
    rig r;

    rig_open(&r, 0, 64);
    for (uint32_t skip = 0; skip < 4; skip++) { /* one part is lost */
        tell(&r, 0, 0, true, true, skip);
        CHECK_EQ(rig_do(&r, add(true, SEALED), NULL), -ZR_E_inval);
    }
    CHECK_EQ(rig_do(&r, add(true, SEALED), NULL), -ZR_E_inval); /* no part at all */
    tell(&r, 1, 0, true, true, 4);
    CHECK_EQ(rig_do(&r, add(true, SEALED), NULL), -ZR_E_inval); /* another session's */
    tell(&r, 0, 0, true, true, 4);
    CHECK_EQ(rig_do(&r, add(true, 0), NULL), -ZR_E_inval); /* keys, and no word that they are meant */
    tell(&r, 0, 0, true, true, 4);
    DO(&r, .op = ZR_CMD_reset);
    CHECK_EQ(rig_do(&r, add(true, SEALED), NULL), -ZR_E_inval);
    REFUSES(&r, ZR_E_inval, .op = ZR_CMD_session_secret, .b = 4, .c = ZR_CIPHER_AES_128_GCM);
    REFUSES(&r, ZR_E_inval, .op = ZR_CMD_session_secret, .b = 0, .c = ZR_CIPHER_PLAIN);
    REFUSES(&r, ZR_E_inval, .op = ZR_CMD_session_secret, .b = 0, .c = ZR_CIPHER_COUNT);
    REFUSES(&r, ZR_E_inval, .op = ZR_CMD_session_rekey, .b = 9, .c = 10);
    CHECK_EQ(rig_do(&r, add(true, 0), NULL), 0); /* plaintext for who asks for it */
    tell(&r, 0, 1, true, true, 4);
    REFUSES(&r, ZR_E_inval, .op = ZR_CMD_session_rekey, .b = 9, .c = 10);
    rig_close(&r);
}

ZR_TEST(a_worker_tells_the_agent_that_it_wants_new_keys)
{
    zr_cmd event;
    rig r;

    rig_open(&r, 0, 64);
    tell(&r, 0, 0, true, true, 4);
    CHECK_EQ(rig_do(&r, add(true, SEALED), NULL), 0);
    rig_event(&r);
    r.now += ZR_LANE_KEYS_AGE + ZR_SEC(1);
    zr_fwd_on_deadline(r.fwd, r.now);
    do
        event = rig_event(&r);
    while (event.op != ZR_EVT_rekey && event.op != ZR_EVT_COUNT);
    CHECK_EQ(event.op, ZR_EVT_rekey);
    CHECK_EQ(event.a, 0);
    CHECK_EQ(event.b, ZR_REKEY_MUTE);
    rig_close(&r);
}
