#include "zr_test.h"

#include <pthread.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/zr_base.h"
#include "load/zr_bare.h"
#include "load/zr_gen.h"
#include "load/zr_mark.h"
#include "load/zr_sinks.h"
#include "net/zr_udp.h"

#define SIZE 300u
#define SSRC 700u

static const zr_addr loopback = { .ip = { 127, 0, 0, 1 }, .family = 4 };

static zr_addr at_port(uint16_t port)
{
    zr_addr addr = loopback;
    addr.port = port;
    return addr;
}

static zr_addr open_at(int *fd, uint32_t flags)
{
    zr_addr addr;
    *fd = zr_udp_open(&loopback, 1u << 20, 0, flags);
    CHECK(*fd >= 0);
    CHECK_EQ(zr_udp_bound(*fd, &addr), 0);
    return addr;
}

static zr_sinks *open_sinks(uint32_t count, uint32_t per_stream, bool gro)
{
    zr_sinks_conf conf = {
        .count = count, .per_stream = per_stream, .ssrc = SSRC, .size = SIZE, .rcvbuf = 1u << 20, .gro = gro
    };
    zr_sinks *sinks = zr_sinks_open(zr_test_memory(zr_sinks_bytes(&conf)), &conf, &loopback);
    CHECK(sinks != NULL);
    return sinks;
}

static void close_sinks(zr_sinks *sinks)
{
    zr_sinks_close(sinks);
    free(sinks);
}

static zr_gen *open_gen(const zr_gen_conf *conf, const zr_addr *to)
{
    zr_gen *gen = zr_gen_open(zr_test_memory(zr_gen_bytes(conf)), conf, &loopback, to);
    CHECK(gen != NULL);
    return gen;
}

static void close_gen(zr_gen *gen)
{
    zr_gen_close(gen);
    free(gen);
}

static zr_sinks_counts drained(zr_sinks *sinks)
{
    zr_sinks_counts counts;
    for (int quiet = 0; quiet < 3;)
        quiet = zr_sinks_turn(sinks, ZR_MS(5)) > 0 ? 0 : quiet + 1;
    zr_sinks_counted(sinks, &counts);
    return counts;
}

ZR_TEST(a_marked_packet_is_read_as_it_was_written_and_every_changed_byte_is_noticed)
{
    zr_mark_text *text = zr_test_memory(sizeof *text);
    zr_mark mark = { .ssrc = SSRC, .payload_type = 97, .last = true, .number = 123456789012, .due = ZR_SEC(77) }, got;
    uint8_t data[SIZE];

    zr_mark_text_init(text);
    zr_mark_write(data, SIZE, &mark, text);
    CHECK_EQ(zr_mark_read(&got, data, SIZE, SIZE, text), ZR_MARK_GOOD);
    CHECK_EQ(got.ssrc, mark.ssrc);
    CHECK_EQ(got.payload_type, mark.payload_type);
    CHECK_EQ(got.last, mark.last);
    CHECK_EQ(got.number, mark.number);
    CHECK_EQ(got.due, mark.due);
    CHECK_EQ(zr_mark_read(&got, data, SIZE - 1, SIZE, text), ZR_MARK_CORRUPT);
    CHECK_EQ(zr_mark_read(&got, data, 0, SIZE, text), ZR_MARK_CORRUPT);
    for (size_t i = 0; i < SIZE; i++) {
        for (unsigned bit = 1; bit < 256; bit <<= 1) {
            data[i] = (uint8_t)(data[i] ^ bit);
            CHECK(zr_mark_read(&got, data, SIZE, SIZE, text) != ZR_MARK_GOOD);
            data[i] = (uint8_t)(data[i] ^ bit);
        }
    }
    free(text);
}

ZR_TEST(a_packet_with_the_rest_of_another_is_corrupt)
{
    zr_mark_text *text = zr_test_memory(sizeof *text);
    zr_mark mark = { .ssrc = SSRC, .number = 8 }, got;
    uint8_t one[SIZE], other[SIZE];

    zr_mark_text_init(text);
    zr_mark_write(one, SIZE, &mark, text);
    mark.number++;
    zr_mark_write(other, SIZE, &mark, text);
    memcpy(one + ZR_MARK_HEAD, other + ZR_MARK_HEAD, SIZE - ZR_MARK_HEAD);
    CHECK_EQ(zr_mark_read(&got, one, SIZE, SIZE, text), ZR_MARK_CORRUPT);
    free(text);
}

