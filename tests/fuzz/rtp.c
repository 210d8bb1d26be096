/* RTP, RTCP and media headers: whatever the bytes, what the parsers say lies inside the packet. */
#include "base/zr_err.h"
#include "fuzz.h"
#include "wire/zr_media.h"
#include "wire/zr_rtp.h"

static void parse_rtp(const uint8_t *data, size_t len)
{
    enum zr_drop_id why = ZR_DROP_COUNT;
    zr_rtp rtp;

    if (zr_rtp_parse(&rtp, data, len, &why) != ZR_OK) {
        ZR_CHECK(why >= ZR_DROP_rtp_short && why <= ZR_DROP_rtp_pad);
        return;
    }
    ZR_CHECK(rtp.payload_off >= ZR_RTP_HEAD && (size_t)rtp.payload_off + rtp.payload_len <= len);
    for (int codec = 0; codec < ZR_CODEC_COUNT; codec++) {
        const unsigned known = ZR_MEDIA_KEY | ZR_MEDIA_FRAME_START | ZR_MEDIA_DISCARDABLE;
        unsigned flags = zr_codec_flags((enum zr_codec)codec, data + rtp.payload_off, rtp.payload_len);
        ZR_CHECK((flags & ~known) == 0);
    }
}

static void parse_rtcp(const uint8_t *data, size_t len)
{
    uint16_t seqs[64];
    size_t pos = 0, before = 0;
    zr_rtcp rtcp;

    if (zr_rtcp_check(data, len) != ZR_OK)
        return;
    for (; zr_rtcp_next(&rtcp, data, len, &pos) == ZR_OK; before = pos) {
        ZR_CHECK(pos > before && pos <= len);
        ZR_CHECK(rtcp.body_len == 0 || (rtcp.body >= data && rtcp.body + rtcp.body_len <= data + pos));
        ZR_CHECK(zr_rtcp_nack(&rtcp, seqs, (int)ZR_LEN(seqs)) <= (int)ZR_LEN(seqs));
        (void)zr_rtcp_wants_keyframe(&rtcp, 7);
    }
    ZR_CHECK(pos == len);
}

static void parse_media(const uint8_t *data, size_t len)
{
    uint8_t again[ZR_MEDIA_HEAD];
    zr_media media, read_back;

    if (zr_media_parse(&media, data, len) != ZR_OK)
        return;
    ZR_CHECK(media.cls <= ZR_MEDIA_CLASS_MAX);
    zr_media_put(again, &media);
    ZR_CHECK(zr_media_parse(&read_back, again, sizeof again) == ZR_OK);
    ZR_CHECK(read_back.number == media.number && read_back.hops == media.hops && read_back.track == media.track);
    parse_rtp(data + ZR_MEDIA_HEAD, len - ZR_MEDIA_HEAD);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *record;
    size_t len;

    while ((record = fuzz_record(&data, &size, &len)) != NULL) {
        parse_rtp(record, len);
        (void)zr_rtp_is_rtcp(record, len);
        parse_rtcp(record, len);
        parse_media(record, len);
        free(record);
    }
    return 0;
}
