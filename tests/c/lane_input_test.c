/* One lane against crafted datagrams. Case ids are those of the bad-input tables: U the envelope, K its segments. */
#include "lane_end.h"

typedef struct craft {
    const char *id;
    enum zr_drop_id want; /* ZR_DROP_COUNT: accepted */
    int cut;              /* 1 + length of the datagram; 0: whole */
    uint8_t type;         /* 0: data */
    uint8_t sender, receiver_by, tag;
    uint16_t epoch, port_by;
    uint32_t index_by;
    uint64_t counter;
    size_t body_len;
    const uint8_t *body;
} craft;

static int throw_at(end *to, const craft *c)
{
    uint8_t data[ZR_PKT_ROOM] = { 0 };
    size_t len = ZR_ENV_HEAD + c->body_len + ZR_ENV_TAG;
    zr_addr from = loopback((uint16_t)((c->sender == ZR_LANE_AGENT ? PORT_B : PORT_B + 1 + c->sender) + c->port_by));
    zr_env env = { .type = c->type != 0 ? c->type : (uint8_t)ZR_ENV_DATA,
                   .lane = c->sender,
                   .epoch = c->epoch,
                   .receiver = (uint32_t)(INDEX_A + c->index_by) << 6 | c->receiver_by,
                   .counter = c->counter };

    zr_env_put(data, &env);
    if (c->body != NULL)
        memcpy(data + ZR_ENV_HEAD, c->body, c->body_len);
    data[len - 1] = c->tag;
    return give(to, &from, data, c->cut > 0 ? (size_t)c->cut - 1 : len, ZR_SEC(2));
}

/* Throws it and checks that exactly the wanted counter moved, that nothing is kept, and that the ledger holds. */
static void expect_outcome(end *to, const craft *c)
{
    uint64_t before = drops(to), accepted = stat(to, ZR_STAT_link_accepted);
    uint64_t word = c->want == ZR_DROP_COUNT ? 0 : atomic_load(&to->page->drop[c->want]);
    uint32_t in_use = to->pool.in_use;
    int rc = throw_at(to, c);
    bool right = c->want == ZR_DROP_COUNT
                     ? rc == ZR_OK && drops(to) == before && stat(to, ZR_STAT_link_accepted) == accepted + 1
                     : rc == ZR_E_dropped && drops(to) == before + 1 &&
                           atomic_load(&to->page->drop[c->want]) == word + 1 && to->pool.in_use == in_use &&
                           stat(to, ZR_STAT_link_accepted) == accepted;
    if (!right)
        fprintf(stderr, "  case %s\n", c->id);
    CHECK(right);
    CHECK_EQ(zr_ledger_off(to->page, ZR_LEDGER_link), 0);
    CHECK(zr_lane_check(to->lane));
}

