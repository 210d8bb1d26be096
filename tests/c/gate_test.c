#include "zr_test.h"

#include "base/zr_err.h"
#include "gate/zr_gate.h"
#include "wire/zr_mac.h"
#include "wire/zr_xchacha.h"

/* Made with hashlib.blake2s and checked against the draft; tests/prop/test_gate_model.py makes any number more. */
static void from_hex(uint8_t *to, const char *hex)
{
    for (; hex[0] != '\0'; hex += 2) {
        unsigned byte;
        CHECK_EQ(sscanf(hex, "%2x", &byte), 1);
        *to++ = (uint8_t)byte;
    }
}

ZR_TEST(keyed_blake2s_gives_what_hashlib_gives)
{
    static const struct {
        size_t key_len, len;
        const char *mac;
    } rows[] = {
        { 32, 0, "9536f9b267655743dee97b8a670f9f53" },  { 32, 1, "13bacfb85b48a1223c595f8c1e7e82cb" },
        { 32, 84, "60af787c15f1a88b2c302762cb7de4bf" }, { 32, 148, "62c8bf67f6e8c5e4aeac47d8c1f03f2d" },
        { 16, 64, "b0ab90d3cf5eb0fb020c720c0c7cfae5" }, { 16, 164, "45a2401a3ce3ef9b229cd873a5c77a7c" },
        { 16, 19, "ccef8c7f9b1bd8a278b55f047ddc226c" },
    };
    uint8_t key[32], data[256], want[16], got[16];
    zr_mac mac;

    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)(i * 3);
    for (size_t i = 0; i < sizeof key; i++)
        key[i] = (uint8_t)i;
    CHECK_EQ(zr_mac_open(&mac), ZR_OK);
    for (size_t i = 0; i < ZR_LEN(rows); i++) {
        from_hex(want, rows[i].mac);
        zr_mac_of(&mac, got, key, rows[i].key_len, data, rows[i].len);
        CHECK(zr_mac_eq(got, want));
        want[15] ^= 1;
        CHECK(!zr_mac_eq(got, want));
    }
    zr_mac_close(&mac);
}

ZR_TEST(the_keys_of_the_macs_are_hashes_of_label_public_key_and_mesh_key)
{
    uint8_t public[32], mesh[32], want[32], got[32];

    for (int i = 0; i < 32; i++) {
        public[i] = (uint8_t)i;
        mesh[i] = (uint8_t)(100 + i);
    }
    from_hex(want, "e1f0b2e321d163ccecea691689261f47564c2c63c42641f4008c3695d13f0202");
    CHECK_EQ(zr_mac_key(got, "mac1----", public, mesh), ZR_OK);
    CHECK(memcmp(got, want, 32) == 0);
}

ZR_TEST(xchacha20_poly1305_gives_what_its_draft_gives)
{
    const char *text = "Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, "
                       "sunscreen would be it.";
    uint8_t key[32], nonce[24], ad[12], want[130], got[130];
    int len = (int)strlen(text);
    zr_xchacha x;

    for (int i = 0; i < 32; i++)
        key[i] = (uint8_t)i;
    from_hex(nonce, "000000090000004a0000000031415927"); /* 2.2.1 */
    from_hex(want, "82413b4227b27bfed30e42508a877d73a0f9e4d58a74a853c12ec41326d3ecdc");
    zr_hchacha20(got, key, nonce);
    CHECK(memcmp(got, want, 32) == 0);

    for (int i = 0; i < 32; i++) /* A.3.1 */
        key[i] = (uint8_t)(0x80 + i);
    for (int i = 0; i < 24; i++)
        nonce[i] = (uint8_t)(0x40 + i);
    from_hex(ad, "50515253c0c1c2c3c4c5c6c7");
    from_hex(want, "bd6d179d3e83d43b9576579493c0e939572a1700252bfaccbed2902c21396cbb731c7f1b0b4aa6440bf3a82f4eda7e39"
                   "ae64c6708c54c216cb96b72e1213b4522f8c9ba40db5d945b11b69b982c1bb9e3f3fac2bc369488f76b2383565d3fff9"
                   "21f9664c97637da9768812f615c68b13b52ec0875924c1c7987947deafd8780acf49");
    CHECK_EQ(zr_xchacha_open(&x), ZR_OK);
    for (int i = 0; i < 2; i++) { /* the context is good for more than one */
        zr_xchacha_seal(&x, got, key, nonce, ad, 12, (const uint8_t *)text, len);
        CHECK(memcmp(got, want, (size_t)len + 16) == 0);
    }
    zr_xchacha_close(&x);
}

