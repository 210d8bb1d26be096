#include "worker_rig.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>

#include "worker/zr_idle.h"

ZR_TEST(rtp_that_comes_in_goes_out_to_the_subscriber_in_runs_and_unchanged)
{
    rig r = rig_open();
    int player = zr_udp_open(&loopback, 0, 0, 0);
    zr_addr to = bound(player);
    uint8_t got[2000];

    open_stream(&r, &to);
    for (uint16_t i = 0; i < 20; i++)
        publish(&r, (uint16_t)(65530 + i), 100);
    turns(&r);
    for (uint16_t i = 0; i < 20; i++) {
        CHECK_EQ(recv(player, got, sizeof got, MSG_DONTWAIT), 112);
        CHECK_EQ(zr_get16be(got + 2), (uint16_t)(65530 + i));
    }
    CHECK_EQ(stat_of(&r, ZR_STAT_media_accepted), 20);
    CHECK_EQ(stat_of(&r, ZR_STAT_fan_sent), 20);
    CHECK_EQ(stat_of(&r, ZR_STAT_tx_sent), 20);
    CHECK(stat_of(&r, ZR_STAT_tx_gso_runs) > 0);
    close(player);
    rig_close(&r);
}

ZR_TEST(empty_and_oversized_datagrams_are_counted_where_they_came_in)
{
    rig r = rig_open();
    static uint8_t big[65507];
    zr_addr link = bound(r.conf.fds.link);
    struct sockaddr_storage to;
    socklen_t len = zr_udp_to_sockaddr(&to, &link, 4);

    open_stream(&r, &link);
    CHECK_EQ(sendto(r.client, big, 0, 0, (struct sockaddr *)&to, len), 0);
    CHECK_EQ(sendto(r.client, big, sizeof big, 0, (struct sockaddr *)&to, len), sizeof big);
    CHECK_EQ(sendto(r.client, big, ZR_PKT_ROOM + 1, 0, (struct sockaddr *)&to, len), ZR_PKT_ROOM + 1);
    len = zr_udp_to_sockaddr(&to, &r.ingress_at, 4);
    CHECK_EQ(sendto(r.client, big, 0, 0, (struct sockaddr *)&to, len), 0);
    CHECK_EQ(sendto(r.client, big, sizeof big, 0, (struct sockaddr *)&to, len), sizeof big);
    turns(&r);
    CHECK_EQ(stat_of(&r, ZR_STAT_rx_link), 3);
    CHECK_EQ(drops_of(&r, ZR_DROP_short), 1);
    CHECK_EQ(drops_of(&r, ZR_DROP_link_oversize), 2);
    CHECK_EQ(stat_of(&r, ZR_STAT_rx_media), 2);
    CHECK_EQ(drops_of(&r, ZR_DROP_rtp_short), 1);
    CHECK_EQ(drops_of(&r, ZR_DROP_oversize), 1);
    rig_close(&r);
}

ZR_TEST(nonsense_from_the_supervisor_ends_that_connection_and_not_the_forwarding)
{
    rig r = rig_open();
    int player = zr_udp_open(&loopback, 0, 0, 0);
    zr_addr to = bound(player);
    uint8_t got[2000];

    open_stream(&r, &to);
    pass_ingress(&r, UINT16_MAX, zr_udp_open(&loopback, 0, 0, 0)); /* beyond the last slot */
    turns(&r);
    CHECK_EQ(send(r.supervisor, got, 1, MSG_NOSIGNAL), -1);
    publish(&r, 1, 10);
    turns(&r);
    CHECK_EQ(recv(player, got, sizeof got, MSG_DONTWAIT), 22);
    close(player);
    rig_close(&r);
}

ZR_TEST(closing_an_ingress_closes_its_socket_and_its_slot_can_be_given_again)
{
    rig r = rig_open();
    zr_addr nobody = { .ip = { 127, 0, 0, 1 }, .port = 9, .family = 4 };

    open_stream(&r, &nobody);
    zr_addr first = r.ingress_at;
    post(&r, (zr_cmd){ .op = ZR_CMD_ingress_close, .a = 0 });
    pass_ingress(&r, 0, zr_udp_open(&loopback, 0, 0, 0)); /* asked for behind the close: must survive it */
    turns(&r);
    int again = zr_udp_open(&first, 0, 0, 0); /* the port is free */
    CHECK(again >= 0);
    close(again);
    post(&r, (zr_cmd){ .op = ZR_CMD_reset });
    turns(&r);
    rig_close(&r);
}

