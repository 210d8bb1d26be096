#include "ring/zr_inbox.h"

#include <pthread.h>
#include <sched.h>

#include "base/zr_err.h"
#include "zr_test.h"

#define WORKERS 3u
#define SLOTS   8u
#define BYTES   24u

typedef struct box {
    zr_inbox_page *page;
    zr_inbox inbox;
    zr_inbox_end reader, writer; /* of worker 2's ring */
} box;

static void ends(box *b)
{
    CHECK_EQ(zr_inbox_look(&b->inbox, b->page, zr_inbox_bytes(WORKERS, SLOTS, BYTES)), ZR_OK);
    CHECK_EQ(zr_inbox_reader(&b->reader, &b->inbox, 2), ZR_OK);
    CHECK_EQ(zr_inbox_writer(&b->writer, &b->inbox, 2), ZR_OK);
}

static box open_box(void)
{
    box b = { .page = zr_test_memory(zr_inbox_bytes(WORKERS, SLOTS, BYTES)) };

    CHECK_EQ(zr_inbox_init(b.page, WORKERS, SLOTS, BYTES), ZR_OK);
    ends(&b);
    return b;
}

static bool put(box *b, uint32_t number)
{
    uint32_t *record = zr_inbox_claim(&b->writer);

    if (record == NULL)
        return false;
    *record = number;
    zr_inbox_commit(&b->writer);
    return true;
}

/* The next number; UINT32_MAX when there is none. */
static uint32_t get(box *b)
{
    const uint32_t *record = zr_inbox_peek(&b->reader);
    uint32_t number = UINT32_MAX;

    if (record != NULL) {
        number = *record;
        zr_inbox_release(&b->reader);
    }
    return number;
}

ZR_TEST(an_inbox_has_a_ring_for_every_worker_within_its_bytes)
{
    box b = open_box();
    unsigned char *end = (unsigned char *)b.page + zr_inbox_bytes(WORKERS, SLOTS, BYTES);

    for (uint32_t from = 0; from < WORKERS; from++) {
        zr_inbox_end writer;
        CHECK_EQ(zr_inbox_writer(&writer, &b.inbox, from), ZR_OK);
        for (uint32_t i = 0; i < SLOTS; i++) {
            unsigned char *record = zr_inbox_claim(&writer);
            CHECK(record >= b.page->rings && record + BYTES <= end);
            memset(record, (int)from, BYTES);
            zr_inbox_commit(&writer);
        }
        CHECK(zr_inbox_claim(&writer) == NULL);
    }
    for (uint32_t from = 0; from < WORKERS; from++) {
        zr_inbox_end reader;
        CHECK_EQ(zr_inbox_reader(&reader, &b.inbox, from), ZR_OK);
        CHECK_EQ(zr_inbox_waiting(&reader), SLOTS);
        CHECK_EQ(*(const unsigned char *)zr_inbox_peek(&reader), from);
    }
    free(b.page);
}

ZR_TEST(records_come_in_order_and_a_full_ring_takes_no_more_until_one_is_released)
{
    box b = open_box();
    uint32_t in = 0, out = 0;

    for (int round = 0; round < 100; round++) {
        while (put(&b, in))
            in++;
        CHECK_EQ(in - out, SLOTS);
        CHECK_EQ(zr_inbox_room(&b.writer), 0);
        for (int i = 0; i < 1 + round % (int)SLOTS; i++)
            CHECK_EQ(get(&b), out++);
        CHECK_EQ(zr_inbox_room(&b.writer), SLOTS - (in - out));
    }
    while (out < in)
        CHECK_EQ(get(&b), out++);
    CHECK_EQ(get(&b), UINT32_MAX);
    free(b.page);
}

ZR_TEST(either_successor_goes_on_where_the_counters_stand)
{
    box b = open_box();

    for (uint32_t i = 0; i < 5; i++)
        CHECK(put(&b, i));
    CHECK_EQ(get(&b), 0);
    *(uint32_t *)zr_inbox_claim(&b.writer) = 99; /* died before its commit */
    ends(&b);
    CHECK(put(&b, 5));
    for (uint32_t i = 1; i < 6; i++)
        CHECK_EQ(get(&b), i);
    CHECK_EQ(get(&b), UINT32_MAX);
    free(b.page);
}

