/* The journal and the counter page, written over at random: refused, or read within their bounds and never believed
 * further than that. Both end at a page without access. ZR_FULL=1: ten times as long. */
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include "forward/zr_journal.h"
#include "hostile_rig.h"
#include "sim/zr_rng.h"
#include "stat/zr_stat.h"

#define STREAMS 4u
#define INGRESS 4u
#define SUBS    4u
#define FROM    5000u /* port of all that is noted */

static uint32_t some_value(zr_rng *rng)
{
    uint64_t random = zr_rng_next(rng);
    return (uint32_t)(random >> 32) % (random % 2 == 0 ? 32u : UINT32_MAX);
}

/* Half of the writes go to the first `head` bytes. */
static void scribble(unsigned char *at, size_t head, size_t bytes, zr_rng *rng)
{
    size_t within = zr_rng_next(rng) % 2 == 0 ? head : bytes;
    put32(at + zr_rng_next(rng) % (within / 4) * 4, some_value(rng));
}

static void tell(zr_journal *j)
{
    zr_addr from = { .ip = { 127, 0, 0, 1 }, .family = 4, .port = FROM };

    for (uint32_t i = 0; i < STREAMS; i++) {
        zr_journal_note(j, &(zr_cmd){ .op = ZR_CMD_stream_open, .a = i, .b = 1, .x = 1 });
        zr_journal_note(j, &(zr_cmd){ .op = ZR_CMD_stream_track, .a = i, .b = 15, .d = 48000 });
        zr_journal_note(j, &(zr_cmd){ .op = ZR_CMD_ingress_bind, .a = i, .b = i });
        zr_journal_note(j, &(zr_cmd){ .op = ZR_CMD_ingress_source, .a = i, .addr = from });
        zr_journal_note(j, &(zr_cmd){ .op = ZR_CMD_sub_add, .a = i, .b = i, .c = 1, .addr = from });
        zr_journal_note(j, &(zr_cmd){ .op = ZR_CMD_sub_addr, .a = i, .b = 15, .addr = from });
    }
}

/* What a place can hold by chance has no right checksum: a command is one that was told. */
static bool told(const zr_cmd *cmd)
{
    switch (cmd->op) {
    case ZR_CMD_stream_open:
        return cmd->a < STREAMS && cmd->b == 1 && cmd->x == 1;
    case ZR_CMD_stream_track:
        return cmd->a < STREAMS && cmd->b == 15 && cmd->d == 48000;
    case ZR_CMD_ingress_bind:
        return cmd->a < INGRESS && cmd->b < STREAMS;
    case ZR_CMD_ingress_source:
        return cmd->a < INGRESS && cmd->addr.port == FROM;
    case ZR_CMD_sub_add:
    case ZR_CMD_sub_addr:
        return cmd->a < SUBS && cmd->addr.port == FROM;
    default:
        return false;
    }
}

ZR_TEST(a_journal_written_over_at_random_is_refused_or_gives_commands_that_were_told)
{
    int rounds = getenv("ZR_FULL") != NULL ? 1000000 : 20000, refused = 0;
    region r = region_open(zr_journal_bytes(STREAMS, INGRESS, SUBS));
    zr_journal *j = r.at;
    uint64_t commands = 0, passed_over = 0;
    zr_rng rng;

    zr_rng_seed(&rng, 6);
    for (int round = 0; round < rounds; round++) {
        memset(j, 0, r.bytes);
        CHECK_EQ(zr_journal_init(j, STREAMS, INGRESS, SUBS), ZR_OK);
        tell(j);
        for (int i = 0; i < 10; i++)
            scribble(r.at, i < 2 ? sizeof *j : r.bytes, r.bytes, &rng);
        j->refused = 0;
        if (round % 2 == 0) /* its redo record is in force, whatever it names */
            j->redo_sum = zr_journal_redo_sum(j);
        int rc = zr_journal_attach(j, r.bytes), count = 0;
        CHECK(rc == ZR_OK || rc == ZR_E_version);
        refused += rc != ZR_OK;
        if (rc != ZR_OK)
            continue;
        zr_journal_cursor cursor = { 0 };
        for (zr_cmd cmd; zr_journal_next(j, &cursor, &cmd) == ZR_OK; count++)
            CHECK(told(&cmd));
        CHECK(count <= (int)(6 * STREAMS));
        commands += (uint64_t)count;
        passed_over += j->refused;
        tell(j); /* and it is written on */
        CHECK_EQ(zr_journal_attach(j, r.bytes), ZR_OK);
    }
    CHECK(refused > rounds / 10 && refused < rounds * 9 / 10);
    CHECK(commands > (uint64_t)rounds && passed_over > (uint64_t)rounds / 10);
    region_close(&r);
}

ZR_TEST(a_counter_page_written_over_at_random_is_refused_or_read_within_its_bounds)
{
    uint32_t writes = getenv("ZR_FULL") != NULL ? 1000000 : 100000;
    region r = region_open(zr_stat_bytes(STREAMS));
    zr_stat_page *page = r.at;
    static zr_stat_counts counts;
    uint64_t looks = 0, right = 0;
    int status;

    CHECK_EQ(zr_stat_init(page, STREAMS), ZR_OK);
    pid_t mad = fork();
    if (mad == 0) {
        zr_rng rng;
        zr_rng_seed(&rng, 7);
        for (uint32_t i = 0; i < writes; i++) {
            scribble(r.at, i % 64 == 0 ? 64 : r.bytes, r.bytes, &rng);
            put32(&page->turn, some_value(&rng));
            if (i % 16 == 0)
                sched_yield();
            if (i % 256 == 0) /* or nothing but the first look would be tried */
                (void)zr_stat_init(page, STREAMS);
        }
        _exit(0);
    }
    CHECK(mad > 0);
    for (; waitpid(mad, &status, WNOHANG) == 0; looks++) {
        int rc = looks % 2 == 0 ? zr_stat_look(page, r.bytes) : zr_stat_attach(page, r.bytes);
        CHECK(rc == ZR_OK || rc == ZR_E_version);
        right += rc == ZR_OK;
        (void)zr_stat_snapshot(page, &counts);
        for (int ledger = 0; ledger < ZR_LEDGER_COUNT; ledger++)
            (void)zr_counts_off(&counts, (enum zr_ledger)ledger);
        zr_stat_turn_begin(page);
        zr_stat_add(page, ZR_STAT_rx_media, 1);
        zr_hist_add(page, ZR_HIST_turn_ns, looks);
        zr_stat_turn_end(page);
    }
    CHECK(WIFEXITED(status));
    CHECK(looks > 10 && right > 0 && right < looks);
    region_close(&r);
}
