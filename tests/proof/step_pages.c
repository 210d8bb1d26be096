/* stepper: the counter page, the journal, a life's word, a region. */
#include "stepper.h"

#include <linux/futex.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "forward/zr_journal.h"
#include "mem/zr_life.h"
#include "mem/zr_shm.h"
#include "stat/zr_stat.h"

#define STREAMS 2u

size_t page_rows_bytes(void)
{
    return ZR_MAX(zr_stat_bytes(STREAMS), zr_journal_bytes(2, 2, 2));
}

/* The counter page: its writer dies within a turn. */
static zr_stat_page *page;
static void open_page(void)
{
    memset(shared, 0, shared_bytes);
    page = (void *)shared;
    (void)zr_stat_init(page, STREAMS);
    (void)zr_stat_attach(page, zr_stat_bytes(STREAMS));
}
static void act_turn(void)
{
    zr_stat_turn_begin(page);
    zr_stat_add(page, ZR_STAT_rx_media, 1);
    zr_stat_add(page, ZR_STAT_media_accepted, 1);
    zr_stat_max(page, ZR_STAT_turn_ns_max, 7);
    zr_hist_add(page, ZR_HIST_turn_ns, 1000);
    zr_stat_turn_end(page);
}
/* A reader is told that the numbers are of one moment, and they are; the successor's turns count on. */
static bool after_turn(bool returned)
{
    static zr_stat_counts counts;
    bool whole = zr_stat_snapshot(page, &counts);
    uint64_t in = counts.stat[ZR_STAT_rx_media], out = counts.stat[ZR_STAT_media_accepted];

    if ((whole && in != out) || in > 1 || out > in || (returned && (!whole || in != 1)))
        return false;
    if (zr_stat_attach(page, zr_stat_bytes(STREAMS)) != ZR_OK)
        return false;
    act_turn();
    return zr_stat_snapshot(page, &counts) && counts.stat[ZR_STAT_rx_media] == in + 1 &&
           counts.stat[ZR_STAT_media_accepted] == out + 1;
}
/* The same without the sequence: numbers that do not belong together are told as if they did. */
static void act_turn_open(void)
{
    zr_stat_add(page, ZR_STAT_rx_media, 1);
    zr_stat_add(page, ZR_STAT_media_accepted, 1);
}

/* A successor dies while it settles what the one before it had taken: the next one counts each of these once. */
static void before_stat_attach(void)
{
    open_page();
    zr_stat_turn_begin(page);
    zr_stat_add(page, ZR_STAT_rx_media, 3);
    zr_stat_add(page, ZR_STAT_media_accepted, 1);
    zr_stat_add(page, ZR_STAT_fan_due, 5);
    zr_stat_add(page, ZR_STAT_link_accepted, 1); /* before it is counted as received */
    zr_stat_add(page, ZR_STAT_tx_due, 7);
    zr_stat_add(page, ZR_STAT_tx_sent, 2);
    zr_stat_set(page, ZR_STAT_tx_waiting, 4);
}
static void before_stat_attach_asleep(void)
{
    before_stat_attach();
    zr_stat_turn_end(page);
    (void)zr_stat_attach(page, zr_stat_bytes(STREAMS));
    zr_stat_turn_begin(page);
    zr_stat_add(page, ZR_STAT_tx_due, 4);
    zr_stat_set(page, ZR_STAT_tx_waiting, 4); /* may outlast a turn */
    zr_stat_turn_end(page);
}
static void act_stat_attach(void)
{
    (void)zr_stat_attach(page, zr_stat_bytes(STREAMS));
}
static bool balanced(const zr_stat_counts *counts)
{
    for (int ledger = 0; ledger < ZR_LEDGER_COUNT; ledger++)
        if (zr_counts_off(counts, (enum zr_ledger)ledger) != 0)
            return false;
    return true;
}
static bool settled(uint32_t lives, uint64_t again, uint64_t due, bool returned)
{
    static zr_stat_counts counts;
    const uint64_t *stat = counts.stat, *drop = counts.drop;
    uint32_t generation = page->generation;

    if (generation < lives || generation > lives + 1 || (returned && generation != lives + 1))
        return false;
    if (zr_stat_snapshot(page, &counts) ? !balanced(&counts) : returned)
        return false;
    act_stat_attach();
    if (!zr_stat_snapshot(page, &counts) || !balanced(&counts) || page->generation != generation + 1)
        return false;
    return stat[ZR_STAT_rx_media] == 3 && drop[ZR_DROP_media_died] == 2 && drop[ZR_DROP_fan_died] == 5 &&
           stat[ZR_STAT_rx_link] == 1 && stat[ZR_STAT_tx_due] == due && stat[ZR_STAT_tx_waiting] == 0 &&
           drop[ZR_DROP_tx_again] + drop[ZR_DROP_tx_died] == due - 2 && (!returned || drop[ZR_DROP_tx_again] == again);
}
static bool after_stat_attach(bool returned)
{
    return settled(1, 4, 7, returned);
}
static bool after_stat_attach_asleep(bool returned)
{
    return settled(2, 8, 11, returned);
}

