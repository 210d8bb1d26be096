/*
 * stepper.c - killed at every instruction: what another process finds in the shared memory.
 *
 * For each mutator, for k = 0, 1, 2, ...: a child performs it on memory shared with us, single-stepped by ptrace, and
 * gets SIGKILL before its instruction k + 1; then a successor attaches and the surviving side goes on. Over when a
 * child came to its end. A new mutator is a row of `table` below: `before` (in the parent, untraced), `act` (in the
 * child), `after` (in the parent: the successor's and the survivor's view; false when something is torn, lost, repeated
 * or leaked).
 *
 *     stepper          all; "NAME points=N bad=N" a row, exit status 1 when a row is not as expected, 77 without ptrace
 *
 * The rows named planted_... carry a bug and must have bad points: else the stepper sees nothing.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/zr_err.h"
#include "forward/zr_journal.h"
#include "mem/zr_shm.h"
#include "ring/zr_chan.h"
#include "ring/zr_inbox.h"
#include "stat/zr_stat.h"

#define SLOTS      4u
#define POINTS_MAX 20000
#define WORDS      8
#define STREAMS    2u

typedef struct record {
    uint64_t words[WORDS]; /* all the same: a torn record shows */
} record;

static unsigned char *shared; /* the region of the two processes */
static size_t shared_bytes;
static uint64_t *ended; /* the child's last word: its mutator returned */
static zr_spsc ring;
static zr_chan chan;
static uint32_t pushed; /* committed before the child began */
static int region_fd = -1;

static record record_of(uint64_t number)
{
    record r;
    for (int i = 0; i < WORDS; i++)
        r.words[i] = number * 0x0101010101010101u;
    return r;
}

/* Without optimising the eight stores into a few wide ones: each is a place to die at. */
static void fill(void *slot, uint64_t number)
{
    volatile uint64_t *words = slot;
    record r = record_of(number);
    for (int i = 0; i < WORDS; i++)
        words[i] = r.words[i];
}

static bool is(const void *slot, uint64_t number)
{
    record r = record_of(number);
    return memcmp(slot, &r, sizeof r) == 0;
}

static void push(zr_spsc *to, uint64_t number)
{
    void *slot = zr_spsc_claim(to);
    if (slot == NULL)
        return;
    fill(slot, number);
    zr_spsc_commit(to);
}

/* All that stands in the ring, in order from `first`; how many, or -1. */
static int drain(zr_spsc *from, uint64_t first)
{
    int count = 0;
    for (const void *slot; (slot = zr_spsc_peek(from)) != NULL; zr_spsc_release(from))
        if (!is(slot, first + (uint64_t)count++))
            return -1;
    return zr_spsc_check(from) ? count : -1;
}

static bool open_ring(uint32_t full)
{
    memset(shared, 0xEE, shared_bytes); /* what was never written is not zero by chance */
    if (zr_spsc_init(&ring, (void *)shared, SLOTS, sizeof(record), UINT32_MAX - 1) != ZR_OK)
        return false;
    for (pushed = 0; pushed < full; pushed++)
        push(&ring, pushed + 1);
    return true;
}

/* Producer dies. Its record is there whole, or not at all; the successor's follows; no slot is lost. */
static void before_push(void)
{
    open_ring(2);
}
static void act_push(void)
{
    push(&ring, 3);
}
static bool after_push(bool returned)
{
    zr_spsc next, reader;
    int got;

    if (zr_spsc_attach(&reader, (void *)shared, SLOTS, sizeof(record)) != ZR_OK || (got = drain(&reader, 1)) < 2 ||
        got > 3 || (returned && got != 3))
        return false;
    if (zr_spsc_attach(&next, (void *)shared, SLOTS, sizeof(record)) != ZR_OK)
        return false;
    uint32_t room = 0;
    while (zr_spsc_claim(&next) != NULL && room <= SLOTS)
        push(&next, 50 + room++);
    return room == SLOTS && drain(&reader, 50) == (int)SLOTS;
}