ZR_TEST(the_envelope_table_ends_in_exactly_one_counter_each)
{
    static const craft table[] = {
        { .id = "U01", .cut = 1 + 0, .want = ZR_DROP_short },
        { .id = "U02 1 byte", .cut = 1 + 1, .want = ZR_DROP_short },
        { .id = "U02 15 bytes", .cut = 1 + 15, .want = ZR_DROP_short },
        { .id = "U03", .cut = 1 + 16, .want = ZR_DROP_short },
        { .id = "U03 no tag", .cut = 1 + 31, .want = ZR_DROP_short },
        { .id = "U04", .want = ZR_DROP_COUNT },
        { .id = "U05 hello", .type = ZR_ENV_HELLO, .body_len = 148, .want = ZR_DROP_type },
        { .id = "U05 answer", .type = ZR_ENV_ANSWER, .body_len = 84, .want = ZR_DROP_type },
        { .id = "U05 cookie", .type = ZR_ENV_COOKIE, .body_len = 32, .want = ZR_DROP_type },
        { .id = "U07 another index", .index_by = 1, .counter = 1, .want = ZR_DROP_noindex },
        { .id = "U07 another lane", .receiver_by = 1, .counter = 1, .want = ZR_DROP_lane },
        { .id = "U07 both", .index_by = 1, .receiver_by = 1, .counter = 1, .want = ZR_DROP_lane },
        { .id = "U08", .tag = 1, .counter = 1, .want = ZR_DROP_auth },
        { .id = "U12", .counter = 0, .want = ZR_DROP_replay },
        { .id = "U14", .counter = (uint64_t)1 << 40, .want = ZR_DROP_COUNT },
        { .id = "U13", .counter = ((uint64_t)1 << 40) - ZR_WIN, .want = ZR_DROP_old },
        { .id = "U13 just inside", .counter = ((uint64_t)1 << 40) - ZR_WIN + 1, .want = ZR_DROP_COUNT },
        { .id = "U15 last number", .counter = UINT64_MAX, .want = ZR_DROP_old },
        { .id = "U16 lane 2 of 2", .sender = 2, .want = ZR_DROP_lane },
        { .id = "U16 lane 62", .sender = 62, .want = ZR_DROP_lane },
        { .id = "U16 lane 200", .sender = 200, .want = ZR_DROP_lane },
        { .id = "U16 the agent", .sender = ZR_LANE_AGENT, .want = ZR_DROP_COUNT },
        { .id = "U33", .body_len = MTU + 1, .counter = 9, .want = ZR_DROP_link_oversize },
        { .id = "U33 largest", .body_len = ZR_PKT_ROOM - 32, .counter = 9, .want = ZR_DROP_link_oversize },
        { .id = "U35", .port_by = (uint16_t) - (PORT_B + 1), .counter = 9, .want = ZR_DROP_src },
        { .id = "U36 another port", .port_by = 1, .counter = 9, .want = ZR_DROP_src },
    };
    end a;

    end_open(&a, 0, BATCH, INDEX_A, PORT_A, INDEX_B, PORT_B);
    for (size_t i = 0; i < ZR_LEN(table); i++)
        expect_outcome(&a, &table[i]);
    CHECK_EQ(stat(&a, ZR_STAT_link_empty), 4);
    end_close(&a);
}

ZR_TEST(every_first_byte_that_is_not_data_is_dropped_as_type_or_version)
{
    end a;

    end_open(&a, 0, BATCH, INDEX_A, PORT_A, INDEX_B, PORT_B);
    for (unsigned first = 0; first < 256; first++) {
        uint8_t data[200] = { (uint8_t)first };
        zr_addr from = loopback(PORT_B + 1);
        enum zr_drop_id want = first >= 0x0C && first <= 0x0F ? ZR_DROP_version : ZR_DROP_type;
        uint64_t before = atomic_load(&a.page->drop[want]);
        if (first == ZR_ENV_DATA)
            continue;
        CHECK_EQ(give(&a, &from, data, sizeof data, ZR_SEC(2)), ZR_E_dropped);
        CHECK_EQ(atomic_load(&a.page->drop[want]), before + 1);
    }
    CHECK_EQ(drops(&a), 255);
    end_close(&a);
}

ZR_TEST(a_higher_lane_epoch_starts_the_window_anew_and_a_lower_one_is_refused)
{
    static const craft table[] = {
        { .id = "epoch 3", .epoch = 3, .counter = 70000, .want = ZR_DROP_COUNT },
        { .id = "epoch 4 from 0", .epoch = 4, .counter = 0, .want = ZR_DROP_COUNT },
        { .id = "epoch 4 again", .epoch = 4, .counter = 0, .want = ZR_DROP_replay },
        { .id = "U17 epoch 3 late", .epoch = 3, .counter = 70001, .want = ZR_DROP_lane },
        { .id = "epoch 5 but a forged tag", .epoch = 5, .tag = 1, .want = ZR_DROP_auth },
        { .id = "epoch 4 still counts", .epoch = 4, .counter = 1, .want = ZR_DROP_COUNT },
        { .id = "another lane has its own", .epoch = 1, .sender = 1, .want = ZR_DROP_COUNT },
    };
    end a;

    end_open(&a, 0, BATCH, INDEX_A, PORT_A, INDEX_B, PORT_B);
    for (size_t i = 0; i < ZR_LEN(table); i++)
        expect_outcome(&a, &table[i]);
    end_close(&a);
}

