#include "wire/zr_env.h"

#include "base/zr_err.h"
#include "zr_test.h"

static const struct {
    const char *what;
    uint8_t first;
    size_t len;
    int rc;
    enum zr_drop_id drop;
} datagrams[] = {
    { "U01 empty", 0x0B, 0, ZR_E_malformed, ZR_DROP_short },
    { "U02 one byte", 0x0B, 1, ZR_E_malformed, ZR_DROP_short },
    { "U02 fifteen bytes of an unknown type", 0xFF, 15, ZR_E_malformed, ZR_DROP_short },
    { "U03 a data header alone", 0x0B, 16, ZR_E_malformed, ZR_DROP_short },
    { "U03 data without a whole tag", 0x0B, 31, ZR_E_malformed, ZR_DROP_short },
    { "U04 an empty plaintext", 0x0B, 32, ZR_OK, 0 },
    { "hello", 0x08, 16, ZR_OK, 0 },
    { "answer", 0x09, 16, ZR_OK, 0 },
    { "cookie", 0x0A, 64, ZR_OK, 0 },
    { "U06 the first of version 2", 0x0C, 32, ZR_E_malformed, ZR_DROP_version },
    { "U06 the last of version 2", 0x0F, 32, ZR_E_malformed, ZR_DROP_version },
    { "U38 STUN", 0x00, 32, ZR_E_malformed, ZR_DROP_type },
    { "U38 DTLS", 22, 200, ZR_E_malformed, ZR_DROP_type },
    { "U38 RTP", 0x80, 200, ZR_E_malformed, ZR_DROP_type },
    { "U38 QUIC", 0xC3, 1200, ZR_E_malformed, ZR_DROP_type },
};

ZR_TEST(a_datagram_is_classified_by_first_byte_and_length)
{
    uint8_t data[1200] = { 0 };

    for (size_t i = 0; i < ZR_LEN(datagrams); i++) {
        enum zr_env_type type = 0;
        enum zr_drop_id drop = 0;
        data[0] = datagrams[i].first;
        int rc = zr_env_classify(data, datagrams[i].len, &type, &drop);
        if (rc != datagrams[i].rc)
            zr_test_fail(__FILE__, __LINE__, datagrams[i].what);
        if (rc == ZR_OK)
            CHECK_EQ(type, datagrams[i].first);
        else if (drop != datagrams[i].drop)
            zr_test_fail(__FILE__, __LINE__, datagrams[i].what);
    }
}

ZR_TEST(every_first_byte_but_eight_is_dropped_as_type)
{
    uint8_t data[32] = { 0 };
    int types = 0;

    for (int first = 0; first < 256; first++) {
        enum zr_env_type type;
        enum zr_drop_id drop = 0;
        data[0] = (uint8_t)first;
        if (zr_env_classify(data, sizeof data, &type, &drop) != ZR_OK && drop == ZR_DROP_type)
            types++;
    }
    CHECK_EQ(types, 248);
}

ZR_TEST(a_data_header_comes_back_as_it_was_put)
{
    zr_env in = { .type = ZR_ENV_DATA, .lane = 63, .epoch = 0xFEDC, .receiver = 0x89ABCDC1, .counter = UINT64_MAX - 1 };
    zr_env out;
    uint8_t data[ZR_ENV_HEAD];

    zr_env_put(data, &in);
    zr_env_parse(&out, data);
    CHECK_EQ(out.type, in.type);
    CHECK_EQ(out.lane, in.lane);
    CHECK_EQ(out.epoch, in.epoch);
    CHECK_EQ(out.receiver, in.receiver);
    CHECK(out.counter == in.counter);
    CHECK_EQ(data[2], 0xDC); /* little-endian */
    CHECK_EQ(zr_env_lane(out.receiver), 1);
    CHECK_EQ(zr_env_index(out.receiver), 0x89ABCDC1 >> 6);
}