ZR_TEST(events_wake_an_agent_that_sleeps_and_only_such_a_one)
{
    rig r = rig_open();
    uint64_t count;

    post(&r, (zr_cmd){ .op = ZR_CMD_nop, .seq = 1 });
    turns(&r);
    CHECK(eventfd_read(r.conf.fds.agent_wake, &count) < 0);
    zr_chan_sleep(r.chan->agent_asleep);
    post(&r, (zr_cmd){ .op = ZR_CMD_nop, .seq = 2 });
    turns(&r);
    CHECK_EQ(eventfd_read(r.conf.fds.agent_wake, &count), 0);
    CHECK_EQ(count, 1);
    CHECK_EQ(stat_of(&r, ZR_STAT_wakes), 1);
    CHECK_EQ(zr_spsc_depth(zr_chan_events(r.chan)), 2);
    rig_close(&r);
}

static void *run(void *worker)
{
    return zr_worker_run(worker) == ZR_OK ? worker : NULL;
}

ZR_TEST(a_running_worker_ends_by_request_by_command_and_wakes_for_it_at_once)
{
    for (int by_command = 0; by_command < 2; by_command++) {
        rig r = rig_open();
        pthread_t thread;
        void *ended;
        CHECK_EQ(pthread_create(&thread, NULL, run, r.worker), 0);
        struct timespec nap = { .tv_nsec = ZR_MS(150) };
        nanosleep(&nap, NULL);
        CHECK(stat_of(&r, ZR_STAT_turns) < 20); /* it sleeps */
        zr_ns_t asked = zr_clock_now();
        if (by_command == 0) {
            zr_worker_ask_stop(r.worker);
        } else {
            post(&r, (zr_cmd){ .op = ZR_CMD_stop });
            if (zr_chan_wake_needed(r.chan->worker_asleep))
                CHECK_EQ(eventfd_write(r.conf.fds.wake, 1), 0);
        }
        pthread_join(thread, &ended);
        CHECK(ended == r.worker);
        CHECK(zr_clock_now() - asked < ZR_MS(50));
        CHECK(atomic_load(&r.page->heartbeat_ns) >= atomic_load(&r.page->started_ns) + ZR_MS(90));
        rig_close(&r);
    }
}

ZR_TEST(a_worker_refuses_descriptors_that_are_not_udp_sockets_and_sizes_out_of_range)
{
    rig r = rig_open();
    zr_worker_conf conf = r.conf;
    void *mem = zr_test_memory(zr_worker_bytes(&r.conf));

    conf.fds.link = r.conf.fds.wake;
    CHECK(zr_worker_init(mem, &conf, r.page, r.chan, 1) == NULL);
    conf = r.conf;
    conf.batch = 0;
    CHECK(zr_worker_init(mem, &conf, r.page, r.chan, 1) == NULL);
    free(mem);
    rig_close(&r);
}

/* -- sockets that do not take all -- */

static int blocked_fd, sends, shut = -1; /* shut: sends of blocked_fd from this one on take nothing */

static int block(int fd, struct mmsghdr *msgs, unsigned count, int flags)
{
    if (fd == blocked_fd && shut >= 0 && sends++ >= shut) {
        errno = EAGAIN;
        return -1;
    }
    return sendmmsg(fd, msgs, fd == blocked_fd && shut >= 0 ? 1 : count, flags);
}

static const zr_udp_calls blocking = { .sendmmsg = block, .recvmmsg = recvmmsg };

