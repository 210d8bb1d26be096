/* ThreadSanitizer's view of the ring: two threads, two ends, `ring_tsan OPERATIONS` (a push or a pop is one). Rings of
 * 2, 64 and 4096 slots share them, so that full, empty and in between are all common. Exit status 1 when a record is
 * wrong, 66 (TSan's own) when there is a race. */
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>

#include "ring/zr_spsc.h"

typedef struct record {
    uint64_t number, check;
} record;

static uint64_t records;

static void *produce(void *arg)
{
    zr_spsc *ring = arg;

    for (uint64_t i = 0; i < records;) {
        record *slot = zr_spsc_claim(ring);
        if (slot == NULL) {
            sched_yield();
            continue;
        }
        *slot = (record){ .number = i, .check = ~i };
        zr_spsc_commit(ring);
        i++;
    }
    return NULL;
}

static uint64_t consume(zr_spsc *ring)
{
    uint64_t wrong = 0;

    for (uint64_t i = 0; i < records;) {
        const record *slot = zr_spsc_peek(ring);
        if (slot == NULL) {
            sched_yield();
            continue;
        }
        wrong += slot->number != i || slot->check != ~i;
        zr_spsc_release(ring);
        i++;
    }
    return wrong;
}

int main(int argc, char **argv)
{
    static const uint32_t sizes[] = { 2, 64, 4096 };
    uint64_t operations = argc > 1 ? strtoull(argv[1], NULL, 10) : 10000000, wrong = 0;

    for (int i = 0; i < 3; i++) {
        zr_spsc ends[2];
        pthread_t thread;
        zr_spsc_mem *mem = aligned_alloc(ZR_CACHELINE, zr_spsc_bytes(sizes[i], sizeof(record)));
        /* A ring of two switches threads with every record: a hundredth of the work takes as long as the rest. */
        records = i == 0 ? operations / 200 : operations / 4;
        if (zr_spsc_init(&ends[0], mem, sizes[i], sizeof(record), UINT32_MAX - 1000) != 0 ||
            zr_spsc_attach(&ends[1], mem, sizes[i], sizeof(record)) != 0 ||
            pthread_create(&thread, NULL, produce, &ends[0]) != 0)
            return 2;
        wrong += consume(&ends[1]);
        pthread_join(thread, NULL);
        wrong += !zr_spsc_check(&ends[0]) || !zr_spsc_check(&ends[1]) || zr_spsc_depth(&ends[1]) != 0;
        free(mem);
    }
    printf("%llu ring operations, %llu wrong\n", (unsigned long long)(operations + operations / 100),
           (unsigned long long)wrong);
    return wrong != 0;
}