/* A gate, and who knows its keys. */
typedef struct rig {
    zr_gate_keys keys;
    zr_gate *gate;
    void *mem;
    zr_mac mac;
    uint8_t mac1_key[32];
    zr_gate_answer answer;
} rig;

static const zr_addr one = { .ip = { 192, 0, 2, 1 }, .port = 4000, .family = 4 };
static const zr_addr neighbour = { .ip = { 192, 0, 2, 99 }, .port = 1, .family = 4 };
static const zr_addr other = { .ip = { 192, 0, 3, 1 }, .port = 4000, .family = 4 };

static rig rig_open(void)
{
    rig r = { .mem = zr_test_memory(zr_gate_bytes()) };

    for (int i = 0; i < 32; i++) {
        r.keys.public[i] = (uint8_t)i;
        r.keys.mesh[i] = (uint8_t)(100 + i);
        r.keys.seed[i] = (uint8_t)(200 - i);
    }
    r.gate = zr_gate_init(r.mem, &r.keys);
    CHECK(r.gate != NULL);
    CHECK_EQ(zr_mac_open(&r.mac), ZR_OK);
    CHECK_EQ(zr_mac_key(r.mac1_key, "mac1----", r.keys.public, r.keys.mesh), ZR_OK);
    return r;
}

static void rig_close(rig *r)
{
    zr_gate_fini(r->gate);
    zr_mac_close(&r->mac);
    free(r->mem);
}

/* A message whose MAC1 is right; MAC2 is made with `cookie`, zero without one. Its length. */
static size_t message(rig *r, uint8_t type, const uint8_t *cookie, uint8_t *to)
{
    size_t len = type == 0x08 ? ZR_GATE_HELLO : ZR_GATE_ANSWER;

    for (size_t i = 0; i < len; i++)
        to[i] = i == 0 ? type : i < 4 ? 0 : (uint8_t)(i * 7);
    zr_mac_of(&r->mac, to + len - 32, r->mac1_key, 32, to, len - 32);
    memset(to + len - 16, 0, 16);
    if (cookie != NULL)
        zr_mac_of(&r->mac, to + len - 16, cookie, 16, to, len - 16);
    return len;
}

static int give(rig *r, const uint8_t *data, size_t len, const zr_addr *from, zr_ns_t now)
{
    int rc = zr_gate_input(r->gate, data, len, from, now, &r->answer);
    CHECK(zr_gate_check(r->gate, now));
    return rc;
}

/* How many of `count` messages, `every` apart, pass. */
static int passed(rig *r, const zr_addr *from, zr_ns_t now, int count, zr_ns_t every)
{
    uint8_t data[ZR_GATE_HELLO];
    int passed = 0;

    for (int i = 0; i < count; i++) {
        size_t len = message(r, i % 2 == 0 ? 0x08 : 0x09, NULL, data);
        bool ok = zr_gate_input(r->gate, data, len, from, now + i * every, &r->answer) == ZR_OK;
        CHECK(ok || r->answer.why == ZR_DROP_ratelimit);
        CHECK(ok || !r->answer.reply);
        passed += ok;
    }
    return passed;
}

/* The cookie as the gate makes it: no other way to it but the reply, which is sealed. */
static void cookie_of(rig *r, int64_t period, const zr_addr *from, uint8_t cookie[16])
{
    uint8_t what[16], secret[16], source[19];

    memcpy(what, "secret--", 8);
    memcpy(what + 8, &period, 8);
    zr_mac_of(&r->mac, secret, r->keys.seed, 32, what, 16);
    memcpy(source, from->ip, 16);
    memcpy(source + 16, &from->port, 2);
    source[18] = from->family;
    zr_mac_of(&r->mac, cookie, secret, 16, source, 19);
}

