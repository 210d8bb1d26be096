/*
 * explore.h - tries every interleaving of a few threads, and for every load every value that C11 lets it return.
 *
 * The memory is the one of C11's release/acquire fragment, told as an operation (Kang and others 2017, without
 * promises; Lahav and others 2016): a word has a history of stores; a thread has a view, for each word the oldest store
 * it may still read; a load reads any store from there on; a release store carries its thread's view along and an
 * acquire load takes it over; fences do both for what was loaded before, or is stored after. An exchange reads the last
 * store and goes on with its release sequence. So a store that others do not see yet (a store buffer, whatever the
 * order in which it drains: TSO and PSO) and a load that was done too early are both among what is tried. Ordinary
 * memory (xp_read, xp_write) must be ordered by views, or it is a race.
 *
 * Not tried: a load that returns a store of the future (no hardware of ours does that across a dependency), a store
 * that slips in between two older ones of another thread to the same word, and an order over all seq_cst operations:
 * they count as acquire and release, which can only show more.
 *
 * The threads' code is run again from the start for every execution; a state that was seen before ends it. A thread's
 * state is what it has read, since all else follows from that.
 */
#ifndef ZR_EXPLORE_H
#define ZR_EXPLORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define XP_THREADS 2

typedef struct xp_scenario {
    const char *name;
    void (*open)(void);                /* before every execution: memory as new; xp_word for what is shared */
    void (*threads[XP_THREADS])(void); /* may call xp_fail */
    void (*close)(void);               /* after an execution in which every thread came to its end */
    int steps_max;                     /* of one thread; an execution that needs more is cut, and counted */
} xp_scenario;

typedef struct xp_result {
    uint64_t executions, states, cut;
    const char *failure; /* NULL: none */
    char path[512];      /* the failing execution: one letter a step */
} xp_result;

/* The word at `at` matters; it holds its current value. */
void xp_word(volatile void *at, size_t bytes);
/* Ordinary memory, 64 bits at `at`: a race is a failure. */
void xp_write(uint64_t *at, uint64_t value);
uint64_t xp_read(uint64_t *at);
/* An eventfd: as the kernel does it, every write is seen by every read after it. */
void xp_eventfd_write(int which);
void xp_eventfd_read(int which); /* blocks until there was a write */
void xp_fail(const char *why);

xp_result xp_explore(const xp_scenario *scenario, uint64_t executions_max);

#endif
