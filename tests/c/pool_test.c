#include "mem/zr_pool.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/zr_err.h"
#include "zr_test.h"

#define PKTS 3u

static void *open_pool(zr_pool *pool)
{
    void *memory = zr_test_memory(zr_pool_bytes(PKTS));

    CHECK_EQ(zr_pool_init(pool, memory, PKTS), ZR_OK);
    return memory;
}

ZR_TEST(a_pool_refuses_no_packets_and_memory_off_the_cache_line)
{
    zr_pool pool;
    char *memory = zr_test_memory(zr_pool_bytes(2));

    CHECK_EQ(zr_pool_init(&pool, memory, 0), ZR_E_inval);
    CHECK_EQ(zr_pool_init(&pool, memory + 8, 1), ZR_E_inval);
    free(memory);
}

ZR_TEST(a_taken_packet_has_one_reference_head_room_and_no_bytes)
{
    zr_pool pool;
    void *memory = open_pool(&pool);
    zr_pkt *pkt = zr_pool_take(&pool);

    CHECK_EQ(pkt->refs, 1);
    CHECK_EQ(pkt->off, ZR_PKT_HEAD);
    CHECK_EQ(pkt->len, 0);
    CHECK_EQ((uintptr_t)pkt->buf % ZR_CACHELINE, 0);
    pkt->off = 7;
    pkt->len = 9;
    zr_pkt_drop(pkt);
    CHECK(zr_pool_take(&pool) == pkt);
    CHECK_EQ(pkt->off, ZR_PKT_HEAD);
    CHECK_EQ(pkt->len, 0);
    free(memory);
}

ZR_TEST(an_empty_pool_refuses_and_counts_until_a_packet_comes_back)
{
    zr_pool pool;
    void *memory = open_pool(&pool);
    zr_pkt *pkts[PKTS];

    for (uint32_t i = 0; i < PKTS; i++) {
        pkts[i] = zr_pool_take(&pool);
        CHECK(pkts[i] != NULL);
        memset(pkts[i]->buf, (int)i + 1, ZR_PKT_BYTES);
    }
    CHECK(zr_pool_take(&pool) == NULL);
    CHECK(zr_pool_copy(&pool, "x", 1) == NULL);
    CHECK_EQ(pool.exhausted, 2);
    CHECK_EQ(pool.in_use, PKTS);
    CHECK(zr_pool_check(&pool));
    for (uint32_t i = 0; i < PKTS; i++) { /* no two buffers overlap */
        CHECK_EQ(pkts[i]->buf[0], i + 1);
        CHECK_EQ(pkts[i]->buf[ZR_PKT_BYTES - 1], i + 1);
        zr_pkt_drop(pkts[i]);
    }
    CHECK_EQ(pool.in_use, 0);
    CHECK_EQ(pool.in_use_max, PKTS);
    CHECK(zr_pool_take(&pool) != NULL);
    CHECK(zr_pool_check(&pool));
    free(memory);
}

ZR_TEST(a_packet_goes_back_with_its_last_reference)
{
    zr_pool pool;
    void *memory = open_pool(&pool);
    zr_pkt *pkt = zr_pool_take(&pool);

    zr_pkt_hold(pkt);
    zr_pkt_drop(pkt);
    CHECK_EQ(pool.in_use, 1);
    zr_pkt_drop(pkt);
    CHECK_EQ(pool.in_use, 0);
    zr_pkt_drop(NULL);
    CHECK(zr_pool_check(&pool));
    free(memory);
}

ZR_TEST(a_copy_takes_up_to_the_whole_room_and_not_a_byte_more)
{
    zr_pool pool;
    void *memory = open_pool(&pool);
    uint8_t data[ZR_PKT_ROOM + 1];

    memset(data, 0xA5, sizeof data);
    zr_pkt *pkt = zr_pool_copy(&pool, data, ZR_PKT_ROOM);
    CHECK(pkt != NULL);
    CHECK_EQ(pkt->len, ZR_PKT_ROOM);
    CHECK(memcmp(zr_pkt_data(pkt), data, ZR_PKT_ROOM) == 0);
    CHECK(zr_pool_copy(&pool, data, ZR_PKT_ROOM + 1) == NULL);
    CHECK_EQ(pool.exhausted, 0); /* too long is no shortage */
    pkt = zr_pool_copy(&pool, NULL, 0);
    CHECK_EQ(pkt->len, 0);
    free(memory);
}

/* The signal that `act` dies of on a packet that is back in the pool, 0 when it lives. */
static int dies_of(void (*act)(zr_pkt *))
{
    zr_pool pool;
    void *memory = open_pool(&pool);
    zr_pkt *pkt = zr_pool_take(&pool);
    int status;

    zr_pkt_drop(pkt);
    pid_t child = fork();
    if (child == 0) {
        if (freopen("/dev/null", "w", stderr) == NULL)
            _exit(1);
        act(pkt);
        _exit(0);
    }
    CHECK(waitpid(child, &status, 0) == child);
    free(memory);
    return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

ZR_TEST(dropping_or_holding_what_is_back_in_the_pool_aborts)
{
    CHECK_EQ(dies_of(zr_pkt_drop), SIGABRT);
    CHECK_EQ(dies_of(zr_pkt_hold), SIGABRT);
}

static void count_wrong(zr_pool *pool)
{
    pool->in_use++;
}
static void list_cyclic(zr_pool *pool)
{
    pool->pkts[pool->free_head].next = pool->free_head;
}
static void list_short(zr_pool *pool)
{
    pool->pkts[pool->free_head].next = UINT32_MAX;
}
static void list_beyond(zr_pool *pool)
{
    pool->pkts[pool->free_head].next = PKTS;
}
static void used_in_list(zr_pool *pool)
{
    pool->pkts[pool->free_head].refs = 1;
}
static void view_beyond(zr_pool *pool)
{
    pool->pkts[0].len = ZR_PKT_BYTES;
}
static void buffer_moved(zr_pool *pool)
{
    pool->pkts[1].buf++;
}
static void owner_lost(zr_pool *pool)
{
    pool->pkts[1].pool = NULL;
}

static void (*const damages[])(zr_pool *) = { count_wrong,  list_cyclic, list_short,   list_beyond,
                                              used_in_list, view_beyond, buffer_moved, owner_lost };

ZR_TEST(the_pool_check_sees_every_kind_of_damage)
{
    for (size_t i = 0; i < ZR_LEN(damages); i++) {
        zr_pool pool;
        void *memory = open_pool(&pool);

        CHECK(zr_pool_take(&pool) != NULL);
        CHECK(zr_pool_check(&pool));
        damages[i](&pool);
        CHECK(!zr_pool_check(&pool));
        free(memory);
    }
}