/* The same with the counter moved before the record is there. */
static void act_push_early(void)
{
    void *slot = zr_spsc_claim(&ring);
    zr_spsc_commit(&ring);
    fill(slot, 3);
}

/* Consumer dies: a record is released or will be seen again; the survivor's ring has room for exactly the rest. */
static void before_pop(void)
{
    open_ring(3);
}
static void act_pop(void)
{
    volatile uint64_t sum = 0;
    const record *slot = zr_spsc_peek(&ring);
    for (int i = 0; i < WORDS; i++)
        sum += slot->words[i];
    zr_spsc_release(&ring);
}
static bool after_pop(bool returned)
{
    zr_spsc next;

    if (zr_spsc_attach(&next, (void *)shared, SLOTS, sizeof(record)) != ZR_OK)
        return false;
    uint32_t depth = zr_spsc_depth(&next), room = 0, first = 1 + 3 - depth;
    if (depth < 2 || depth > 3 || (returned && depth != 2))
        return false;
    /* Ours, the producer's end, made before the consumer died. */
    for (; zr_spsc_claim(&ring) != NULL && room <= SLOTS; room++)
        push(&ring, 4 + room);
    return room == SLOTS - depth && drain(&next, first) == (int)SLOTS;
}
/* Released first, read after: the survivor may have written over it. Seen here as a record that nobody may repeat. */
static void act_pop_twice(void)
{
    zr_spsc_release(&ring);
    zr_spsc_release(&ring);
}

/* A channel: the worker dies on its way to sleep or back, or the waker before it wrote the eventfd. */
static void open_chan(void)
{
    memset(shared, 0, shared_bytes);
    (void)zr_chan_init(&chan, (void *)shared, SLOTS, sizeof(record));
}
static void act_sleep(void)
{
    zr_chan_sleep(chan.worker_asleep);
    if (zr_spsc_peek(zr_chan_commands(&chan)) == NULL)
        zr_chan_awake(chan.worker_asleep);
}
static bool after_sleep(bool returned)
{
    zr_chan next;
    uint32_t asleep = atomic_load(chan.worker_asleep);

    (void)returned;
    if (asleep > 1 || zr_chan_attach(&next, (void *)shared, zr_chan_bytes(SLOTS, sizeof(record)), sizeof(record)) != 0)
        return false;
    /* The successor looks at its ring before it sleeps: the agent's next command is seen or wakes it. */
    push(zr_chan_commands(&chan), 1);
    bool woken = zr_chan_wake_needed(chan.worker_asleep);
    return woken == (asleep == 1) && drain(zr_chan_commands(&next), 1) == 1;
}
static void act_wake(void)
{
    push(zr_chan_commands(&chan), 1);
    if (zr_chan_wake_needed(chan.worker_asleep))
        *(volatile uint64_t *)(ended + 1) = 1; /* the eventfd */
}
static void before_wake(void)
{
    open_chan();
    ended[1] = 0;
    zr_chan_sleep(chan.worker_asleep);
}
/* The sleeper may sleep on with a record only while its waker is dead: the waker's successor wakes it with what it says
 * first. It does so without asking: what the dead one's exchange returned went with it. */