ZR_TEST(a_counter_that_cannot_be_true_ends_the_reading_of_its_ring_until_the_writer_is_a_new_one)
{
    static const uint32_t tails[] = { SLOTS + 1 + 1, 0, UINT32_MAX, 1u << 31 }; /* S01; S03 backwards; far off */
    for (size_t i = 0; i < ZR_LEN(tails); i++) {
        box b = open_box();
        CHECK(put(&b, 1));
        CHECK_EQ(get(&b), 1);
        atomic_store(&b.reader.ring->tail, tails[i]);
        CHECK_EQ(get(&b), UINT32_MAX);
        CHECK(b.reader.corrupt);
        CHECK_EQ(zr_inbox_waiting(&b.reader), 0);
        CHECK(put(&b, 2)); /* a writer that goes on does not heal it */
        CHECK_EQ(get(&b), UINT32_MAX);
        atomic_store(&b.reader.ring->tail, tails[i]);
        (void)zr_inbox_writer(&b.writer, &b.inbox, 2);
        zr_inbox_mend(&b.reader);
        for (uint32_t n = 0; n < 3 * SLOTS; n++) {
            CHECK(put(&b, n));
            CHECK_EQ(get(&b), n);
        }
        free(b.page);
    }
}

ZR_TEST(a_reader_that_starts_at_counters_that_cannot_be_true_gives_up_what_the_ring_held)
{
    box b = open_box();

    CHECK(put(&b, 1));
    atomic_store(&b.reader.ring->head, 5);
    CHECK_EQ(zr_inbox_reader(&b.reader, &b.inbox, 2), ZR_E_version);
    CHECK_EQ(get(&b), UINT32_MAX);
    CHECK(put(&b, 2));
    CHECK_EQ(get(&b), 2);
    free(b.page);
}

ZR_TEST(sizes_and_a_head_written_by_a_neighbour_are_not_believed)
{
    box b = open_box();

    b.reader.ring->mask = UINT32_MAX;
    b.reader.ring->slot_bytes = UINT32_MAX;
    for (uint32_t i = 0; i < 3 * SLOTS; i++) {
        CHECK(put(&b, i));
        atomic_store(&b.reader.ring->head, i * 77); /* the reader's own place is its own */
        CHECK_EQ(get(&b), i);
    }
    while (put(&b, 1))
        ;
    atomic_store(&b.reader.ring->head, 1u << 30); /* beyond the tail: looks full, nothing is overwritten */
    CHECK(zr_inbox_claim(&b.writer) == NULL);
    CHECK_EQ(zr_inbox_room(&b.writer), 0);
    free(b.page);
}

ZR_TEST(a_region_that_is_no_inbox_of_this_size_is_refused)
{
    box b = open_box();
    size_t bytes = zr_inbox_bytes(WORKERS, SLOTS, BYTES);
    uint32_t *const words[] = { &b.page->version, &b.page->workers, &b.page->slots, &b.page->record_bytes };

    CHECK_EQ(zr_inbox_look(&b.inbox, b.page, bytes - ZR_CACHELINE), ZR_E_version);
    CHECK_EQ(zr_inbox_look(&b.inbox, b.page, 8), ZR_E_version);
    for (size_t i = 0; i < ZR_LEN(words); i++) {
        static const uint32_t wrong[] = { 0, 2, 16, 1u << 31, UINT32_MAX };
        uint32_t right = *words[i];
        for (size_t k = 0; k < ZR_LEN(wrong); k++) {
            *words[i] = wrong[k];
            CHECK_EQ(zr_inbox_look(&b.inbox, b.page, bytes), ZR_E_version);
            CHECK(b.inbox.page == NULL);
        }
        *words[i] = right;
    }
    b.page->magic ^= 1;
    CHECK_EQ(zr_inbox_look(&b.inbox, b.page, bytes), ZR_E_version);
    CHECK_EQ(zr_inbox_bytes(0, SLOTS, BYTES), 0);
    CHECK_EQ(zr_inbox_bytes(65, SLOTS, BYTES), 0);
    CHECK_EQ(zr_inbox_bytes(2, 3, BYTES), 0);
    free(b.page);
}

#define RECORDS 200000u

static void *give(void *arg)
{
    zr_inbox_end *writer = arg;

    for (uint32_t i = 0; i < RECORDS;) {
        uint32_t *record = zr_inbox_claim(writer);
        if (record == NULL) {
            sched_yield();
            continue;
        }
        record[0] = i;
        record[1] = ~i;
        zr_inbox_commit(writer);
        i++;
    }
    return NULL;
}

ZR_TEST(records_cross_between_two_threads_whole_and_in_order)
{
    box b = open_box();
    pthread_t thread;
    uint32_t wrong = 0;

    CHECK_EQ(pthread_create(&thread, NULL, give, &b.writer), 0);
    for (uint32_t i = 0; i < RECORDS;) {
        const uint32_t *record = zr_inbox_peek(&b.reader);
        if (record == NULL) {
            sched_yield();
            continue;
        }
        wrong += record[0] != i || record[1] != ~i;
        zr_inbox_release(&b.reader);
        i++;
    }
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK_EQ(wrong, 0);
    CHECK(!b.reader.corrupt);
    free(b.page);
}