ZR_TEST(what_a_generator_sends_every_sink_of_its_stream_gets_once)
{
    static const struct {
        bool segment, gro;
        uint32_t frame;
    } cases[] = { { true, true, 8 }, { true, false, 8 }, { false, true, 8 }, { false, false, 1 }, { true, true, 256 } };

    for (size_t c = 0; c < ZR_LEN(cases); c++) {
        zr_sinks *sinks = open_sinks(2, 1, cases[c].gro);
        zr_gen_conf conf = { .streams = 2,
                             .ssrc = SSRC,
                             .frame = cases[c].frame,
                             .size = SIZE,
                             .pps = 2560,
                             .payload_type = 97,
                             .segment = cases[c].segment };
        const zr_addr to[2] = { at_port(zr_sinks_port(sinks, 0)), at_port(zr_sinks_port(sinks, 1)) };
        zr_gen *gen = open_gen(&conf, to);
        zr_gen_counts sent;
        uint64_t delays[ZR_HIST_BUCKETS] = { 0 }, all = 0;

        zr_gen_run(gen, ZR_MS(100));
        zr_gen_counted(gen, &sent);
        CHECK_EQ(sent.due, 512);
        CHECK_EQ(sent.sent, 512);
        CHECK_EQ(sent.refused, 0);
        CHECK_EQ(sent.frames, 512 / cases[c].frame);
        CHECK_EQ(sent.calls, sent.frames);
        CHECK(sent.busy_ns > 0 && sent.busy_ns <= sent.run_ns);
        zr_sinks_counts got = drained(sinks);
        CHECK_EQ(got.good, 512);
        CHECK_EQ(got.bytes, 512 * SIZE);
        CHECK_EQ(got.duplicates + got.old + got.corrupt + got.rtcp, 0);
        CHECK_EQ(zr_sinks_good(sinks, 1), zr_gen_sent(gen, 1));
        for (uint32_t i = 0; i < 2; i++) {
            CHECK_EQ(zr_sinks_dropped(sinks, i), 0);
            zr_sinks_delays(sinks, i, delays);
        }
        for (size_t b = 0; b < ZR_HIST_BUCKETS; b++)
            all += delays[b];
        CHECK_EQ(all, 512);
        close_gen(gen);
        close_sinks(sinks);
    }
}

ZR_TEST(a_lost_a_repeated_and_a_damaged_packet_each_show_at_the_sink)
{
    int relay, out;
    zr_addr to = open_at(&relay, 0);
    (void)open_at(&out, 0);
    zr_sinks *sinks = open_sinks(1, 1, true);
    zr_addr sink = at_port(zr_sinks_port(sinks, 0));
    zr_gen_conf conf = { .streams = 1, .ssrc = SSRC, .frame = 1, .size = SIZE, .pps = 1000, .payload_type = 97 };
    zr_gen *gen = open_gen(&conf, &to);
    struct sockaddr_storage at;
    socklen_t len = zr_udp_to_sockaddr(&at, &sink, 4);
    uint8_t data[SIZE + 1];

    zr_gen_run(gen, ZR_MS(20));
    for (int i = 0; recv(relay, data, sizeof data, 0) == SIZE; i++) {
        if (i == 3)
            continue; /* lost */
        if (i == 5)
            data[200] ^= 4;
        for (int copy = 0; copy < (i == 7 ? 2 : 1); copy++)
            CHECK_EQ(sendto(out, data, SIZE, 0, (struct sockaddr *)&at, len), SIZE);
    }
    data[1] = 200; /* a sender report, for all a sink knows */
    CHECK_EQ(sendto(out, data, 28, 0, (struct sockaddr *)&at, len), 28);
    CHECK_EQ(sendto(out, data, 0, 0, (struct sockaddr *)&at, len), 0);
    zr_sinks_counts got = drained(sinks);
    CHECK_EQ(zr_gen_sent(gen, 0), 20);
    CHECK_EQ(got.good, 18);
    CHECK_EQ(got.corrupt, 2); /* the damaged and the empty one */
    CHECK_EQ(got.duplicates, 1);
    CHECK_EQ(got.rtcp, 1);
    close_gen(gen);
    close_sinks(sinks);
    close(relay);
    close(out);
}

ZR_TEST(a_packet_of_another_stream_is_not_taken_for_ones_own)
{
    zr_sinks *sinks = open_sinks(2, 2, true);
    zr_gen_conf conf = { .streams = 2, .ssrc = SSRC, .frame = 2, .size = SIZE, .pps = 1000, .payload_type = 97 };
    const zr_addr to[2] = { at_port(zr_sinks_port(sinks, 0)), at_port(zr_sinks_port(sinks, 1)) };
    zr_gen *gen = open_gen(&conf, to);

    zr_gen_run(gen, ZR_MS(10)); /* both sinks expect stream 0 */
    zr_sinks_counts got = drained(sinks);
    CHECK_EQ(got.good, 10);
    CHECK_EQ(got.corrupt, 10);
    close_gen(gen);
    close_sinks(sinks);
}