ZR_TEST(H12_a_pool_without_peer_lanes_drops_what_would_need_one)
{
    zr_lane_conf conf = conf_of(0);
    end a;

    end_open(&a, 0, BATCH, INDEX_A, PORT_A, INDEX_B, PORT_B);
    zr_lane_fini(a.lane);
    conf.peer_lanes_max = 1;
    CHECK(zr_lane_init(a.mem[3], &conf, &a.pool, a.page, ZR_SEC(1)) == a.lane);
    zr_session_conf session = { .index = INDEX_A, .agent = loopback(PORT_B), .lanes = 2, .mtu = MTU };
    CHECK_EQ(zr_lane_session_add(a.lane, 0, &session, ZR_SEC(1)), ZR_OK);
    expect_outcome(&a, &(craft){ .id = "first", .want = ZR_DROP_COUNT });
    expect_outcome(&a, &(craft){ .id = "second", .sender = 1, .want = ZR_DROP_link_pool });
    CHECK_EQ(zr_lane_conv_open(a.lane, 0, 7, 1, ZR_CONV_MEDIA, 0, ZR_SEC(1)), ZR_E_nomem);
    CHECK_EQ(zr_lane_session_drop(a.lane, 0), ZR_OK);
    CHECK_EQ(zr_lane_session_add(a.lane, 0, &session, ZR_SEC(1)), ZR_OK);
    expect_outcome(&a, &(craft){ .id = "given back", .sender = 1, .want = ZR_DROP_COUNT });
    end_close(&a);
}

enum { KNOWN = 7, UNKNOWN = 9 };

typedef struct seg_row {
    const char *id;
    enum zr_drop_id want;
    uint32_t conv;
    uint8_t cmd, frg;
    uint32_t una, sn, len;
    uint32_t payload; /* bytes that follow the header */
} seg_row;

static size_t put_seg(uint8_t *to, const seg_row *row)
{
    zr_seg seg = {
        .conv = row->conv, .cmd = row->cmd, .frg = row->frg, .wnd = 128, .sn = row->sn, .una = row->una, .len = row->len
    };
    zr_seg_put(to, &seg);
    memset(to + ZR_SEG_HEAD, 0x55, row->payload);
    return ZR_SEG_HEAD + row->payload;
}

/* The row alone; behind a good PUSH; and before one. A violation must leave nothing of the datagram applied (K06). */
static void throw_row(end *to, const seg_row *row, uint64_t *counter)
{
    static const seg_row good = { .conv = KNOWN, .cmd = ZR_SEG_PUSH, .len = 10, .payload = 10 };
    uint8_t body[MTU];

    for (int place = 0; place < 3; place++) {
        size_t len = 0;
        if (place == 1)
            len += put_seg(body, &good);
        if (len + ZR_SEG_HEAD + row->payload > sizeof body)
            continue;
        len += put_seg(body + len, row);
        if (place == 2 && row->len == row->payload && len + ZR_SEG_HEAD + 10 <= sizeof body)
            len += put_seg(body + len, &good);
        craft c = { .id = row->id, .want = row->want, .counter = (*counter)++, .body = body, .body_len = len };
        expect_outcome(to, &c);
        if (row->want != ZR_DROP_COUNT)
            expect_nothing(to);
        expect_outcome(to, &(craft){ .id = "marked", .want = ZR_DROP_replay, .counter = c.counter });
    }
}