ZR_TEST(a_blocked_egress_keeps_what_is_left_spins_for_nothing_and_goes_on_where_it_stopped)
{
    rig r = rig_open_with(&blocking, 0);
    int player = zr_udp_open(&loopback, 0, 0, 0);
    zr_addr to = bound(player);
    uint8_t got[2000];

    open_stream(&r, &to);
    for (uint32_t sub = 1; sub < 4; sub++)
        post(&r, (zr_cmd){ .op = ZR_CMD_sub_add, .a = sub, .b = 0, .c = 1, .d = 255 | 255 << 8, .addr = to });
    turns(&r);
    blocked_fd = r.conf.fds.egress;
    sends = 0;
    shut = 2;
    for (uint16_t i = 0; i < 30; i++) { /* a packet a turn, after the first for four players */
        publish(&r, i, 100);
        turns(&r);
    }
    CHECK_EQ(stat_of(&r, ZR_STAT_tx_sent), 2);
    CHECK_EQ(stat_of(&r, ZR_STAT_tx_waiting), 2);
    CHECK_EQ(zr_ledger_off(r.page, ZR_LEDGER_egress), 0);
    /* It is always writable here, so each look finds EPOLLOUT; the timer alone would have asked once in 10 ms. */
    CHECK(stat_of(&r, ZR_STAT_tx_blocked) > 0);
    shut = -1;
    zr_worker_rest(r.worker, ZR_NEVER - 1, 0);
    turns(&r);
    CHECK_EQ(stat_of(&r, ZR_STAT_tx_sent), 120);
    CHECK_EQ(stat_of(&r, ZR_STAT_tx_waiting), 0);
    uint16_t next[4] = { 0 };
    for (int i = 0; i < 120; i++) { /* each four times, in order */
        CHECK_EQ(recv(player, got, sizeof got, MSG_DONTWAIT), 112);
        uint16_t seq = zr_get16be(got + 2);
        int k = 0;
        while (k < 4 && next[k] != seq)
            k++;
        CHECK(k < 4);
        next[k]++;
    }
    CHECK(recv(player, got, sizeof got, MSG_DONTWAIT) < 0);
    close(player);
    rig_close(&r);
}

ZR_TEST(what_waits_for_a_socket_when_the_worker_ends_is_counted_as_dropped)
{
    rig r = rig_open_with(&blocking, 0);
    zr_addr nobody = { .ip = { 127, 0, 0, 1 }, .port = 9, .family = 4 };

    open_stream(&r, &nobody);
    blocked_fd = r.conf.fds.egress;
    sends = shut = 0;
    publish(&r, 1, 100);
    turns(&r);
    CHECK_EQ(stat_of(&r, ZR_STAT_tx_waiting), 1);
    zr_worker_fini(r.worker);
    CHECK_EQ(drops_of(&r, ZR_DROP_tx_again), 1);
    CHECK_EQ(zr_ledger_off(r.page, ZR_LEDGER_egress), 0);
    r.worker = zr_worker_init(r.mem, &r.conf, r.page, r.chan, zr_clock_now());
    CHECK(r.worker != NULL);
    shut = -1;
    rig_close(&r);
}

ZR_TEST(a_hold_makes_one_run_of_what_comes_in_a_few_turns_and_ends_in_time)
{
    rig r = rig_open_with(NULL, ZR_MS(1));
    int player = zr_udp_open(&loopback, 0, 0, 0);
    zr_addr to = bound(player);
    zr_ns_t now = zr_clock_now();

    open_stream(&r, &to);
    uint64_t runs = stat_of(&r, ZR_STAT_tx_runs);
    for (uint16_t i = 0; i < 8; i++) {
        publish(&r, i, 100);
        zr_worker_rest(r.worker, ZR_NEVER - 1, 0);
        (void)zr_worker_turn(r.worker, now + i * ZR_US(100));
        CHECK_EQ(stat_of(&r, ZR_STAT_tx_runs), runs);
    }
    CHECK_EQ(stat_of(&r, ZR_STAT_media_accepted), 8);
    (void)zr_worker_turn(r.worker, now + ZR_MS(1));
    CHECK_EQ(stat_of(&r, ZR_STAT_tx_runs), runs + 1);
    CHECK_EQ(stat_of(&r, ZR_STAT_tx_sent), 8);
    CHECK_EQ(stat_of(&r, ZR_STAT_holds), 1);
    for (uint16_t i = 8; i < 72; i++) /* a full run does not wait */
        publish(&r, i, 100);
    zr_worker_rest(r.worker, ZR_NEVER - 1, 0);
    (void)zr_worker_turn(r.worker, now + ZR_MS(2));
    CHECK_EQ(stat_of(&r, ZR_STAT_tx_sent), 72);
    close(player);
    rig_close(&r);
}