ZR_TEST(a_generator_that_stalls_makes_delays_longer_and_skips_nothing)
{
    zr_sinks *sinks = open_sinks(1, 1, true);
    zr_addr to = at_port(zr_sinks_port(sinks, 0));
    /* more than any machine sends: it must fall behind, and catch up after the time is over */
    zr_gen_conf conf = { .streams = 1, .ssrc = SSRC, .frame = 1, .size = SIZE, .pps = 5000000, .payload_type = 97 };
    zr_gen *gen = open_gen(&conf, &to);
    zr_gen_counts sent;

    zr_gen_run(gen, ZR_MS(3));
    zr_gen_counted(gen, &sent);
    CHECK_EQ(sent.due, 15000);
    CHECK_EQ(sent.sent + sent.refused, sent.due);
    CHECK(sent.run_ns > (uint64_t)ZR_MS(3));
    CHECK(sent.late > 0 && sent.late_ns_max > (uint64_t)ZR_GEN_LATE);
    CHECK(sent.busy_ns * 10 > sent.run_ns * 9);
    close_gen(gen);
    close_sinks(sinks);
}

ZR_TEST(in_a_ramp_streams_begin_one_after_the_other_and_later_runs_have_none)
{
    int fd;
    zr_addr to[4];
    for (int i = 0; i < 4; i++)
        to[i] = open_at(&fd, 0);
    zr_gen_conf conf = { .streams = 4, .ssrc = SSRC, .frame = 1, .size = SIZE, .pps = 500, .ramp = ZR_MS(40) };
    zr_gen *gen = open_gen(&conf, to);

    zr_gen_run(gen, ZR_MS(40));
    uint64_t first = zr_gen_sent(gen, 0), last = zr_gen_sent(gen, 3);
    CHECK_EQ(first, 20);
    CHECK_EQ(last, 5);
    zr_gen_run(gen, ZR_MS(40));
    CHECK_EQ(zr_gen_sent(gen, 3) - last, 20);
    zr_gen_stop(gen);
    zr_gen_run(gen, ZR_SEC(1000));
    CHECK_EQ(zr_gen_sent(gen, 0), 40);
    close_gen(gen);
    for (int open = fd; open > fd - 4; open--)
        close(open);
}

static void *run_gen(void *gen)
{
    zr_gen_run(gen, ZR_SEC(1000));
    return NULL;
}

static void *run_sinks(void *sinks)
{
    zr_sinks_run(sinks);
    return NULL;
}

ZR_TEST(totals_are_read_and_both_are_stopped_by_another_thread_while_they_run)
{
    zr_sinks *sinks = open_sinks(1, 1, true);
    zr_addr to = at_port(zr_sinks_port(sinks, 0));
    zr_gen_conf conf = { .streams = 1, .ssrc = SSRC, .frame = 8, .size = SIZE, .pps = 8000, .segment = true };
    zr_gen *gen = open_gen(&conf, &to);
    zr_gen_counts sent = { 0 };
    zr_sinks_counts got = { 0 };
    pthread_t threads[2];

    CHECK_EQ(pthread_create(&threads[0], NULL, run_sinks, sinks), 0);
    CHECK_EQ(pthread_create(&threads[1], NULL, run_gen, gen), 0);
    for (int looks = 0; got.good < 400 && looks < 10000; looks++) {
        uint64_t before = got.good;
        usleep(1000);
        zr_gen_counted(gen, &sent);
        zr_sinks_counted(sinks, &got);
        CHECK(got.good >= before);
    }
    CHECK(got.good >= 400);
    zr_gen_stop(gen);
    CHECK_EQ(pthread_join(threads[1], NULL), 0);
    zr_gen_counted(gen, &sent);
    for (int looks = 0; got.good < sent.sent && looks < 10000; looks++) {
        usleep(1000);
        zr_sinks_counted(sinks, &got);
    }
    zr_sinks_stop(sinks);
    CHECK_EQ(pthread_join(threads[0], NULL), 0);
    CHECK_EQ(got.good, sent.sent);
    CHECK_EQ(zr_sinks_good(sinks, 0), zr_gen_sent(gen, 0));
    close_gen(gen);
    close_sinks(sinks);
}

