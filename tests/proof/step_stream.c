/* stepper: a stream's row in the counter page. Its successor goes on from (epoch, next_number), the agent asks a new
 * parent to go on from (epoch, resume_number): an epoch with another one's number loses media or gives numbers twice.
 */
#include "stepper.h"

#include <string.h>

#include "forward/zr_item.h"
#include "forward/zr_stream.h"

#define OLD     7u /* epochs */
#define NEW     8u
#define REACHED 1000u /* the old epoch's next number */
#define HOLE    990u  /* and the first that it lacks */
#define START   5u    /* the new epoch's first */
#define JUMP    65536u
#define NOW     ZR_SEC(100)

static zr_stream stream;
static zr_stream_row *at;

static uint64_t epoch_now(void)
{
    return atomic_load(&at->epoch);
}
static uint64_t next_now(void)
{
    return atomic_load(&at->next_number);
}
static uint64_t resume_now(void)
{
    return atomic_load(&at->resume_number);
}

/* One packet as a forwarder takes it. */
static void take(zr_stream *from, uint32_t number)
{
    zr_item item = { .media = { .number = number }, .slice = { .len = 100 } };

    (void)zr_stream_mark(from, number);
    zr_stream_count(from, &item, NOW);
}

/* A pulled stream in its old epoch that has come as far as REACHED, without HOLE. */
static void open_row(void)
{
    memset(shared, 0, shared_bytes);
    memset(&stream, 0, sizeof stream);
    at = (void *)shared;
    zr_stream_init(&stream, 0, at);
    zr_stream_open(&stream, false, OLD, HOLE - 1);
    for (uint32_t number = HOLE - 1; number < REACHED; number++)
        if (number != HOLE)
            take(&stream, number);
}

/* Whoever opens it next goes on from what stands there; nothing of a half-made row stays. */
static bool goes_on(void)
{
    uint64_t epoch = epoch_now();
    uint32_t from = (uint32_t)next_now();
    zr_stream next;

    memset(&next, 0, sizeof next);
    zr_stream_init(&next, 0, at);
    zr_stream_open(&next, false, epoch, from);
    take(&next, from);
    return epoch_now() == epoch && next_now() == from + 1 && resume_now() == from + 1 && atomic_load(&at->state) == 1 &&
           atomic_load(&at->packets) == 1 && atomic_load(&at->bytes) == 100;
}

/* From the old epoch to the new one: whoever sees the new one sees where it begins. */
static bool after_epoch(bool returned)
{
    uint64_t epoch = epoch_now(), next = next_now(), resume = resume_now();

    if (epoch != NEW && (epoch != OLD || returned))
        return false;
    if ((next != START && (epoch == NEW || next != REACHED)) || (resume != START && (epoch == NEW || resume != HOLE)))
        return false;
    return goes_on();
}
static void act_restart(void)
{
    zr_stream_restart(&stream, false, NEW, START);
}
static void before_open(void)
{
    open_row();
    zr_stream_close(&stream);
}
static void act_open(void)
{
    zr_stream_open(&stream, true, NEW, START);
}
/* The same stores with the epoch first. */
static void act_epoch_early(void)
{
    atomic_store_explicit(&at->epoch, NEW, memory_order_relaxed);
    atomic_store_explicit(&at->next_number, START, memory_order_relaxed);
    atomic_store_explicit(&at->resume_number, START, memory_order_relaxed);
}

/* A successor opens a local stream over the row of the one before, and dies: the numbers never go back. */
static void before_reopen(void)
{
    open_row();
    memset(&stream, 0, sizeof stream);
    zr_stream_init(&stream, 0, at);
}
static void act_reopen(void)
{
    zr_stream_open(&stream, true, OLD, REACHED + JUMP);
}
static bool after_reopen(bool returned)
{
    uint64_t next = next_now(), resume = resume_now();

    if (epoch_now() != OLD || (next != REACHED + JUMP && (returned || next != REACHED)))
        return false;
    return (resume == REACHED + JUMP || (resume == HOLE && !returned)) && resume <= next && goes_on();
}

/* A packet more. */
static void act_count(void)
{
    take(&stream, REACHED);
}
static bool after_count(bool returned)
{
    uint64_t packets = atomic_load(&at->packets), bytes = atomic_load(&at->bytes), last = REACHED - HOLE;

    if (epoch_now() != OLD || (next_now() != REACHED && next_now() != REACHED + 1) || resume_now() != HOLE)
        return false;
    if (packets < last || packets > last + 1 || (bytes != packets * 100 && bytes != packets * 100 - 100))
        return false;
    if (returned && (next_now() != REACHED + 1 || packets != last + 1 || bytes != packets * 100))
        return false;
    return atomic_load(&at->state) == 1 && goes_on();
}

/* Closed: its numbers stay for whoever asks how far it got. */
static void act_close(void)
{
    zr_stream_close(&stream);
}
static bool after_close(bool returned)
{
    uint64_t state = atomic_load(&at->state);

    return (state == 0 || (state == 1 && !returned)) && epoch_now() == OLD && next_now() == REACHED &&
           resume_now() == HOLE && goes_on();
}

const row stream_rows[] = {
    { "stream_open", before_open, act_open, after_epoch, AT_STORES },
    { "stream_reopen", before_reopen, act_reopen, after_reopen, AT_STORES },
    { "stream_restart", open_row, act_restart, after_epoch, AT_EVERY },
    { "stream_count", open_row, act_count, after_count, AT_EVERY },
    { "stream_close", open_row, act_close, after_close, AT_EVERY },
    { "planted_epoch_before_number", open_row, act_epoch_early, after_epoch, AT_EVERY },
    { NULL, NULL, NULL, NULL, AT_EVERY },
};
