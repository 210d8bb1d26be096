/* ThreadSanitizer's view of what carries records: two threads, two ends, `ring_tsan OPERATIONS` (a push or a pop is
 * one). Rings and inboxes of 2 and 64 slots, and a ring of 4096, share them, so that full, empty and in between are all
 * common. Exit status 1 when a record is wrong, 66 (TSan's own) when there is a race. */
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ring/zr_inbox.h"
#include "ring/zr_spsc.h"

#define MEND_EVERY 64u /* records */

typedef struct record {
    uint64_t number, check;
} record;

static uint64_t records;

static bool right(const record *r, uint64_t number)
{
    return r->number == number && r->check == ~number;
}

static void *produce(void *arg)
{
    zr_spsc *ring = arg;

    for (uint64_t i = 0; i < records; i++) {
        record *slot;
        while ((slot = zr_spsc_claim(ring)) == NULL)
            sched_yield();
        *slot = (record){ .number = i, .check = ~i };
        zr_spsc_commit(ring);
    }
    return NULL;
}

static uint64_t consume(zr_spsc *ring)
{
    uint64_t wrong = 0;

    for (uint64_t i = 0; i < records; i++) {
        const record *slot;
        while ((slot = zr_spsc_peek(ring)) == NULL)
            sched_yield();
        wrong += !right(slot, i);
        zr_spsc_release(ring);
    }
    return wrong;
}

static uint64_t try_ring(uint32_t slots)
{
    zr_spsc ends[2];
    pthread_t thread;
    zr_spsc_mem *mem = aligned_alloc(ZR_CACHELINE, zr_spsc_bytes(slots, sizeof(record)));

    if (mem == NULL || zr_spsc_init(&ends[0], mem, slots, sizeof(record), UINT32_MAX - 1000) != 0 ||
        zr_spsc_attach(&ends[1], mem, slots, sizeof(record)) != 0 ||
        pthread_create(&thread, NULL, produce, &ends[0]) != 0)
        exit(2);
    uint64_t wrong = consume(&ends[1]);
    pthread_join(thread, NULL);
    wrong += !zr_spsc_check(&ends[0]) || !zr_spsc_check(&ends[1]) || zr_spsc_depth(&ends[1]) != 0;
    free(mem);
    return wrong;
}

static void *fill(void *arg)
{
    zr_inbox_end *writer = arg;

    for (uint64_t i = 0; i < records; i++) {
        record *slot;
        while ((slot = zr_inbox_claim(writer)) == NULL)
            sched_yield();
        *slot = (record){ .number = i, .check = ~i };
        zr_inbox_commit(writer);
    }
    return NULL;
}

/* Now and then all that stands there is given up, as when the writer is a new process. Record i is at counter i. */
static uint64_t empty(zr_inbox_end *reader)
{
    uint64_t wrong = 0;

    for (uint64_t looks = 0; reader->at < records;) {
        const record *slot = zr_inbox_peek(reader);
        if (slot == NULL) {
            sched_yield();
            continue;
        }
        wrong += !right(slot, reader->at);
        if (++looks % MEND_EVERY == 0)
            zr_inbox_mend(reader);
        else
            zr_inbox_release(reader);
    }
    return wrong + reader->corrupt;
}

static uint64_t try_inbox(uint32_t slots)
{
    size_t bytes = zr_inbox_bytes(1, slots, sizeof(record));
    zr_inbox_page *page = aligned_alloc(ZR_CACHELINE, bytes);
    zr_inbox_end writer, reader;
    zr_inbox inbox;
    pthread_t thread;

    if (page == NULL)
        exit(2);
    memset(page, 0, bytes);
    if (zr_inbox_init(page, 1, slots, sizeof(record)) != 0 || zr_inbox_look(&inbox, page, bytes) != 0 ||
        zr_inbox_writer(&writer, &inbox, 0) != 0 || zr_inbox_reader(&reader, &inbox, 0) != 0 ||
        pthread_create(&thread, NULL, fill, &writer) != 0)
        exit(2);
    uint64_t wrong = empty(&reader);
    pthread_join(thread, NULL);
    free(page);
    return wrong;
}

int main(int argc, char **argv)
{
    /* A ring of two switches threads with every record: a hundredth of the work takes as long as the rest. */
    static const struct {
        uint64_t (*try)(uint32_t slots);
        uint32_t slots, share; /* records: operations / share */
    } rows[] = {
        { try_inbox, 2, 400 }, { try_inbox, 64, 5 }, { try_ring, 2, 400 }, { try_ring, 64, 6 }, { try_ring, 4096, 7 },
    };
    uint64_t operations = argc > 1 ? strtoull(argv[1], NULL, 10) : 10000000, wrong = 0, done = 0;

    for (size_t i = 0; i < ZR_LEN(rows); i++) {
        records = operations / rows[i].share;
        wrong += rows[i].try(rows[i].slots);
        done += 2 * records;
    }
    printf("%llu ring operations, %llu wrong\n", (unsigned long long)done, (unsigned long long)wrong);
    return wrong != 0;
}