ZR_TEST(a_bare_forwarder_gives_every_destination_every_packet_unharmed)
{
    static const bool segment[] = { true, false };

    for (size_t c = 0; c < ZR_LEN(segment); c++) {
        int fd;
        zr_addr in = open_at(&fd, segment[c] ? ZR_UDP_GRO : 0), to[3];
        zr_sinks *sinks = open_sinks(3, 3, true);
        zr_gen_conf conf = { .streams = 1, .ssrc = SSRC, .frame = 8, .size = SIZE, .pps = 8000, .segment = true };
        zr_gen *gen = open_gen(&conf, &in);
        for (uint32_t i = 0; i < 3; i++)
            to[i] = at_port(zr_sinks_port(sinks, i));
        zr_bare *bare = zr_bare_init(zr_test_memory(zr_bare_bytes(3)), fd, to, 3, segment[c]);
        CHECK(bare != NULL);

        zr_gen_run(gen, ZR_MS(40));
        int forwarded = 0, turn;
        while ((turn = zr_bare_turn(bare, false)) > 0)
            forwarded += turn;
        CHECK_EQ(forwarded, 320);
        zr_sinks_counts got = drained(sinks);
        CHECK_EQ(got.good, 960);
        CHECK_EQ(got.corrupt + got.duplicates + got.old, 0);
        if (segment[c]) /* runs came as runs: 40 frames, and fewer calls than packets */
            CHECK(got.calls < 320);
        close_gen(gen);
        close_sinks(sinks);
        close(fd);
        free(bare);
    }
}

ZR_TEST(a_bare_forwarder_closes_a_run_with_a_shorter_datagram_and_passes_an_empty_one)
{
    static const uint32_t sizes[] = { 100, 100, 60, 100, 0, 100, 200 };
    int in, out, sink;
    zr_addr to = open_at(&in, ZR_UDP_GRO), at = open_at(&sink, 0);
    struct sockaddr_storage where;
    socklen_t len = zr_udp_to_sockaddr(&where, &to, 4);
    uint8_t data[256];

    (void)open_at(&out, 0);
    zr_bare *bare = zr_bare_init(zr_test_memory(zr_bare_bytes(1)), in, &at, 1, true);
    CHECK(bare != NULL);
    memset(data, 7, sizeof data);
    for (size_t i = 0; i < ZR_LEN(sizes); i++)
        CHECK_EQ(sendto(out, data, sizes[i], 0, (struct sockaddr *)&where, len), sizes[i]);
    CHECK_EQ(zr_bare_turn(bare, false), ZR_LEN(sizes));
    for (size_t i = 0; i < ZR_LEN(sizes); i++)
        CHECK_EQ(recv(sink, data, sizeof data, 0), sizes[i]);
    CHECK_EQ(recv(sink, data, sizeof data, 0), -1);
    close(in);
    close(out);
    close(sink);
    free(bare);
}

ZR_TEST(a_configuration_out_of_range_is_refused)
{
    static const zr_gen_conf gens[] = { { .streams = 0, .frame = 1, .size = SIZE, .pps = 1 },
                                        { .streams = 1, .frame = 0, .size = SIZE, .pps = 1 },
                                        { .streams = 1, .frame = 257, .size = SIZE, .pps = 1 },
                                        { .streams = 1, .frame = 1, .size = ZR_MARK_HEAD - 1, .pps = 1 },
                                        { .streams = 1, .frame = 1, .size = ZR_MARK_SIZE_MAX + 1, .pps = 1 },
                                        { .streams = 1, .frame = 1, .size = SIZE, .pps = 0 },
                                        { .streams = 1, .frame = 1, .size = SIZE, .pps = 1, .payload_type = 128 } };
    static const zr_sinks_conf sinks[] = { { .count = 0, .per_stream = 1, .size = SIZE },
                                           { .count = 1, .per_stream = 0, .size = SIZE },
                                           { .count = ZR_SINKS_MAX + 1, .per_stream = 1, .size = SIZE },
                                           { .count = 1, .per_stream = 1, .size = 1 } };

    for (size_t i = 0; i < ZR_LEN(gens); i++)
        CHECK_EQ(zr_gen_bytes(&gens[i]), 0);
    for (size_t i = 0; i < ZR_LEN(sinks); i++)
        CHECK_EQ(zr_sinks_bytes(&sinks[i]), 0);
    CHECK_EQ(zr_bare_bytes(0), 0);
    CHECK_EQ(zr_bare_bytes(ZR_BARE_TO_MAX + 1), 0);
}
