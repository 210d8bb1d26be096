#include "wire/zr_rtcp.h"

#include "base/zr_err.h"
#include "zr_test.h"

/* clang-format off */
static const struct {
    const char *what;
    int rc;
    size_t len;
    uint8_t data[40];
} compounds[] = {
    { "an empty RR", ZR_OK, 8, { 0x80, 201, 0, 1, 0, 0, 0, 1 } },
    { "RR and PLI", ZR_OK, 20, { 0x80, 201, 0, 1, 0, 0, 0, 1,  0x81, 206, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2 } },
    { "a lone NACK (RFC 5506)", ZR_OK, 16, { 0x81, 205, 0, 3, 0, 0, 0, 1, 0, 0, 0, 2, 0, 5, 0, 1 } },
    { "a BYE of nobody", ZR_OK, 4, { 0x80, 203, 0, 0 } },
    { "padding in the last", ZR_OK, 12, { 0xA0, 201, 0, 2, 0, 0, 0, 1, 0, 0, 0, 4 } },
    { "an unknown type", ZR_OK, 8, { 0x80, 207, 0, 1, 0, 0, 0, 1 } },
    { "nothing", ZR_E_malformed, 0, { 0 } },
    { "three bytes", ZR_E_malformed, 3, { 0x80, 201, 0 } },
    { "version 1", ZR_E_malformed, 8, { 0x40, 201, 0, 1 } },
    { "a length beyond the end", ZR_E_malformed, 8, { 0x80, 201, 0, 2 } },
    { "bytes behind the last", ZR_E_malformed, 10, { 0x80, 201, 0, 1 } },
    { "a type of RTP", ZR_E_malformed, 8, { 0x80, 96, 0, 1 } },
    { "an RR of one block without it", ZR_E_malformed, 8, { 0x81, 201, 0, 1 } },
    { "an SR without sender info", ZR_E_malformed, 8, { 0x80, 200, 0, 1 } },
    { "feedback without media SSRC", ZR_E_malformed, 8, { 0x81, 206, 0, 1 } },
    { "padding in the middle", ZR_E_malformed, 20, { 0xA0, 201, 0, 2, 0, 0, 0, 1, 0, 0, 0, 4, 0x80, 201, 0, 1 } },
    { "padding longer than the packet", ZR_E_malformed, 12, { 0xA0, 201, 0, 2, 0, 0, 0, 1, 0, 0, 0, 12 } },
    { "padding of no words", ZR_E_malformed, 12, { 0xA0, 201, 0, 2, 0, 0, 0, 1, 0, 0, 0, 3 } },
};
/* clang-format on */

ZR_TEST(an_rtcp_compound_is_well_formed_as_a_whole_or_malformed)
{
    for (size_t i = 0; i < ZR_LEN(compounds); i++)
        if (zr_rtcp_check(compounds[i].data, compounds[i].len) != compounds[i].rc)
            zr_test_fail(__FILE__, __LINE__, compounds[i].what);
}

ZR_TEST(a_nack_expands_to_every_number_it_names_across_the_wrap)
{
    const uint8_t data[] = { 0x81, 205, 0, 4, 0, 0, 0, 9, 0, 0, 0, 7, 0xFF, 0xFF, 0x80, 0x01, 0, 100, 0, 0 };
    const uint16_t want[] = { 65535, 0, 15, 100 };
    uint16_t seqs[8];
    zr_rtcp rtcp;
    size_t pos = 0;

    CHECK_EQ(zr_rtcp_check(data, sizeof data), ZR_OK);
    CHECK_EQ(zr_rtcp_next(&rtcp, data, sizeof data, &pos), ZR_OK);
    CHECK_EQ(rtcp.sender_ssrc, 9);
    CHECK_EQ(rtcp.media_ssrc, 7);
    CHECK_EQ(zr_rtcp_nack(&rtcp, seqs, 8), 4);
    CHECK(memcmp(seqs, want, sizeof want) == 0);
    CHECK_EQ(zr_rtcp_nack(&rtcp, seqs, 2), 2);
    CHECK_EQ(zr_rtcp_next(&rtcp, data, sizeof data, &pos), ZR_E_again);
}

ZR_TEST(pli_names_its_media_ssrc_and_fir_the_ones_in_its_fci)
{
    const uint8_t pli[] = { 0x81, 206, 0, 2, 0, 0, 0, 9, 0, 0, 0, 7 };
    const uint8_t fir[] = { 0x84, 206, 0, 6, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 5, 1, 0, 0, 0, 0, 0, 0, 7, 2, 0, 0, 0 };
    zr_rtcp rtcp;
    size_t pos = 0;

    CHECK_EQ(zr_rtcp_next(&rtcp, pli, sizeof pli, &pos), ZR_OK);
    CHECK(zr_rtcp_wants_keyframe(&rtcp, 7));
    CHECK(!zr_rtcp_wants_keyframe(&rtcp, 9));
    pos = 0;
    CHECK_EQ(zr_rtcp_next(&rtcp, fir, sizeof fir, &pos), ZR_OK);
    CHECK(zr_rtcp_wants_keyframe(&rtcp, 5));
    CHECK(zr_rtcp_wants_keyframe(&rtcp, 7));
    CHECK(!zr_rtcp_wants_keyframe(&rtcp, 0));
}

ZR_TEST(the_pli_we_write_is_one_we_read)
{
    uint8_t data[32];
    zr_rtcp rtcp;
    size_t pos = 0, len = zr_rtcp_put_pli(data, 0x01020304, 0x0A0B0C0D);

    CHECK_EQ(len, 20);
    CHECK_EQ(zr_rtcp_check(data, len), ZR_OK);
    CHECK_EQ(zr_rtcp_next(&rtcp, data, len, &pos), ZR_OK);
    CHECK_EQ(rtcp.type, ZR_RTCP_RR);
    CHECK_EQ(rtcp.sender_ssrc, 0x01020304);
    CHECK_EQ(rtcp.body_len, 0);
    CHECK_EQ(zr_rtcp_next(&rtcp, data, len, &pos), ZR_OK);
    CHECK(zr_rtcp_wants_keyframe(&rtcp, 0x0A0B0C0D));
}