ZR_TEST(the_segment_table_refuses_whole_datagrams_and_applies_nothing)
{
    static const seg_row table[] = {
        { "K03 cmd 0", ZR_DROP_kcp_cmd, KNOWN, 0, 0, 0, 0, 0, 0 },
        { "K03 cmd 80", ZR_DROP_kcp_cmd, KNOWN, 80, 0, 0, 0, 0, 0 },
        { "K03 cmd 85", ZR_DROP_kcp_cmd, KNOWN, 85, 0, 0, 0, 0, 0 },
        { "K03 cmd 255", ZR_DROP_kcp_cmd, KNOWN, 255, 0, 0, 0, 0, 0 },
        { "K03 unknown conversation", ZR_DROP_kcp_cmd, UNKNOWN, 80, 0, 0, 0, 0, 0 },
        { "K03 a probe at a worker", ZR_DROP_kcp_cmd, 0, 96, 0, 0, 0, 0, 0 },
        { "K04", ZR_DROP_kcp_len, KNOWN, ZR_SEG_PUSH, 0, 0, 0, 11, 10 },
        { "K04 unknown conversation", ZR_DROP_kcp_len, UNKNOWN, ZR_SEG_PUSH, 0, 0, 0, 11, 10 },
        { "K05 2^31", ZR_DROP_kcp_len, KNOWN, ZR_SEG_PUSH, 0, 0, 0, (uint32_t)1 << 31, 10 },
        { "K05 2^32-1", ZR_DROP_kcp_len, KNOWN, ZR_SEG_PUSH, 0, 0, 0, UINT32_MAX, 10 },
        { "K07 1 byte", ZR_DROP_kcp_trail, KNOWN, ZR_SEG_WASK, 0, 0, 0, 0, 1 },
        { "K07 23 bytes", ZR_DROP_kcp_trail, KNOWN, ZR_SEG_WASK, 0, 0, 0, 0, 23 },
        { "K08", ZR_DROP_kcp_len, KNOWN, ZR_SEG_PUSH, 0, 0, 0, 0, 0 },
        { "K10 ACK", ZR_DROP_kcp_len, KNOWN, ZR_SEG_ACK, 0, 0, 0, 4, 4 },
        { "K10 WASK", ZR_DROP_kcp_len, KNOWN, ZR_SEG_WASK, 0, 0, 0, 4, 4 },
        { "K10 WINS", ZR_DROP_kcp_len, KNOWN, ZR_SEG_WINS, 0, 0, 0, 4, 4 },
        { "K11 snd_nxt + 1", ZR_DROP_kcp_una, KNOWN, ZR_SEG_WASK, 0, 1, 0, 0, 0 },
        { "K11 + 2^31 - 1", ZR_DROP_kcp_una, KNOWN, ZR_SEG_WASK, 0, INT32_MAX, 0, 0, 0 },
        { "K13", ZR_DROP_kcp_ack, KNOWN, ZR_SEG_ACK, 0, 0, 0, 0, 0 },
        { "K13 far", ZR_DROP_kcp_ack, KNOWN, ZR_SEG_ACK, 0, 0, 1000, 0, 0 },
        { "K20 frg 2", ZR_DROP_kcp_frg, KNOWN, ZR_SEG_PUSH, 2, 0, 0, 10, 10 },
        { "K20 frg 128", ZR_DROP_kcp_frg, KNOWN, ZR_SEG_PUSH, 128, 0, 0, 10, 10 },
    };
    uint64_t counter = 1;
    end a;

    end_open(&a, 0, BATCH, INDEX_A, PORT_A, INDEX_B, PORT_B);
    open_media(&a, KNOWN, 0, 70);
    for (size_t i = 0; i < ZR_LEN(table); i++)
        throw_row(&a, &table[i], &counter);
    for (size_t len = 1; len < ZR_SEG_HEAD; len++) {
        static const uint8_t zeros[ZR_SEG_HEAD];
        expect_outcome(
            &a,
            &(craft){ .id = "K01", .want = ZR_DROP_kcp_short, .counter = counter++, .body = zeros, .body_len = len });
    }
    CHECK_EQ(stat(&a, ZR_STAT_kcp_segs_received), 0);
    CHECK_EQ(a.pool.in_use, 0);
    CHECK_EQ(zr_lane_session_heard(a.lane, 1), 0);
    end_close(&a);
}

/* One datagram that breaks a rule, or with `replayed` the one before once more, which breaks none. */
static void violate(end *a, uint64_t counter, bool replayed, zr_ns_t now)
{
    uint8_t data[MTU + 32] = { 0 };
    zr_env env = { .type = ZR_ENV_DATA, .receiver = (uint32_t)INDEX_A << 6, .counter = counter - replayed };
    zr_addr from = loopback(PORT_B + 1);

    zr_env_put(data, &env);
    CHECK_EQ(give(a, &from, data, ZR_ENV_HEAD + 1 + ZR_ENV_TAG, now), ZR_E_dropped);
}