ZR_TEST(what_the_kernel_dropped_and_granted_is_told_and_each_packet_is_timed)
{
    rig r = rig_open();
    int player = zr_udp_open(&loopback, 0, 0, 0);
    zr_addr to = bound(player), link = bound(r.conf.fds.link);
    struct sockaddr_storage at;
    socklen_t len = zr_udp_to_sockaddr(&at, &link, 4);
    static uint8_t junk[60000];
    uint64_t timed = 0, sent = 0;

    open_stream(&r, &to);
    for (uint16_t i = 0; i < 10; i++)
        publish(&r, i, 100);
    turns(&r);
    for (uint32_t i = 0; i < ZR_HIST_BUCKETS; i++)
        timed += atomic_load(&r.page->hist[ZR_HIST_forward_us][i]);
    CHECK_EQ(timed, 10);
    for (int i = 0; i < 100; i++) /* more than its receive buffer holds */
        sent += sendto(r.client, junk, sizeof junk, 0, (struct sockaddr *)&at, len) > 0;
    CHECK_EQ(sent, 100);
    (void)zr_worker_turn(r.worker, zr_clock_now() + ZR_MS(200));
    turns(&r);
    CHECK(stat_of(&r, ZR_STAT_rx_lost_link) > 0);
    CHECK_EQ(stat_of(&r, ZR_STAT_rx_lost_link) + stat_of(&r, ZR_STAT_rx_link), 100);
    CHECK(stat_of(&r, ZR_STAT_link_rcvbuf) > 0);
    CHECK(stat_of(&r, ZR_STAT_egress_sndbuf) > 0);
    CHECK_EQ(stat_of(&r, ZR_STAT_rx_copied_bytes), 10 * 112);
    close(player);
    rig_close(&r);
}

ZR_TEST(nonsense_on_a_workers_socket_is_counted_once_and_forwarding_goes_on)
{
    rig r = rig_open();
    uint64_t word = 0;

    CHECK_EQ(send(r.supervisor, &word, sizeof word, 0), 8);
    turns(&r);
    CHECK_EQ(r.page->stat[ZR_STAT_fdpass_refused], 1);
    CHECK_EQ(send(r.supervisor, &word, sizeof word, MSG_NOSIGNAL), -1);
    post(&r, (zr_cmd){ .op = ZR_CMD_nop });
    turns(&r);
    CHECK_EQ(r.page->stat[ZR_STAT_commands], 1);
    rig_close(&r);
}

ZR_TEST(a_subscriber_whose_port_is_closed_costs_the_others_nothing_and_its_errors_do_not_pile_up)
{
    rig r = rig_open();
    int player = zr_udp_open(&loopback, 0, 0, 0), closed = zr_udp_open(&loopback, 0, 0, 0);
    zr_addr to = bound(player), nobody = bound(closed);
    uint8_t got[2000];

    close(closed);
    open_stream(&r, &nobody);
    post(&r, (zr_cmd){ .op = ZR_CMD_sub_add, .a = 1, .b = 0, .c = 1, .d = 255 | 255 << 8, .addr = to });
    turns(&r);
    for (uint16_t i = 0; i < 40; i++) {
        publish(&r, i, 100);
        turns(&r);
        CHECK_EQ(recv(player, got, sizeof got, MSG_DONTWAIT), 112);
    }
    CHECK_EQ(stat_of(&r, ZR_STAT_tx_sent), 80);
    CHECK(stat_of(&r, ZR_STAT_tx_hints) > 0);
    for (int i = 0; i < 3; i++) /* what is left is taken in a few looks, then there is nothing */
        turns(&r);
    CHECK_EQ(zr_udp_drop_errors(r.conf.fds.egress, &zr_udp_libc), 0);
    close(player);
    rig_close(&r);
}