ZR_TEST(u20_a_message_has_exactly_the_length_of_its_type)
{
    static const struct {
        uint8_t type;
        size_t len;
    } rows[] = { { 0x08, 180 }, { 0x09, 116 }, { 0x0A, 64 } };
    static uint8_t data[2048];
    rig r = rig_open();

    for (size_t i = 0; i < ZR_LEN(rows); i++)
        for (size_t len = 1; len <= 1500; len++) {
            if (len == rows[i].len)
                continue;
            data[0] = rows[i].type;
            CHECK_EQ(zr_gate_input(r.gate, data, len, &one, ZR_SEC(1), &r.answer), ZR_E_dropped);
            CHECK_EQ(r.answer.why, ZR_DROP_length);
            CHECK(!r.answer.reply);
        }
    CHECK_EQ(zr_gate_input(r.gate, data, 0, &one, ZR_SEC(1), &r.answer), ZR_E_dropped);
    rig_close(&r);
}

ZR_TEST(u21_a_message_with_any_bit_of_its_mac1_or_of_what_that_covers_flipped_is_a_strangers)
{
    uint8_t data[ZR_GATE_HELLO];
    rig r = rig_open();

    zr_gate_busy(r.gate, 1000); /* also under load there is no answer to it */
    for (uint8_t type = 0x08; type <= 0x09; type++) {
        size_t len = message(&r, type, NULL, data);
        for (size_t bit = 16; bit < (len - 16) * 8; bit++) {
            data[bit / 8] ^= (uint8_t)(1 << bit % 8);
            CHECK_EQ(zr_gate_input(r.gate, data, len, &one, ZR_SEC(1), &r.answer), ZR_E_dropped);
            CHECK_EQ(r.answer.why, ZR_DROP_mac1);
            CHECK(!r.answer.reply);
            data[bit / 8] ^= (uint8_t)(1 << bit % 8);
        }
    }
    CHECK_EQ(zr_gate_loads(r.gate), 0);
    zr_gate_busy(r.gate, 0);
    CHECK_EQ(passed(&r, &one, ZR_SEC(1), 5, 0), 5); /* and they took nothing from the bucket of that source */
    rig_close(&r);
}

ZR_TEST(u26_a_network_gets_five_at_once_and_twenty_a_second)
{
    rig r = rig_open();
    zr_addr six = { .ip = { 0x20, 1, 0xd, 0xb8, [7] = 1, [15] = 1 }, .family = 6 }, near6 = six, far6 = six;
    zr_addr local = { .ip = { 127, 0, 0, 1 }, .port = 1, .family = 4 }, beside = local;

    near6.ip[15] = 2;
    far6.ip[7] = 2;
    beside.port = 2;
    CHECK_EQ(passed(&r, &one, ZR_SEC(1), 1000, ZR_MS(1)), 5 + 19);
    CHECK_EQ(passed(&r, &neighbour, ZR_SEC(2), 1, 0), 1); /* what the bucket gained in the last 50 ms */
    CHECK_EQ(passed(&r, &one, ZR_SEC(2), 1, 0), 0);
    CHECK_EQ(passed(&r, &other, ZR_SEC(2), 10, 0), 5);
    CHECK_EQ(passed(&r, &six, ZR_SEC(2), 10, 0), 5);
    CHECK_EQ(passed(&r, &near6, ZR_SEC(2), 10, 0), 0);
    CHECK_EQ(passed(&r, &far6, ZR_SEC(2), 10, 0), 5);
    CHECK_EQ(passed(&r, &local, ZR_SEC(2), 10, 0), 5);
    CHECK_EQ(passed(&r, &beside, ZR_SEC(2), 10, 0), 5);
    rig_close(&r);
}

ZR_TEST(all_together_get_a_thousand_a_second_and_when_they_want_more_must_show_their_addresses)
{
    uint8_t data[ZR_GATE_HELLO], cookie[16];
    rig r = rig_open();
    size_t len = message(&r, 0x08, NULL, data);
    int ok = 0, replies = 0;
    zr_ns_t now = ZR_SEC(1);

    for (uint32_t i = 0; i < 20000; i++, now += ZR_US(100)) { /* 10 000 a second from as many networks */
        zr_addr from = { .ip = { 10, (uint8_t)(i >> 8), (uint8_t)i }, .port = 9, .family = 4 };
        bool passes = zr_gate_input(r.gate, data, len, &from, now, &r.answer) == ZR_OK;
        ok += passes;
        replies += !passes && r.answer.reply;
    }
    CHECK(ok > ZR_GATE_ALL_BURST && ok < 200); /* till the bucket was dry; then none without a cookie */
    CHECK(replies > 15000);
    CHECK_EQ(zr_gate_loads(r.gate), 1);
    cookie_of(&r, now / ZR_GATE_SECRET, &other, cookie);
    len = message(&r, 0x08, cookie, data);
    CHECK_EQ(give(&r, data, len, &other, now), ZR_OK); /* whoever has one finds the bucket full */
    CHECK(zr_gate_loaded(r.gate, now + ZR_MS(900)));
    CHECK(!zr_gate_loaded(r.gate, now + ZR_SEC(2)));
    rig_close(&r);
}