ZR_TEST(sixteen_violations_are_told_one_by_one_and_then_every_100_ms_or_every_16_of_them)
{
    uint32_t session = 0, count = 0;
    uint64_t counter = 1;
    zr_ns_t now = ZR_SEC(20);
    end a;

    end_open(&a, 0, BATCH, INDEX_A, PORT_A, INDEX_B, PORT_B);
    for (uint32_t i = 0; i < 16; i++, now += ZR_US(1)) { /* one that is left untold would be none to the agent */
        CHECK(!zr_lane_violations(a.lane, &session, &count));
        violate(&a, counter++, false, now);
        violate(&a, counter, true, now);
        CHECK(zr_lane_violations(a.lane, &session, &count));
        CHECK_EQ(session, 1);
        CHECK_EQ(count, 1);
    }
    for (uint32_t i = 0; i < 16; i++) { /* its link is being closed */
        CHECK(!zr_lane_violations(a.lane, &session, &count));
        violate(&a, counter++, false, now);
    }
    CHECK(zr_lane_violations(a.lane, &session, &count));
    CHECK_EQ(count, 16);
    violate(&a, counter++, false, now + ZR_MS(50));
    CHECK(!zr_lane_violations(a.lane, &session, &count));
    violate(&a, counter++, false, now + ZR_MS(100));
    CHECK(zr_lane_violations(a.lane, &session, &count));
    CHECK_EQ(count, 2);
    violate(&a, counter++, false, now + ZR_MS(150));
    CHECK(!zr_lane_violations(a.lane, &session, &count));

    now += ZR_SEC(10); /* what was not told of the ten seconds before is over */
    violate(&a, counter++, false, now);
    CHECK(zr_lane_violations(a.lane, &session, &count));
    CHECK_EQ(count, 1);
    violate(&a, counter++, false, now);
    CHECK_EQ(zr_lane_session_drop(a.lane, 1), ZR_OK);
    CHECK(!zr_lane_violations(a.lane, &session, &count)); /* nobody is left to be blamed */
    end_close(&a);
}

ZR_TEST(the_largest_segment_is_taken_and_one_byte_more_of_payload_is_not)
{
    uint8_t body[MTU];
    seg_row row = { .conv = KNOWN, .cmd = ZR_SEG_PUSH, .len = MTU - ZR_SEG_HEAD, .payload = MTU - ZR_SEG_HEAD };
    end a;

    end_open(&a, 0, BATCH, INDEX_A, PORT_A, INDEX_B, PORT_B);
    open_media(&a, KNOWN, 0, 70);
    size_t len = put_seg(body, &row);
    expect_outcome(&a, &(craft){ .id = "mss", .want = ZR_DROP_COUNT, .body = body, .body_len = len });
    row.len++; /* K09 and U33 meet here: more than mss never fits a datagram of the session's mtu */
    put_seg(body, &row);
    expect_outcome(&a, &(craft){ .id = "K09", .want = ZR_DROP_kcp_len, .counter = 1, .body = body, .body_len = len });
    end_close(&a);
}

