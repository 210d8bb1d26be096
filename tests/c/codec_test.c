#include "sim/zr_rng.h"
#include "wire/zr_media.h"
#include "wire/zr_rtp.h"

#include "base/zr_err.h"
#include "zr_test.h"

#define K ZR_MEDIA_KEY
#define S ZR_MEDIA_FRAME_START
#define D ZR_MEDIA_DISCARDABLE

/* clang-format off */
static const struct {
    const char *what;
    enum zr_codec codec;
    int want;
    size_t len;
    uint8_t payload[16];
} payloads[] = {
    { "IDR, first slice", ZR_CODEC_h264, K | S, 3, { 0x65, 0x88, 0x84 } },
    { "IDR, later slice", ZR_CODEC_h264, K, 3, { 0x65, 0x40, 0x84 } },
    { "P slice", ZR_CODEC_h264, S, 3, { 0x41, 0x9A, 0x00 } },
    { "unreferenced B slice", ZR_CODEC_h264, S | D, 3, { 0x01, 0x9E, 0x00 } },
    { "SPS", ZR_CODEC_h264, K | S, 3, { 0x67, 0x42, 0xC0 } },
    { "SPS of nal_ref_idc 0 is kept", ZR_CODEC_h264, K | S, 3, { 0x07, 0x42, 0xC0 } },
    { "PPS", ZR_CODEC_h264, 0, 3, { 0x68, 0xCE, 0x3C } },
    { "STAP-A of SPS and PPS", ZR_CODEC_h264, K | S, 9, { 0x78, 0, 2, 0x67, 0x42, 0, 2, 0x68, 0xCE } },
    { "STAP-A of AUD and IDR", ZR_CODEC_h264, K | S, 9, { 0x78, 0, 2, 0x09, 0x10, 0, 2, 0x65, 0x88 } },
    { "STAP-A of P slices", ZR_CODEC_h264, S, 9, { 0x58, 0, 2, 0x41, 0x9A, 0, 2, 0x41, 0x40 } },
    { "STAP-A whose size reaches beyond", ZR_CODEC_h264, 0, 5, { 0x78, 0, 9, 0x65, 0x88 } },
    { "STAP-B of an IDR", ZR_CODEC_h264, K | S, 7, { 0x79, 0, 1, 0, 2, 0x65, 0x88 } },
    { "MTAP16 of an IDR", ZR_CODEC_h264, K | S, 10, { 0x7A, 0, 1, 0, 5, 0, 0, 0, 0x65, 0x88 } },
    { "FU-A, IDR start", ZR_CODEC_h264, K | S, 4, { 0x7C, 0x85, 0x88, 0x80 } },
    { "FU-A, IDR middle", ZR_CODEC_h264, 0, 4, { 0x7C, 0x05, 0x88, 0x80 } },
    { "FU-A, IDR end", ZR_CODEC_h264, 0, 4, { 0x7C, 0x45, 0x88, 0x80 } },
    { "FU-A, unreferenced slice, middle", ZR_CODEC_h264, D, 4, { 0x1C, 0x01, 0x88, 0x80 } },
    { "FU-B, IDR start", ZR_CODEC_h264, K | S, 6, { 0x7D, 0x85, 0, 0, 0x88, 0x80 } },
    { "FU-A header alone", ZR_CODEC_h264, 0, 1, { 0x7C } },
    { "h264 nothing", ZR_CODEC_h264, 0, 0, { 0 } },
    { "IDR_W_RADL", ZR_CODEC_h265, K | S, 3, { 19 << 1, 1, 0x80 } },
    { "CRA, later slice", ZR_CODEC_h265, K, 3, { 21 << 1, 1, 0x00 } },
    { "TRAIL_R", ZR_CODEC_h265, S, 3, { 1 << 1, 1, 0x80 } },
    { "VPS", ZR_CODEC_h265, K | S, 3, { 32 << 1, 1, 0x0C } },
    { "h265 PPS", ZR_CODEC_h265, 0, 3, { 34 << 1, 1, 0xC1 } },
    { "AP of SEI and IDR", ZR_CODEC_h265, K | S, 12, { 48 << 1, 1, 0, 3, 39 << 1, 1, 0, 0, 3, 19 << 1, 1, 0x80 } },
    { "AP whose size reaches beyond", ZR_CODEC_h265, 0, 6, { 48 << 1, 1, 0, 9, 19 << 1, 1 } },
    { "FU, BLA start", ZR_CODEC_h265, K | S, 4, { 49 << 1, 1, 0x80 | 16, 0x80 } },
    { "FU, IDR middle", ZR_CODEC_h265, 0, 4, { 49 << 1, 1, 19, 0x80 } },
    { "h265 one byte", ZR_CODEC_h265, 0, 1, { 19 << 1 } },
    { "key frame", ZR_CODEC_vp8, K | S, 2, { 0x10, 0x00 } },
    { "delta frame", ZR_CODEC_vp8, S, 2, { 0x10, 0x01 } },
    { "delta frame, N", ZR_CODEC_vp8, S | D, 2, { 0x30, 0x01 } },
    { "key frame, later packet", ZR_CODEC_vp8, 0, 2, { 0x00, 0x00 } },
    { "key frame, second partition", ZR_CODEC_vp8, 0, 2, { 0x11, 0x00 } },
    { "key frame, 15-bit id, TL0, TID", ZR_CODEC_vp8, K | S, 7, { 0x90, 0xE0, 0x81, 0x23, 5, 0x40, 0x00 } },
    { "delta frame, 7-bit id", ZR_CODEC_vp8, S, 4, { 0x90, 0x80, 0x01, 0x01 } },
    { "descriptor alone", ZR_CODEC_vp8, S, 1, { 0x90 } },
    { "vp9 key", ZR_CODEC_vp9, K | S, 2, { 0x08, 0 } },
    { "vp9 key, id, layer 0", ZR_CODEC_vp9, K | S, 5, { 0xA8, 0x81, 0x02, 0x00, 0 } },
    { "vp9 key, spatial layer 1", ZR_CODEC_vp9, 0, 5, { 0xA8, 0x81, 0x02, 0x03, 0 } },
    { "vp9 delta", ZR_CODEC_vp9, S, 2, { 0x48, 0 } },
    { "vp9 key, middle", ZR_CODEC_vp9, 0, 2, { 0x00, 0 } },
    { "vp9 layer beyond the end", ZR_CODEC_vp9, 0, 2, { 0xA8, 0x01 } },
    { "av1 new sequence", ZR_CODEC_av1, K | S, 2, { 0x18, 0 } },
    { "av1 other", ZR_CODEC_av1, 0, 2, { 0x10, 0 } },
    { "opus says nothing", ZR_CODEC_opus, 0, 3, { 0xFC, 0xFF, 0xFE } },
};
/* clang-format on */

