#include "base/zr_addr.h"

#include "base/zr_base.h"
#include "base/zr_bytes.h"
#include "zr_test.h"

static const zr_addr v4 = { .ip = { 10, 0, 0, 1 }, .port = 7000, .family = 4 };

ZR_TEST(addresses_differ_by_ip_port_or_family)
{
    zr_addr same = v4, ip = v4, port = v4, family = v4;
    ip.ip[3] = 2;
    port.port++;
    family.family = 6;

    CHECK(zr_addr_eq(&v4, &same));
    CHECK(!zr_addr_eq(&v4, &ip));
    CHECK(!zr_addr_eq(&v4, &port));
    CHECK(!zr_addr_eq(&v4, &family));
    CHECK(zr_addr_same_ip(&v4, &port));
    CHECK(!zr_addr_same_ip(&v4, &ip));
    CHECK(!zr_addr_same_ip(&v4, &family));
}

ZR_TEST(a_lane_is_its_agent_with_the_port_moved)
{
    zr_addr lane = zr_addr_shifted(&v4, 3);

    CHECK_EQ(lane.port, 7003);
    CHECK_EQ(v4.port, 7000);
    CHECK(zr_addr_same_ip(&v4, &lane));
    CHECK(zr_addr_eq(&v4, &(zr_addr){ .ip = { 10, 0, 0, 1 }, .port = 7000, .family = 4 }));
    lane = zr_addr_shifted(&lane, -3);
    CHECK(zr_addr_eq(&v4, &lane));
}

ZR_TEST(near_addresses_hash_apart_in_the_low_bits_that_a_table_uses)
{
    uint32_t load[256] = { 0 };

    /* 16 hosts with 256 ports each: 16 a cell when even. */
    for (uint8_t host = 0; host < 16; host++)
        for (uint16_t port = 0; port < 256; port++) {
            zr_addr addr = v4;
            addr.ip[3] = host;
            addr.port = (uint16_t)(40000 + 2 * port);
            load[zr_addr_hash(&addr) & 255]++;
        }
    for (size_t i = 0; i < ZR_LEN(load); i++)
        CHECK(load[i] < 48);
}

ZR_TEST(every_byte_of_an_ipv6_address_counts_in_its_hash)
{
    zr_addr base = { .port = 7000, .family = 6 };

    for (size_t i = 0; i < sizeof base.ip; i++) {
        zr_addr other = base;
        other.ip[i] = 1;
        CHECK(zr_addr_hash(&other) != zr_addr_hash(&base));
    }
}

ZR_TEST(integers_are_put_and_got_at_any_alignment_in_both_orders)
{
    uint8_t bytes[16] = { 0 };

    zr_put64(bytes + 1, 0x0102030405060708u);
    CHECK_EQ(bytes[1], 8);
    CHECK_EQ(bytes[8], 1);
    CHECK_EQ(zr_get64(bytes + 1), 0x0102030405060708);
    CHECK_EQ(zr_get32(bytes + 1), 0x05060708);
    CHECK_EQ(zr_get32be(bytes + 1), 0x08070605);
    CHECK_EQ(zr_get16(bytes + 3), 0x0506);
    CHECK_EQ(zr_get16be(bytes + 3), 0x0605);
    zr_put32be(bytes + 3, 0xA1B2C3D4u);
    CHECK_EQ(bytes[3], 0xA1);
    CHECK_EQ(zr_get32(bytes + 3), 0xD4C3B2A1);
    zr_put16be(bytes + 5, 0xBEEF);
    CHECK_EQ(bytes[5], 0xBE);
    zr_put16(bytes + 5, 0xBEEF);
    CHECK_EQ(bytes[5], 0xEF);
    zr_put32(bytes, 7);
    CHECK_EQ(bytes[0], 7);
}
