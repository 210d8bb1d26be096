#include "wire/zr_media.h"

#include "base/zr_err.h"
#include "zr_test.h"

ZR_TEST(a_media_header_comes_back_as_it_was_put)
{
    zr_media in = { .flags = ZR_MEDIA_KEY | ZR_MEDIA_SWITCH,
                    .track = 15,
                    .hops = 8,
                    .cls = 6,
                    .spatial = 2,
                    .temporal = 3,
                    .number = UINT32_MAX,
                    .hop_us = 0x01020304,
                    .age_us = 0xA0B0C0D0 };
    zr_media out;
    uint8_t data[ZR_MEDIA_HEAD];

    zr_media_put(data, &in);
    CHECK_EQ(zr_media_parse(&out, data, sizeof data), ZR_OK);
    CHECK_EQ(out.flags, in.flags);
    CHECK_EQ(out.track, in.track);
    CHECK_EQ(out.hops, in.hops);
    CHECK_EQ(out.cls, in.cls);
    CHECK_EQ(out.spatial, in.spatial);
    CHECK_EQ(out.temporal, in.temporal);
    CHECK_EQ(out.number, in.number);
    CHECK_EQ(out.hop_us, in.hop_us);
    CHECK_EQ(out.age_us, in.age_us);
    CHECK_EQ(data[2], 0x86); /* hops high, class low */
    CHECK_EQ(data[8], 0x04); /* little-endian */
}

ZR_TEST(a_media_message_shorter_than_its_header_is_malformed)
{
    uint8_t data[ZR_MEDIA_HEAD] = { 0 };
    zr_media media;

    for (size_t len = 0; len < ZR_MEDIA_HEAD; len++)
        CHECK_EQ(zr_media_parse(&media, data, len), ZR_E_malformed);
}

ZR_TEST(K30_a_drop_class_above_six_is_read_as_six_and_hops_above_eight_are_the_callers)
{
    uint8_t data[ZR_MEDIA_HEAD] = { 0 };
    zr_media media;

    data[2] = 0xFF;
    CHECK_EQ(zr_media_parse(&media, data, sizeof data), ZR_OK);
    CHECK_EQ(media.cls, ZR_MEDIA_CLASS_MAX);
    CHECK_EQ(media.hops, 15);
}
