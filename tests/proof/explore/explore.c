#include "explore.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#define WORDS   16
#define STORES  40
#define CHOICES 256
#define STACK   65536
#define SEEN    (1u << 20)

typedef struct view {
    uint8_t at[WORDS];
} view;

typedef struct word {
    volatile void *at;
    size_t bytes;
    bool ordinary;
    int count;
    uint64_t value[STORES];
    view carries[STORES]; /* what an acquire load of that store takes over */
} word;

typedef struct thread {
    ucontext_t context;
    char *stack;
    view now, acquired, released; /* acquired: by relaxed loads, for a later fence; released: at the last fence */
    uint64_t history;             /* hash of all that it has read */
    int steps, waits_for;         /* an eventfd, or -1 */
    bool done;
} thread;

static struct {
    const xp_scenario *scenario;
    word words[WORDS];
    int word_count;
    uint64_t eventfd[2];
    view eventfd_view[2];
    thread threads[XP_THREADS];
    ucontext_t scheduler;
    int running; /* -1: outside of threads */
    bool cut, known;
    const char *failure;
    uint16_t taken[CHOICES], width[CHOICES];
    int depth, replay; /* choices made in this execution; how many of them are prescribed */
    xp_result result;
} xp;
static uint64_t *seen;

static uint64_t mix(uint64_t hash, uint64_t value)
{
    hash ^= value + 0x9E3779B97F4A7C15u + (hash << 6) + (hash >> 2);
    hash ^= hash >> 31;
    return hash * 0xD6E8FEB86659FD93u;
}

static uint64_t mix_bytes(uint64_t hash, const void *from, size_t bytes)
{
    const unsigned char *at = from;
    for (size_t i = 0; i < bytes; i++)
        hash = mix(hash, at[i]);
    return hash;
}

/* Everything the rest of an execution depends on. */
static uint64_t state(void)
{
    uint64_t hash = 1;

    for (int i = 0; i < xp.word_count; i++) {
        const word *w = &xp.words[i];
        hash = mix(hash, (uint64_t)w->count);
        for (int s = 0; s < w->count; s++)
            hash = mix_bytes(mix(hash, w->value[s]), &w->carries[s], sizeof(view));
    }
    hash = mix_bytes(hash, xp.eventfd, sizeof xp.eventfd);
    hash = mix_bytes(hash, xp.eventfd_view, sizeof xp.eventfd_view);
    for (int i = 0; i < XP_THREADS; i++) {
        const thread *t = &xp.threads[i];
        hash = mix_bytes(hash, &t->now, sizeof(view));
        hash = mix_bytes(hash, &t->acquired, sizeof(view));
        hash = mix_bytes(hash, &t->released, sizeof(view));
        hash = mix(mix(hash, t->history), (uint64_t)t->steps << 2 | (uint64_t)t->done);
    }
    return hash | 1;
}

/* Open addressing; when it is nearly full, states are explored again instead of skipped. */
static bool seen_before(uint64_t key)
{
    for (uint64_t i = 0; i < 64; i++) {
        uint64_t *at = &seen[(key + i) % SEEN];
        if (*at == key)
            return true;
        if (*at == 0) {
            *at = key;
            xp.result.states++;
            return false;
        }
    }
    return false;
}

static int choose(int width)
{
    int taken = 0;

    if (width <= 1)
        return 0;
    if (xp.depth == CHOICES) {
        xp.cut = true;
        return 0;
    }
    if (xp.depth < xp.replay)
        taken = xp.taken[xp.depth];
    xp.taken[xp.depth] = (uint16_t)taken;
    xp.width[xp.depth++] = (uint16_t)width;
    return taken;
}

static void join(view *into, const view *from)
{
    for (int i = 0; i < WORDS; i++)
        if (from->at[i] > into->at[i])
            into->at[i] = from->at[i];
}

/* To the scheduler and back when it is our turn again; never back when the execution is over. */
static void step(void)
{
    thread *t = &xp.threads[xp.running];

    if (++t->steps > xp.scenario->steps_max)
        xp.cut = true;
    swapcontext(&t->context, &xp.scheduler);
}

static word *find(const volatile void *at)
{
    for (int i = 0; i < xp.word_count; i++)
        if (xp.words[i].at == at)
            return &xp.words[i];
    return NULL;
}

static uint64_t plain_load(const volatile void *at, size_t bytes)
{
    uint64_t value = 0;
    memcpy(&value, (const void *)(uintptr_t)at, bytes);
    return value;
}