static bool after_wake(bool returned)
{
    zr_chan next;
    int got;

    if (zr_chan_look(&next, (void *)shared, zr_chan_bytes(SLOTS, sizeof(record)), sizeof(record)) != ZR_OK)
        return false;
    got = drain(zr_chan_commands(&next), 1);
    return got >= 0 && got <= 1 && (!returned || (got == 1 && ended[1] == 1));
}
static void act_attach(void)
{
    zr_chan next;
    (void)zr_chan_attach(&next, (void *)shared, zr_chan_bytes(SLOTS, sizeof(record)), sizeof(record));
}
static bool after_attach(bool returned)
{
    zr_chan next;
    uint32_t generation = chan.mem->generation;

    return zr_chan_attach(&next, (void *)shared, zr_chan_bytes(SLOTS, sizeof(record)), sizeof(record)) == ZR_OK &&
           generation <= 1 && (!returned || generation == 1);
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

/* Inbox: as the ring, with ends of its own; `mend` gives up what stands there, whole or not at all. */
static zr_inbox box;
static zr_inbox_end writer, reader;
static void box_push(zr_inbox_end *to, uint64_t number)
{
    void *slot = zr_inbox_claim(to);
    if (slot == NULL)
        return;
    fill(slot, number);
    zr_inbox_commit(to);
}
static int box_drain(zr_inbox_end *from, uint64_t first)
{
    int count = 0;
    for (const void *slot; (slot = zr_inbox_peek(from)) != NULL; zr_inbox_release(from))
        if (!is(slot, first + (uint64_t)count++))
            return -1;
    return from->corrupt ? -1 : count;
}
static void open_box(void)
{
    memset(shared, 0, shared_bytes);
    (void)zr_inbox_init((void *)shared, 1, SLOTS, sizeof(record));
    (void)zr_inbox_look(&box, (void *)shared, zr_inbox_bytes(1, SLOTS, sizeof(record)));
    (void)zr_inbox_writer(&writer, &box, 0);
    (void)zr_inbox_reader(&reader, &box, 0);
    box_push(&writer, 1);
    box_push(&writer, 2);
}
static void act_box_push(void)
{
    box_push(&writer, 3);
}
static bool after_box_push(bool returned)
{
    zr_inbox_end next;
    int got = box_drain(&reader, 1), room = 0;

    if (got < 2 || got > 3 || (returned && got != 3) || zr_inbox_writer(&next, &box, 0) != ZR_OK)
        return false;
    for (; zr_inbox_claim(&next) != NULL && room <= (int)SLOTS; room++)
        box_push(&next, 50 + (uint64_t)room);
    return room == (int)SLOTS && box_drain(&reader, 50) == (int)SLOTS;
}
static void act_box_pop(void)
{
    volatile uint64_t sum = 0;
    const record *slot = zr_inbox_peek(&reader);
    for (int i = 0; i < WORDS; i++)
        sum += slot->words[i];
    zr_inbox_release(&reader);
}
static void act_box_mend(void)
{
    zr_inbox_mend(&reader);
}
/* What is left stands in order, the survivor fills exactly the rest; `gone`: how many the dead one may have taken. */
static bool after_box_taken(uint32_t gone, bool returned)
{
    zr_inbox_end next;
    uint64_t number = 3;

    if (zr_inbox_reader(&next, &box, 0) != ZR_OK)
        return false;
    uint32_t depth = zr_inbox_waiting(&next);
    if ((depth != 2 && depth != 2 - gone) || (returned && depth != 2 - gone))
        return false;
    for (uint32_t room = 0; room <= SLOTS && zr_inbox_claim(&writer) != NULL; room++)
        box_push(&writer, number++);
    return number == 3 + SLOTS - depth && box_drain(&next, 3 - depth) == (int)SLOTS;
}
static bool after_box_pop(bool returned)
{
    return after_box_taken(1, returned);
}
static bool after_box_mend(bool returned)
{
    return after_box_taken(2, returned);
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
static void act_journal(void)
{
    zr_cmd drop = { .op = ZR_CMD_sub_drop, .a = 1 }, sub = sub_at(2000);

    zr_journal_note(journal, &drop);
    zr_journal_note(journal, &sub);
}
static bool after_journal(bool returned)
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
        if (cmd.a != 1 || cmd.c != 3 || (cmd.addr.port != 1000 && cmd.addr.port != 2000) ||
            (returned && cmd.addr.port != 2000))
            return false;
    }
    return opens == 1 && subs <= 1 && (!returned || subs == 1) && journal->refused == 0;
}

/* A region: mapped, attached to, let go. Nothing stays behind in it. */
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