/* Journal: each command in force is the old one or the new one, whole; a life is closed with all that hangs on it. */
static zr_journal *journal;
static zr_cmd sub_at(uint16_t port)
{
    return (zr_cmd){
        .op = ZR_CMD_sub_add, .a = 1, .b = 0, .c = 3, .addr = { .ip = { 127, 0, 0, 1 }, .port = port, .family = 4 }
    };
}
static void open_journal(void)
{
    zr_cmd open = { .op = ZR_CMD_stream_open, .a = 0, .b = 1, .x = 7 }, sub = sub_at(1000);

    memset(shared, 0, shared_bytes);
    journal = (void *)shared;
    (void)zr_journal_init(journal, 2, 2, 2);
    zr_journal_note(journal, &open);
    zr_journal_note(journal, &sub);
}
/* A command in place of another: always one of the two. */
static void act_replace(void)
{
    zr_cmd sub = sub_at(2000);
    zr_journal_note(journal, &sub);
}
static void act_drop(void)
{
    zr_cmd drop = { .op = ZR_CMD_sub_drop, .a = 1 };
    zr_journal_note(journal, &drop);
}
/* The stream is in force, and so many subscribers, at this port or that. */
static bool in_force(int least, int most, uint16_t port, uint16_t other)
{
    zr_journal_cursor cursor = { 0 };
    int opens = 0, subs = 0;

    if (zr_journal_attach(journal, zr_journal_bytes(2, 2, 2)) != ZR_OK)
        return false;
    for (zr_cmd cmd; zr_journal_next(journal, &cursor, &cmd) == ZR_OK;) {
        opens += cmd.op == ZR_CMD_stream_open && cmd.a == 0 && cmd.x == 7;
        if (cmd.op != ZR_CMD_sub_add)
            continue;
        subs++;
        if (cmd.a != 1 || cmd.c != 3 || (cmd.addr.port != port && cmd.addr.port != other))
            return false;
    }
    return opens == 1 && subs >= least && subs <= most && journal->refused == 0;
}
static bool after_replace(bool returned)
{
    return in_force(1, 1, 2000, returned ? 2000 : 1000);
}
static bool after_drop(bool returned)
{
    return in_force(0, !returned, 1000, 1000);
}
/* The one before died with half of a place written: a successor that dies on its way makes it no worse. */
static void before_journal_attach(void)
{
    open_journal();
    act_replace();
    memset(&journal->places[journal->redo_at], 0xEE, sizeof(zr_cmd) / 2);
    journal->redo_sum = zr_journal_redo_sum(journal);
}
static void act_journal_attach(void)
{
    (void)zr_journal_attach(journal, zr_journal_bytes(2, 2, 2));
}
static bool after_journal_attach(bool returned)
{
    return (!returned || journal->redo_sum == 0) && in_force(1, 1, 2000, 2000);
}

/* A life begins in the word of one that has ended. Killed before the kernel knows of it, it is heard of by its pidfd;
 * from then on by the word; and the word of a living one never says that it ended. */
static _Atomic uint32_t *life;
static void before_life(void)
{
    memset(shared, 0, shared_bytes);
    life = (void *)shared;
    atomic_store(life, FUTEX_OWNER_DIED | FUTEX_WAITERS);
}
static void act_life(void)
{
    (void)zr_life_begin(life);
}
static bool after_life(bool returned)
{
    uint32_t word = atomic_load(life);
    int status;

    if (word != (FUTEX_OWNER_DIED | FUTEX_WAITERS) &&
        (returned || (word & FUTEX_OWNER_DIED) != 0 || (word & FUTEX_WAITERS) == 0))
        return false;
    pid_t next = fork();
    if (next == 0) {
        act_life();
        _exit(zr_life_ends(life));
    }
    return next > 0 && waitpid(next, &status, 0) == next && status == 0 && zr_life_ends(life);
}

/* A region: mapped, attached to, let go. Nothing stays behind in it. */
static int region_fd = -1;
static void open_region(void)
{
    if (region_fd < 0)
        region_fd = zr_shm_open("stepper", 4096);
}
static void act_region(void)
{
    void *at;
    if (zr_shm_map(region_fd, 4096, &at) == ZR_OK)
        zr_shm_unmap(at, 4096);
}
static bool after_region(bool returned)
{
    void *at;
    (void)returned;
    if (zr_shm_map(region_fd, 4096, &at) != ZR_OK)
        return false;
    zr_shm_unmap(at, 4096);
    return true;
}

const row page_rows[] = {
    { "stat_turn", open_page, act_turn, after_turn, AT_EVERY },
    { "stat_attach", before_stat_attach, act_stat_attach, after_stat_attach, AT_STORES },
    { "stat_attach_asleep", before_stat_attach_asleep, act_stat_attach, after_stat_attach_asleep, AT_STORES },
    { "journal_replace", open_journal, act_replace, after_replace, AT_EVERY },
    { "journal_drop", open_journal, act_drop, after_drop, AT_EVERY },
    { "journal_attach", before_journal_attach, act_journal_attach, after_journal_attach, AT_EVERY },
    { "life_begin", before_life, act_life, after_life, AT_EVERY },
    { "shm_map", open_region, act_region, after_region, AT_EVERY },
    { "planted_turn_without_sequence", open_page, act_turn_open, after_turn, AT_EVERY },
    { NULL, NULL, NULL, NULL, AT_EVERY },
};