ZR_TEST(a_payload_tells_key_frame_frame_start_and_discardable)
{
    for (size_t i = 0; i < ZR_LEN(payloads); i++) {
        int got = zr_codec_flags(payloads[i].codec, payloads[i].payload, payloads[i].len);
        if (got != payloads[i].want) {
            fprintf(stderr, "  flags are %d, not %d\n", got, payloads[i].want);
            zr_test_fail(__FILE__, __LINE__, payloads[i].what);
        }
    }
}

/* Random bytes in blocks of exactly their length: what a sanitizer cannot see is not out of range. Half of them start
 * as a plausible packet would, or they would all fail at the version. */
ZR_TEST(a_million_random_packets_are_read_within_their_bounds)
{
    uint8_t *blocks[65];
    zr_rng rng;
    long accepted = 0, keys = 0, compounds = 0;

    zr_rng_seed(&rng, 1);
    for (size_t len = 0; len < ZR_LEN(blocks); len++)
        blocks[len] = malloc(len ? len : 1);
    for (int round = 0; round < 1000000; round++) {
        size_t len = zr_rng_below(&rng, ZR_LEN(blocks));
        uint8_t *data = blocks[len];
        for (size_t at = 0; at < len; at += 8) {
            uint64_t word = zr_rng_next(&rng);
            memcpy(data + at, &word, ZR_MIN(len - at, sizeof word));
        }
        if (len >= 4 && round & 1) {
            data[0] = (uint8_t)(0x80 | (data[0] & 0x3F));
            if (round & 2) {
                data[1] = (uint8_t)(200 + data[1] % 8);
                data[2] = 0;
                data[3] = data[3] % 16;
            }
        }

        enum zr_drop_id drop;
        zr_rtp rtp;
        if (zr_rtp_parse(&rtp, data, len, &drop) == ZR_OK) {
            accepted++;
            CHECK(rtp.payload_off + rtp.payload_len <= (int)len);
        }
        if (zr_rtcp_check(data, len) == ZR_OK) {
            uint16_t seqs[17];
            zr_rtcp rtcp;
            compounds++;
            for (size_t pos = 0; zr_rtcp_next(&rtcp, data, len, &pos) == ZR_OK;) {
                CHECK(rtcp.body + rtcp.body_len <= data + len);
                CHECK(zr_rtcp_nack(&rtcp, seqs, 17) <= 17);
                keys += zr_rtcp_wants_keyframe(&rtcp, 0);
            }
        }
        for (int codec = 0; codec < ZR_CODEC_COUNT; codec++)
            keys += zr_codec_flags((enum zr_codec)codec, data, len) & ZR_MEDIA_KEY;
    }
    for (size_t len = 0; len < ZR_LEN(blocks); len++)
        free(blocks[len]);
    CHECK(accepted > 50000);
    CHECK(compounds > 1000);
    CHECK(keys > 50000);
}