ZR_TEST(segments_of_an_unknown_conversation_are_passed_over_and_told_every_100_ms)
{
    static const seg_row unknown = { .conv = UNKNOWN, .cmd = ZR_SEG_PUSH, .len = 10, .payload = 10 };
    static const seg_row good = { .conv = KNOWN, .cmd = ZR_SEG_PUSH, .len = 20, .payload = 20 };
    uint8_t body[MTU], data[MTU + 32] = { 0 };
    uint32_t session = 0, conv = 0;
    zr_lane_msg msg;
    end a;

    end_open(&a, 0, BATCH, INDEX_A, PORT_A, INDEX_B, PORT_B);
    open_media(&a, KNOWN, 0, 70);
    size_t len = put_seg(body, &unknown);
    len += put_seg(body + len, &good);
    expect_outcome(&a, &(craft){ .id = "K02", .want = ZR_DROP_COUNT, .body = body, .body_len = len });
    CHECK_EQ(stat(&a, ZR_STAT_kcp_conv_unknown), 1);
    CHECK_EQ(zr_lane_recv(a.lane, &msg), ZR_OK);
    CHECK_EQ(msg.views[0].len, 20);
    zr_pkt_drop(msg.views[0].pkt);
    CHECK(zr_lane_unknown(a.lane, &session, &conv));
    CHECK_EQ(session, 1);
    CHECK_EQ(conv, UNKNOWN);
    CHECK(!zr_lane_unknown(a.lane, &session, &conv));

    len = put_seg(body, &unknown);
    for (int ms = 1; ms <= 250; ms++) {
        zr_env env = { .type = ZR_ENV_DATA, .receiver = (uint32_t)INDEX_A << 6, .counter = (uint64_t)ms };
        zr_addr from = loopback(PORT_B + 1);
        zr_env_put(data, &env);
        memcpy(data + ZR_ENV_HEAD, body, len);
        CHECK_EQ(give(&a, &from, data, len + 32, ZR_SEC(2) + ZR_MS(ms)), ZR_OK);
        CHECK_EQ(zr_lane_unknown(a.lane, &session, &conv), ms % 100 == 0);
    }
    CHECK_EQ(stat(&a, ZR_STAT_kcp_conv_unknown), 251);
    end_close(&a);
}

ZR_TEST(a_control_conversation_takes_127_fragments_and_not_one_more)
{
    uint8_t body[MTU];
    seg_row row = { .cmd = ZR_SEG_PUSH, .len = 10, .payload = 10 };
    uint64_t counter = 0;
    end a;

    end_open(&a, ZR_LANE_AGENT, BATCH, INDEX_A, PORT_A, INDEX_B, PORT_B);
    CHECK(zr_lane_conv_open(a.lane, 1, 0, ZR_LANE_AGENT, ZR_CONV_CONTROL, 0, ZR_SEC(1)) >= 0);
    for (unsigned frg = 125; frg < 130; frg++) {
        row.frg = (uint8_t)frg;
        craft c = { .id = "K20",
                    .want = frg < 127 ? ZR_DROP_COUNT : ZR_DROP_kcp_frg,
                    .sender = ZR_LANE_AGENT,
                    .receiver_by = ZR_LANE_AGENT,
                    .counter = counter++,
                    .body = body,
                    .body_len = put_seg(body, &row) };
        expect_outcome(&a, &c);
    }
    end_close(&a);
}

ZR_TEST(a_push_beyond_the_window_is_counted_and_the_datagram_accepted)
{
    uint8_t body[MTU];
    seg_row row = { .conv = KNOWN, .cmd = ZR_SEG_PUSH, .len = 10, .payload = 10 };
    end a;

    end_open(&a, 0, BATCH, INDEX_A, PORT_A, INDEX_B, PORT_B);
    open_media(&a, KNOWN, 0, 70);
    for (uint32_t i = 0; i < 2; i++) { /* K21: the last sn inside, then the first outside */
        row.sn = conf_of(0).window - 1 + i;
        craft c = { .id = "K21", .want = ZR_DROP_COUNT, .counter = i, .body = body, .body_len = put_seg(body, &row) };
        expect_outcome(&a, &c);
        CHECK_EQ(a.pool.in_use, 1);
    }
    CHECK_EQ(zr_lane_output(a.lane, &a.batch, ZR_SEC(2)), ZR_OK);
    CHECK_EQ(stat(&a, ZR_STAT_kcp_window_drops), 1);
    CHECK_EQ(stat(&a, ZR_STAT_kcp_acks_sent), 1);
    end_close(&a);
}

