#include "forward/zr_ingress.h"

#include "zr_test.h"

static zr_stream stream;
static zr_stream_row row;

static zr_addr from_port(uint16_t port)
{
    return (zr_addr){ .ip = { [15] = 1 }, .port = port, .family = 6 };
}

ZR_TEST(a_lock_is_renewed_by_its_source_alone_and_follows_a_new_ssrc)
{
    zr_ingress ingress;
    zr_track *track = &stream.tracks[0];
    zr_addr mine = from_port(5000), other = from_port(5002);

    memset(&stream, 0, sizeof stream);
    zr_stream_init(&stream, 0, &row);
    zr_stream_open(&stream, true, 1, 0);
    stream.track_count = 1;
    zr_ingress_init(&ingress, 0);
    CHECK_EQ(zr_ingress_bind(&ingress, &stream, true), ZR_OK);
    CHECK_EQ(zr_ingress_hear(&ingress, track, &mine, 1, ZR_SEC(1)), ZR_LOCK_NEW);
    CHECK_EQ(zr_ingress_hear(&ingress, track, &mine, 1, ZR_SEC(2)), ZR_LOCK_HELD);
    CHECK_EQ(zr_ingress_hear(&ingress, track, &other, 1, ZR_SEC(3)), ZR_E_dropped);
    CHECK_EQ(zr_ingress_hear(&ingress, track, &mine, 2, ZR_SEC(3)), ZR_LOCK_NEW);
    CHECK(zr_ingress_allows_rtcp(&ingress, &other)); /* same host, any port */
    CHECK_EQ(zr_ingress_hear(&ingress, track, &other, 2, ZR_SEC(5)), ZR_LOCK_LOST | ZR_LOCK_NEW);
    zr_ingress_unbind(&ingress);
    CHECK(!track->locked && stream.ingress == ZR_INGRESS_NONE);
}

ZR_TEST(a_source_list_takes_each_address_once_and_has_an_end)
{
    zr_ingress ingress;
    zr_addr source;

    memset(&stream, 0, sizeof stream);
    zr_stream_init(&stream, 0, &row);
    zr_stream_open(&stream, true, 1, 0);
    zr_ingress_init(&ingress, 0);
    source = from_port(1);
    CHECK_EQ(zr_ingress_add_source(&ingress, &source), ZR_E_missing);
    CHECK_EQ(zr_ingress_bind(&ingress, &stream, false), ZR_OK);
    for (uint16_t i = 0; i < 2 * ZR_INGRESS_SOURCES; i++) {
        source = from_port((uint16_t)(1 + i / 2));
        CHECK_EQ(zr_ingress_add_source(&ingress, &source), ZR_OK);
    }
    source = from_port(999);
    CHECK_EQ(zr_ingress_add_source(&ingress, &source), ZR_E_full);
    CHECK(!zr_ingress_allows(&ingress, &source));
}