ZR_TEST(what_the_bucket_of_all_refuses_is_not_taken_from_a_sources_own)
{
    uint8_t data[ZR_GATE_HELLO], cookie[16];
    rig r = rig_open();
    zr_ns_t now = ZR_SEC(1);

    for (uint8_t i = 0; i < ZR_GATE_ALL_BURST; i++) {
        zr_addr from = { .ip = { 10, 0, i, 1 }, .port = 9, .family = 4 };
        CHECK_EQ(passed(&r, &from, now, 1, 0), 1);
    }
    CHECK_EQ(passed(&r, &one, now, 1, 0), 0);
    now += ZR_MS(10);
    cookie_of(&r, now / ZR_GATE_SECRET, &one, cookie);
    size_t len = message(&r, 0x08, cookie, data);
    for (int i = 0; i < ZR_GATE_BURST; i++)
        CHECK_EQ(give(&r, data, len, &one, now), ZR_OK);
    CHECK_EQ(give(&r, data, len, &one, now), ZR_E_dropped);
    rig_close(&r);
}

ZR_TEST(u27_under_load_a_message_without_mac2_is_answered_by_a_cookie_and_dropped)
{
    static const struct {
        uint32_t queued, busy;
        bool loaded;
    } rows[] = { { 0, 0, false }, { 128, 300, false }, { 129, 0, true }, { 0, 301, true }, { 1024, 1000, true } };
    uint8_t data[ZR_GATE_HELLO];

    for (size_t i = 0; i < ZR_LEN(rows); i++) {
        rig r = rig_open();
        zr_gate_queued(r.gate, rows[i].queued);
        zr_gate_busy(r.gate, rows[i].busy);
        for (uint8_t type = 0x08; type <= 0x09; type++) {
            size_t len = message(&r, type, NULL, data);
            CHECK_EQ(give(&r, data, len, &one, ZR_SEC(1)), rows[i].loaded ? ZR_E_dropped : ZR_OK);
            CHECK_EQ(r.answer.reply, rows[i].loaded);
            if (!rows[i].loaded)
                continue;
            CHECK_EQ(r.answer.why, ZR_DROP_mac2);
            CHECK_EQ(r.answer.cookie[0], 0x0A);
            CHECK(memcmp(r.answer.cookie + 4, data + 4, 4) == 0);
            data[len - 1] = 1; /* a wrong one is none */
            CHECK_EQ(give(&r, data, len, &one, ZR_SEC(1)), ZR_E_dropped);
            CHECK_EQ(r.answer.why, ZR_DROP_mac2);
        }
        rig_close(&r);
    }
}

ZR_TEST(cookie_replies_to_one_network_are_limited_and_never_use_a_nonce_twice)
{
    uint8_t data[ZR_GATE_HELLO], nonces[10][24];
    rig r = rig_open();
    size_t len = message(&r, 0x08, NULL, data);
    int replies = 0;

    zr_gate_busy(r.gate, 1000);
    for (int i = 0; i < 100; i++) {
        CHECK_EQ(give(&r, data, len, &one, ZR_SEC(1) + ZR_MS(i)), ZR_E_dropped);
        CHECK_EQ(r.answer.why, ZR_DROP_mac2);
        if (!r.answer.reply)
            continue;
        memcpy(nonces[replies], r.answer.cookie + 8, 24);
        for (int n = 0; n < replies; n++)
            CHECK(memcmp(nonces[n], nonces[replies], 24) != 0);
        replies++;
    }
    CHECK_EQ(replies, 5 + 1);
    rig_close(&r);
}