ZR_TEST(an_agent_takes_probes_and_ignores_them)
{
    uint8_t body[MTU];
    seg_row probe = { .cmd = 96 };
    uint64_t counter = 0;
    end a;

    end_open(&a, ZR_LANE_AGENT, BATCH, INDEX_A, PORT_A, INDEX_B, PORT_B);
    for (unsigned cmd = 95; cmd <= 104; cmd++) {
        probe.cmd = (uint8_t)cmd;
        enum zr_drop_id want = cmd >= 96 && cmd <= 103 ? ZR_DROP_COUNT : ZR_DROP_kcp_cmd;
        craft c = { .id = "probe",
                    .want = want,
                    .sender = ZR_LANE_AGENT,
                    .receiver_by = ZR_LANE_AGENT,
                    .counter = counter++,
                    .body = body,
                    .body_len = put_seg(body, &probe) };
        expect_outcome(&a, &c);
    }
    CHECK_EQ(stat(&a, ZR_STAT_kcp_conv_unknown), 0);
    end_close(&a);
}

ZR_TEST(a_lying_una_frees_nothing_and_the_honest_one_does)
{
    static const uint8_t bytes[100];
    uint8_t body[MTU];
    seg_row row = { .conv = KNOWN, .cmd = ZR_SEG_WASK, .una = 4 };
    end a;

    end_open(&a, 0, BATCH, INDEX_A, PORT_A, INDEX_B, PORT_B);
    int conv = open_media(&a, KNOWN, 0, 1);
    for (uint32_t i = 0; i < 3; i++)
        CHECK_EQ(zr_lane_send_bytes(a.lane, (uint32_t)conv, bytes, sizeof bytes, ZR_SEC(1)), ZR_OK);
    CHECK_EQ(zr_lane_output(a.lane, &a.batch, ZR_SEC(1)), ZR_OK);
    size_t len = put_seg(body, &row);
    expect_outcome(&a, &(craft){ .id = "K11", .want = ZR_DROP_kcp_una, .body = body, .body_len = len });
    CHECK_EQ(a.pool.in_use, 3);
    row.una = 3;
    put_seg(body, &row);
    expect_outcome(&a, &(craft){ .id = "all", .want = ZR_DROP_COUNT, .counter = 1, .body = body, .body_len = len });
    CHECK_EQ(a.pool.in_use, 0);
    row.una = 1; /* K12 */
    put_seg(body, &row);
    expect_outcome(&a, &(craft){ .id = "K12", .want = ZR_DROP_COUNT, .counter = 2, .body = body, .body_len = len });
    end_close(&a);
}

ZR_TEST(a_conversation_to_any_lane_answers_where_it_was_first_heard_from)
{
    static const uint8_t bytes[100];
    uint8_t body[MTU];
    seg_row row = { .conv = KNOWN, .cmd = ZR_SEG_PUSH, .len = 50, .payload = 50 };
    end a;

    end_open(&a, 0, BATCH, INDEX_A, PORT_A, INDEX_B, PORT_B);
    int conv = open_media(&a, KNOWN, ZR_LANE_ANY, 1);
    CHECK_EQ(zr_lane_send_bytes(a.lane, (uint32_t)conv, bytes, sizeof bytes, ZR_SEC(1)), ZR_OK);
    CHECK_EQ(zr_lane_output(a.lane, &a.batch, ZR_SEC(1)), ZR_OK);
    CHECK_EQ(a.batch.count, 0);
    for (uint8_t n = 0; n < 2; n++) { /* lane 1 first; lane 0 later changes nothing */
        row.sn = n;
        craft c = { .id = "learn",
                    .want = ZR_DROP_COUNT,
                    .sender = n == 0 ? 1 : 0,
                    .body = body,
                    .body_len = put_seg(body, &row) };
        expect_outcome(&a, &c);
        zr_batch_reset(&a.batch);
        CHECK_EQ(zr_lane_output(a.lane, &a.batch, ZR_SEC(2) + ZR_MS(20 * n)), ZR_OK);
        CHECK_EQ(a.batch.count, 1);
        CHECK_EQ(a.batch.tx[0].to.port, PORT_B + 2);
        CHECK_EQ(zr_env_lane(zr_get32(a.batch.tx[0].data + 4)), 1);
    }
    end_close(&a);
}
