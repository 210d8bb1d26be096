#include "wire/zr_rtp.h"

#include "base/zr_err.h"
#include "zr_test.h"

/* 12 bytes of header follow `first`; `tail` is what comes behind them. */
static const struct {
    const char *what;
    uint8_t first, tail[20];
    size_t len;
    int rc;
    enum zr_drop_id drop;
    uint16_t off, payload_len;
} packets[] = {
    { "bare", 0x80, { 0 }, 12, ZR_OK, 0, 12, 0 },
    { "four bytes of payload", 0x80, { 1, 2, 3, 4 }, 16, ZR_OK, 0, 12, 4 },
    { "two CSRC", 0x82, { 0 }, 24, ZR_OK, 0, 20, 4 },
    { "an extension of one word", 0x90, { 0xBE, 0xDE, 0, 1, 9, 9, 9, 9, 7 }, 21, ZR_OK, 0, 20, 1 },
    { "an empty extension", 0x90, { 0xBE, 0xDE, 0, 0 }, 16, ZR_OK, 0, 16, 0 },
    { "padding behind a payload", 0xA0, { 1, 2, 0, 2 }, 16, ZR_OK, 0, 12, 2 },
    { "padding alone", 0xA0, { 0, 0, 0, 4 }, 16, ZR_OK, 0, 12, 0 },
    { "K33 eleven bytes", 0x80, { 0 }, 11, ZR_E_malformed, ZR_DROP_rtp_short, 0, 0 },
    { "K33 nothing", 0x80, { 0 }, 0, ZR_E_malformed, ZR_DROP_rtp_short, 0, 0 },
    { "K33 version 1", 0x40, { 0 }, 16, ZR_E_malformed, ZR_DROP_rtp_version, 0, 0 },
    { "K33 version 3", 0xC0, { 0 }, 16, ZR_E_malformed, ZR_DROP_rtp_version, 0, 0 },
    { "K33 a CSRC beyond the end", 0x82, { 0 }, 19, ZR_E_malformed, ZR_DROP_rtp_csrc, 0, 0 },
    { "K33 half an extension header", 0x90, { 0xBE, 0xDE }, 14, ZR_E_malformed, ZR_DROP_rtp_ext, 0, 0 },
    { "K33 an extension beyond the end", 0x90, { 0xBE, 0xDE, 0, 2 }, 20, ZR_E_malformed, ZR_DROP_rtp_ext, 0, 0 },
    { "K33 an extension of 65 535 words", 0x90, { 0xBE, 0xDE, 255, 255 }, 20, ZR_E_malformed, ZR_DROP_rtp_ext, 0, 0 },
    { "K33 padding longer than the payload", 0xA0, { 1, 2, 0, 5 }, 16, ZR_E_malformed, ZR_DROP_rtp_pad, 0, 0 },
    { "K33 padding that does not count itself", 0xA0, { 1, 2, 0, 0 }, 16, ZR_E_malformed, ZR_DROP_rtp_pad, 0, 0 },
    { "K33 padding of no payload", 0xA0, { 0 }, 12, ZR_E_malformed, ZR_DROP_rtp_pad, 0, 0 },
};

ZR_TEST(an_rtp_packet_is_measured_or_refused_with_its_reason)
{
    for (size_t i = 0; i < ZR_LEN(packets); i++) {
        uint8_t data[32] = { packets[i].first, 0xE0, 0x12, 0x34, 1, 2, 3, 4, 0xA, 0xB, 0xC, 0xD };
        memcpy(data + 12, packets[i].tail, sizeof packets[i].tail);
        uint8_t *tight = malloc(packets[i].len + 1); /* so that a sanitizer sees a byte too far */
        memcpy(tight, data, packets[i].len);
        tight = realloc(tight, packets[i].len ? packets[i].len : 1);
        zr_rtp rtp = { 0 };
        enum zr_drop_id drop = 0;
        int rc = zr_rtp_parse(&rtp, tight, packets[i].len, &drop);
        free(tight);
        if (rc != packets[i].rc || (rc != ZR_OK && drop != packets[i].drop))
            zr_test_fail(__FILE__, __LINE__, packets[i].what);
        if (rc == ZR_OK) {
            if (rtp.payload_off != packets[i].off || rtp.payload_len != packets[i].payload_len)
                zr_test_fail(__FILE__, __LINE__, packets[i].what);
            CHECK(rtp.marker);
            CHECK_EQ(rtp.payload_type, 96);
            CHECK_EQ(rtp.seq, 0x1234);
            CHECK_EQ(rtp.timestamp, 0x01020304);
            CHECK_EQ(rtp.ssrc, 0x0A0B0C0D);
        }
    }
}

ZR_TEST(rtcp_is_told_from_rtp_by_its_second_byte)
{
    uint8_t data[2] = { 0x80, 0 };

    for (int second = 0; second < 256; second++) {
        data[1] = (uint8_t)second;
        CHECK_EQ(zr_rtp_is_rtcp(data, 2), second >= 192 && second <= 223);
    }
    CHECK(!zr_rtp_is_rtcp(data, 1));
}