static const struct row {
    const char *name;
    void (*before)(void), (*act)(void);
    bool (*after)(bool returned);
} table[] = {
    { "spsc_claim_fill_commit", before_push, act_push, after_push },
    { "spsc_peek_release", before_pop, act_pop, after_pop },
    { "chan_sleep_awake", open_chan, act_sleep, after_sleep },
    { "chan_commit_wake", before_wake, act_wake, after_wake },
    { "chan_attach", open_chan, act_attach, after_attach },
    { "stat_turn", open_page, act_turn, after_turn },
    { "shm_map", open_region, act_region, after_region },
    { "inbox_claim_fill_commit", open_box, act_box_push, after_box_push },
    { "inbox_peek_release", open_box, act_box_pop, after_box_pop },
    { "inbox_mend", open_box, act_box_mend, after_box_mend },
    { "journal_note", open_journal, act_journal, after_journal },
    { "planted_publish_before_write", before_push, act_push_early, after_push },
    { "planted_release_twice", before_pop, act_pop_twice, after_pop },
    { "planted_turn_without_sequence", open_page, act_turn_open, after_turn },
};

/* A child that stands right before `act`. 0: no ptrace here. */
static pid_t child_of(const struct row *row)
{
    int status;
    pid_t pid = fork();

    if (pid == 0) {
        if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0)
            _exit(77);
        raise(SIGSTOP);
        row->act();
        *(volatile uint64_t *)ended = 1;
        for (;;)
            pause();
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFSTOPPED(status))
        return 0;
    return pid;
}

/* Lets it do `steps` instructions and kills it. False when it came to an end by itself: a crash. */
static bool kill_after(pid_t pid, int steps)
{
    int status;

    for (int i = 0; i < steps && *(volatile uint64_t *)ended == 0; i++) {
        if (ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL) != 0 || waitpid(pid, &status, 0) != pid)
            return false;
        if (!WIFSTOPPED(status) || WSTOPSIG(status) != SIGTRAP) {
            fprintf(stderr, "the child stopped with status %#x at instruction %d\n", (unsigned)status, i);
            return false;
        }
    }
    kill(pid, SIGKILL);
    return waitpid(pid, &status, 0) == pid && WIFSIGNALED(status);
}

static int fds_open(void)
{
    int count = 0;
    for (int fd = 0; fd < 256; fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

int main(void)
{
    bool failed = false;
    int points_all = 0;
    size_t wanted = zr_stat_bytes(STREAMS), other = zr_chan_bytes(SLOTS, sizeof(record));

    other = ZR_MAX(other, zr_journal_bytes(2, 2, 2));
    shared_bytes = zr_round_up(wanted > other ? wanted : other, 4096);
    shared = mmap(NULL, shared_bytes + 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED)
        return 2;
    ended = (void *)(shared + shared_bytes);
    for (size_t i = 0; i < ZR_LEN(table); i++) {
        const struct row *row = &table[i];
        bool planted = strncmp(row->name, "planted_", 8) == 0, returned = false;
        int points = 0, bad = 0, open_before = 0;
        for (; !returned && points < POINTS_MAX; points++) {
            row->before();
            if (points == 0)
                open_before = fds_open();
            *ended = 0;
            pid_t pid = child_of(row);
            if (pid == 0) {
                printf("ptrace is not permitted here: the single-step kill is skipped\n");
                return 77;
            }
            if (!kill_after(pid, points))
                return 2;
            returned = *ended != 0;
            bad += !row->after(returned);
        }
        bool leaked = fds_open() != open_before;
        printf("%s points=%d bad=%d%s\n", row->name, points, bad, leaked ? " descriptors leaked" : "");
        fflush(stdout);
        points_all += points;
        failed = failed || !returned || leaked || (bad > 0) != planted;
    }
    printf("killed at %d instructions: %s\n", points_all, failed ? "NOT as expected" : "as expected");
    return failed;
}