static uint64_t narrow(uint64_t value, size_t bytes)
{
    return bytes == 8 ? value : value & ((UINT64_C(1) << 8 * bytes) - 1);
}

static bool acquires(int order)
{
    return order == __ATOMIC_ACQUIRE || order == __ATOMIC_ACQ_REL || order == __ATOMIC_SEQ_CST ||
           order == __ATOMIC_CONSUME;
}

static bool releases(int order)
{
    return order == __ATOMIC_RELEASE || order == __ATOMIC_ACQ_REL || order == __ATOMIC_SEQ_CST;
}

static void saw(thread *t, int index, int store, bool acquire)
{
    const word *w = &xp.words[index];
    const view *carries = &w->carries[store];

    if (t->now.at[index] < store)
        t->now.at[index] = (uint8_t)store;
    join(&t->acquired, carries);
    if (acquire)
        join(&t->now, carries);
    t->history = mix(mix(t->history, (uint64_t)index), (uint64_t)store << 32 ^ w->value[store]);
}

/* The new store of `t`; `before`: the release sequence it goes on with, or NULL. */
static void put(thread *t, int index, uint64_t value, bool release, const view *before)
{
    word *w = &xp.words[index];

    if (w->count == STORES) {
        xp.cut = true;
        return;
    }
    t->now.at[index] = (uint8_t)w->count;
    view carries = release ? t->now : t->released;
    carries.at[index] = (uint8_t)w->count;
    if (before != NULL)
        join(&carries, before);
    w->value[w->count] = narrow(value, w->bytes);
    w->carries[w->count++] = carries;
}

uint64_t xp_load(const volatile void *at, size_t bytes, int order)
{
    word *w = find(at);

    if (w == NULL || xp.running < 0)
        return w == NULL ? plain_load(at, bytes) : w->value[w->count - 1];
    step();
    thread *t = &xp.threads[xp.running];
    int index = (int)(w - xp.words), oldest = t->now.at[index];
    int store = w->count - 1 - choose(w->count - oldest);
    saw(t, index, store, acquires(order));
    return w->value[store];
}

void xp_store(volatile void *at, size_t bytes, uint64_t value, int order)
{
    word *w = find(at);

    if (w == NULL || xp.running < 0) {
        memcpy((void *)(uintptr_t)at, &value, bytes);
        return;
    }
    step();
    put(&xp.threads[xp.running], (int)(w - xp.words), value, releases(order), NULL);
}

static uint64_t modify(volatile void *at, size_t bytes, uint64_t value, bool add, int order)
{
    word *w = find(at);

    if (w == NULL || xp.running < 0) {
        uint64_t old = plain_load(at, bytes);
        value += add ? old : 0;
        memcpy((void *)(uintptr_t)at, &value, bytes);
        return old;
    }
    step();
    thread *t = &xp.threads[xp.running];
    int index = (int)(w - xp.words), last = w->count - 1;
    view before = w->carries[last];
    uint64_t old = w->value[last];
    saw(t, index, last, acquires(order));
    put(t, index, add ? old + value : value, releases(order), &before);
    return old;
}

uint64_t xp_exchange(volatile void *at, size_t bytes, uint64_t value, int order)
{
    return modify(at, bytes, value, false, order);
}

uint64_t xp_fetch_add(volatile void *at, size_t bytes, uint64_t by, int order)
{
    return modify(at, bytes, by, true, order);
}

void xp_fence(int order)
{
    if (xp.running < 0)
        return;
    step();
    thread *t = &xp.threads[xp.running];
    if (acquires(order))
        join(&t->now, &t->acquired);
    if (releases(order))
        t->released = t->now;
}

int xp_yield(void)
{
    return 0;
}

void xp_word(volatile void *at, size_t bytes)
{
    assert(xp.word_count < WORDS && xp.running < 0);
    xp.words[xp.word_count++] = (word){ .at = at, .bytes = bytes, .count = 1, .value = { plain_load(at, bytes) } };
}

static word *ordinary(uint64_t *at)
{
    word *w = find(at);

    assert(w != NULL && xp.running >= 0);
    w->ordinary = true;
    return w;
}

/* No step: between two atomic operations nobody can tell when ordinary memory was touched, only whether it was ordered.
 * Reading leaves a mark too: whoever writes must have been told that the reader is done. */
void xp_write(uint64_t *at, uint64_t value)
{
    word *w = ordinary(at);
    thread *t = &xp.threads[xp.running];
    int index = (int)(w - xp.words);

    if (t->now.at[index] != w->count - 1)
        xp_fail("a race: written without knowing of the other thread's last access");
    put(t, index, value, false, NULL);
}

