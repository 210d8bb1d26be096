/* stepper: rings, channels and inboxes. */
#include "stepper.h"

#include <string.h>

#include "base/zr_err.h"
#include "ring/zr_chan.h"
#include "ring/zr_inbox.h"

#define SLOTS 4u
#define WORDS 8

typedef struct record {
    uint64_t words[WORDS]; /* all the same: a torn record shows */
} record;

static zr_spsc ring;
static zr_chan chan;
static uint32_t pushed; /* committed before the child began */

size_t ring_rows_bytes(void)
{
    return ZR_MAX(zr_chan_bytes(SLOTS, sizeof(record)), zr_inbox_bytes(1, SLOTS, sizeof(record)));
}

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

/* The channel is laid out while somebody may attach: nobody takes it before it is whole. Over an old one, whose worker
 * is dead, with the second and third of three commands in it, it is the old one, refused, or empty. */
static void before_init(void)
{
    memset(shared, 0, shared_bytes);
}
static void before_init_again(void)
{
    open_chan();
    for (uint64_t number = 1; number <= 3; number++)
        push(zr_chan_commands(&chan), number);
    zr_spsc_release(zr_chan_commands(&chan));
    push(zr_chan_events(&chan), 9);
    zr_chan_sleep(chan.worker_asleep);
}
static void act_init(void)
{
    (void)zr_chan_init(&chan, (void *)shared, SLOTS, sizeof(record));
}
static bool after_init_with(bool again, bool returned)
{
    size_t bytes = zr_chan_bytes(SLOTS, sizeof(record));
    zr_chan next;
    int rc = zr_chan_look(&next, (void *)shared, bytes, sizeof(record));

    if (rc != ZR_OK && (returned || rc != ZR_E_version))
        return false;
    if (rc == ZR_OK) {
        int commands = drain(zr_chan_commands(&next), 2), events = drain(zr_chan_events(&next), 9);
        if (commands != 0 && (returned || !again || commands != 2))
            return false;
        if ((events != 0 && (returned || !again || events != 1)) || atomic_load(next.worker_asleep) > again)
            return false;
    }
    /* Whoever comes next lays it out again. */
    act_init();
    if (zr_chan_attach(&next, (void *)shared, bytes, sizeof(record)) != ZR_OK || chan.mem->generation != 1)
        return false;
    push(zr_chan_commands(&chan), 1);
    return drain(zr_chan_commands(&next), 1) == 1 && drain(zr_chan_events(&chan), 1) == 0 &&
           atomic_load(chan.worker_asleep) == 0;
}
static bool after_init(bool returned)
{
    return after_init_with(false, returned);
}
static bool after_init_again(bool returned)
{
    return after_init_with(true, returned);
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

/* An end begins. The writer's writes nothing; the reader's, when the counters cannot be true, gives up what stands
 * there and tells the writer so. Either way the next end of the two finds a ring that works. */
static void before_reader(void)
{
    open_box();
    atomic_store(&reader.ring->head, 1000);
}
static void act_reader(void)
{
    (void)zr_inbox_reader(&reader, &box, 0);
}
static void act_writer(void)
{
    (void)zr_inbox_writer(&writer, &box, 0);
}
static bool after_reader(bool returned)
{
    zr_inbox_end next;
    uint32_t head = atomic_load(&reader.ring->head), room = 0;

    if ((head != 1000 && head != 2) || (returned && head != 2))
        return false;
    if (zr_inbox_reader(&next, &box, 0) != (head == 2 ? ZR_OK : ZR_E_version) || zr_inbox_waiting(&next) != 0)
        return false;
    for (; zr_inbox_claim(&writer) != NULL && room <= SLOTS; room++) /* the survivor's */
        box_push(&writer, 3 + room);
    return room == SLOTS && box_drain(&next, 3) == (int)SLOTS;
}
static bool after_writer(bool returned)
{
    zr_inbox_end next;

    (void)returned;
    if (atomic_load(&writer.ring->tail) != 2 || zr_inbox_writer(&next, &box, 0) != ZR_OK)
        return false;
    box_push(&next, 3);
    return box_drain(&reader, 1) == 3;
}

const row ring_rows[] = {
    { "spsc_claim_fill_commit", before_push, act_push, after_push, AT_EVERY },
    { "spsc_peek_release", before_pop, act_pop, after_pop, AT_EVERY },
    { "chan_init", before_init, act_init, after_init, AT_EVERY },
    { "chan_init_again", before_init_again, act_init, after_init_again, AT_EVERY },
    { "chan_attach", open_chan, act_attach, after_attach, AT_EVERY },
    { "chan_sleep_awake", open_chan, act_sleep, after_sleep, AT_EVERY },
    { "chan_commit_wake", before_wake, act_wake, after_wake, AT_EVERY },
    { "inbox_claim_fill_commit", open_box, act_box_push, after_box_push, AT_EVERY },
    { "inbox_peek_release", open_box, act_box_pop, after_box_pop, AT_EVERY },
    { "inbox_mend", open_box, act_box_mend, after_box_mend, AT_EVERY },
    { "inbox_reader", before_reader, act_reader, after_reader, AT_EVERY },
    { "inbox_writer", open_box, act_writer, after_writer, AT_EVERY },
    { "planted_publish_before_write", before_push, act_push_early, after_push, AT_EVERY },
    { "planted_release_twice", before_pop, act_pop_twice, after_pop, AT_EVERY },
    { NULL, NULL, NULL, NULL, AT_EVERY },
};