ZR_TEST(u28_a_cookie_is_good_for_its_address_and_port_and_for_120_to_240_seconds)
{
    const zr_ns_t born = ZR_GATE_SECRET * 7 + ZR_SEC(119);
    zr_addr moved = one;
    uint8_t data[ZR_GATE_HELLO], cookie[16];
    rig r = rig_open();
    size_t len;

    moved.port++;
    zr_gate_queued(r.gate, 1024);
    cookie_of(&r, 7, &one, cookie);
    len = message(&r, 0x08, cookie, data);
    CHECK_EQ(give(&r, data, len, &one, born), ZR_OK);
    CHECK_EQ(give(&r, data, len, &moved, born), ZR_E_dropped);
    CHECK_EQ(r.answer.why, ZR_DROP_mac2);
    CHECK(r.answer.reply); /* as U27 */
    CHECK_EQ(give(&r, data, len, &neighbour, born), ZR_E_dropped);
    CHECK_EQ(give(&r, data, len, &one, born + ZR_SEC(2)), ZR_OK); /* of the period before */
    CHECK_EQ(give(&r, data, len, &one, born + ZR_SEC(120)), ZR_OK);
    CHECK_EQ(give(&r, data, len, &one, born + ZR_SEC(121)), ZR_E_dropped);
    CHECK_EQ(r.answer.why, ZR_DROP_mac2);
    rig_close(&r);
}

ZR_TEST(cookie_replies_from_strangers_leave_everybody_elses_bucket_full)
{
    uint8_t reply[ZR_GATE_COOKIE] = { 0x0A };
    rig r = rig_open();
    int ok = 0;

    for (int i = 0; i < 1000; i++)
        ok += give(&r, reply, sizeof reply, &one, ZR_SEC(1)) == ZR_OK;
    CHECK_EQ(ok, 5);
    CHECK_EQ(r.answer.why, ZR_DROP_ratelimit);
    CHECK_EQ(passed(&r, &one, ZR_SEC(1), 10, 0), 5);
    for (int i = 0; i < 200; i++) { /* from everywhere: they have a limit for all too */
        zr_addr from = { .ip = { 10, 0, (uint8_t)i, 1 }, .port = 9, .family = 4 };
        ok += give(&r, reply, sizeof reply, &from, ZR_SEC(2)) == ZR_OK;
    }
    CHECK_EQ(ok, 5 + ZR_GATE_ALL_BURST);
    CHECK_EQ(zr_gate_loads(r.gate), 0);
    rig_close(&r);
}

ZR_TEST(in_a_rotation_messages_for_the_former_key_pass_until_its_end_and_no_longer)
{
    static const zr_ns_t end = ZR_SEC(900);
    static const struct {
        zr_ns_t now;
        bool passes;
    } rows[] = { { ZR_SEC(1), true }, { end - 1, true }, { end, false }, { end + ZR_SEC(3600), false } };
    uint8_t data[ZR_GATE_HELLO];

    for (size_t i = 0; i < ZR_LEN(rows); i++) {
        for (uint8_t type = 0x08; type <= 0x09; type++) {
            rig r = rig_open();
            memset(r.keys.former, 77, sizeof r.keys.former);
            r.keys.former_until = end;
            zr_gate_fini(r.gate);
            r.gate = zr_gate_init(r.mem, &r.keys);
            CHECK_EQ(zr_gate_overlap(r.gate, rows[i].now), rows[i].passes);
            size_t len = message(&r, type, NULL, data);
            CHECK_EQ(give(&r, data, len, &one, rows[i].now), ZR_OK);
            CHECK(!r.answer.former);
            CHECK_EQ(zr_mac_key(r.mac1_key, "mac1----", r.keys.former, r.keys.mesh), ZR_OK);
            len = message(&r, type, NULL, data);
            CHECK_EQ(give(&r, data, len, &other, rows[i].now), rows[i].passes ? ZR_OK : ZR_E_dropped);
            CHECK_EQ(r.answer.former, rows[i].passes);
            CHECK(rows[i].passes || (r.answer.why == ZR_DROP_mac1 && !r.answer.reply));
            data[5] ^= 1;
            CHECK_EQ(give(&r, data, len, &other, rows[i].now), ZR_E_dropped);
            CHECK(r.answer.why == ZR_DROP_mac1 && !r.answer.former);
            rig_close(&r);
        }
    }
}

ZR_TEST(without_a_rotation_a_key_of_zeros_is_nobodys)
{
    uint8_t data[ZR_GATE_HELLO];
    rig r = rig_open();

    CHECK_EQ(zr_mac_key(r.mac1_key, "mac1----", r.keys.former, r.keys.mesh), ZR_OK);
    size_t len = message(&r, 0x08, NULL, data);
    CHECK_EQ(give(&r, data, len, &one, 0), ZR_E_dropped);
    CHECK_EQ(r.answer.why, ZR_DROP_mac1);
    rig_close(&r);
}