uint64_t xp_read(uint64_t *at)
{
    word *w = ordinary(at);
    thread *t = &xp.threads[xp.running];
    int index = (int)(w - xp.words), last = w->count - 1;
    uint64_t value = w->value[last];

    if (t->now.at[index] != last)
        xp_fail("a race: read without knowing of the other thread's last access");
    t->history = mix(t->history, value);
    put(t, index, value, false, NULL);
    return value;
}

void xp_eventfd_write(int which)
{
    step();
    thread *t = &xp.threads[xp.running];
    xp.eventfd[which]++;
    join(&xp.eventfd_view[which], &t->now);
}

void xp_eventfd_read(int which)
{
    thread *t = &xp.threads[xp.running];

    t->waits_for = which;
    step();
    t->waits_for = -1;
    join(&t->now, &xp.eventfd_view[which]);
    t->history = mix(t->history, xp.eventfd[which]);
    xp.eventfd[which] = 0;
}

void xp_fail(const char *why)
{
    xp.failure = why;
    if (xp.running >= 0)
        swapcontext(&xp.threads[xp.running].context, &xp.scheduler);
}

static void enter(void)
{
    xp.scenario->threads[xp.running]();
    xp.threads[xp.running].done = true;
    swapcontext(&xp.threads[xp.running].context, &xp.scheduler);
}

static void begin(void)
{
    xp.word_count = 0;
    xp.running = -1;
    xp.depth = 0;
    xp.cut = xp.known = false;
    memset(xp.eventfd, 0, sizeof xp.eventfd);
    memset(xp.eventfd_view, 0, sizeof xp.eventfd_view);
    xp.scenario->open();
    for (int i = 0; i < XP_THREADS; i++) {
        thread *t = &xp.threads[i];
        char *stack = t->stack != NULL ? t->stack : malloc(STACK);
        *t = (thread){ .stack = stack, .history = (uint64_t)i + 1, .waits_for = -1 };
        getcontext(&t->context);
        t->context.uc_stack.ss_sp = stack;
        t->context.uc_stack.ss_size = STACK;
        makecontext(&t->context, enter, 0);
        /* Up to its first operation: nothing before that can matter to the other. */
        xp.running = i;
        swapcontext(&xp.scheduler, &t->context);
    }
}

static bool may_run(const thread *t)
{
    return !t->done && (t->waits_for < 0 || xp.eventfd[t->waits_for] > 0);
}

static void execute(void)
{
    size_t path = 0;

    begin();
    while (xp.failure == NULL && !xp.cut) {
        int ready[XP_THREADS], count = 0;
        bool all_done = true;
        for (int i = 0; i < XP_THREADS; i++) {
            all_done = all_done && xp.threads[i].done;
            if (may_run(&xp.threads[i]))
                ready[count++] = i;
        }
        if (count == 0) {
            xp.running = -1;
            if (!all_done)
                xp_fail("a wake-up was lost: who sleeps is never woken");
            else
                xp.scenario->close();
            break;
        }
        /* Only where this execution is on new ground: on the way there everything was seen. */
        if (xp.depth >= xp.replay && seen_before(state())) {
            xp.known = true;
            break;
        }
        xp.running = ready[choose(count)];
        if (path < sizeof xp.result.path - 1)
            xp.result.path[path++] = (char)('a' + xp.running);
        swapcontext(&xp.scheduler, &xp.threads[xp.running].context);
    }
    xp.result.path[path] = 0;
    xp.result.executions++;
    xp.result.cut += xp.cut;
}

/* The next prescription: the last choice that has an alternative takes it. */
static bool next(void)
{
    while (xp.depth > 0 && xp.taken[xp.depth - 1] + 1 == xp.width[xp.depth - 1])
        xp.depth--;
    if (xp.depth == 0)
        return false;
    xp.taken[xp.depth - 1]++;
    xp.replay = xp.depth;
    return true;
}

xp_result xp_explore(const xp_scenario *scenario, uint64_t executions_max)
{
    if (seen == NULL)
        seen = malloc(SEEN * sizeof *seen);
    memset(seen, 0, SEEN * sizeof *seen);
    xp.scenario = scenario;
    xp.replay = 0;
    xp.failure = NULL;
    xp.result = (xp_result){ 0 };
    do {
        execute();
        if (xp.failure == NULL && xp.result.executions == executions_max)
            xp.failure = "not all of it: the limit of executions was reached";
    } while (xp.failure == NULL && next());
    xp.result.failure = xp.failure;
    return xp.result;
}
