#include "stat/zr_stat.h"

#include "base/zr_err.h"
#include "zr_test.h"

#include <pthread.h>

#define STREAMS 3u

static zr_stat_page *open_page(void)
{
    zr_stat_page *page = zr_test_memory(zr_stat_bytes(STREAMS));

    CHECK_EQ(zr_stat_init(page, STREAMS), ZR_OK);
    return page;
}

ZR_TEST(a_page_holds_its_rows_and_begins_with_its_name)
{
    zr_stat_page *page = open_page();

    CHECK(memcmp(page, "zrstat1", 8) == 0);
    CHECK((char *)&page->streams[STREAMS] <= (char *)page + zr_stat_bytes(STREAMS));
    CHECK_EQ(zr_stat_init((zr_stat_page *)(void *)((char *)page + 8), 0), ZR_E_inval);
    free(page);
}

ZR_TEST(a_successor_attaches_with_the_next_generation_and_counts_on)
{
    zr_stat_page *page = open_page();

    zr_stat_add(page, ZR_STAT_turns, 5);
    CHECK_EQ(page->generation, 0);
    CHECK_EQ(zr_stat_attach(page, zr_stat_bytes(STREAMS)), ZR_OK);
    CHECK_EQ(zr_stat_attach(page, zr_stat_bytes(STREAMS)), ZR_OK);
    CHECK_EQ(page->generation, 2);
    zr_stat_add(page, ZR_STAT_turns, 2);
    CHECK_EQ(page->stat[ZR_STAT_turns], 7);
    zr_stat_max(page, ZR_STAT_turn_ns_max, 9);
    zr_stat_max(page, ZR_STAT_turn_ns_max, 8);
    CHECK_EQ(page->stat[ZR_STAT_turn_ns_max], 9);
    free(page);
}

ZR_TEST(a_page_of_another_magic_version_or_list_is_refused)
{
    zr_stat_page *page = open_page();
    size_t bytes = zr_stat_bytes(STREAMS);
    uint32_t *words[] = { &page->version, &page->stat_count, &page->drop_count, &page->hist_count, &page->streams_max };

    for (size_t i = 0; i < ZR_LEN(words); i++) {
        (*words[i])++;
        CHECK_EQ(zr_stat_attach(page, bytes), ZR_E_version);
        (*words[i])--;
    }
    page->magic++;
    CHECK_EQ(zr_stat_attach(page, bytes), ZR_E_version);
    page->magic--;
    CHECK_EQ(zr_stat_attach(page, bytes - 1), ZR_E_version);
    CHECK_EQ(zr_stat_attach(page, bytes + 64), ZR_E_version);
    CHECK_EQ(zr_stat_attach(page, 8), ZR_E_version);
    CHECK_EQ(page->generation, 0);
    CHECK_EQ(zr_stat_attach(page, bytes), ZR_OK);
    free(page);
}

ZR_TEST(buckets_touch_without_gap_and_are_an_eighth_of_their_value_wide)
{
    for (uint32_t b = 0; b + 1 < ZR_HIST_BUCKETS; b++) {
        uint64_t floor = zr_hist_floor(b), next = zr_hist_floor(b + 1);
        CHECK_EQ(zr_hist_bucket(floor), b);
        CHECK_EQ(zr_hist_bucket(next - 1), b);
        CHECK_EQ(zr_hist_bucket(next), b + 1);
        CHECK(next - floor == 1 || (next - floor) * 8 <= floor);
    }
    for (uint64_t v = 0; v < 8; v++)
        CHECK_EQ(zr_hist_floor(zr_hist_bucket(v)), v);
}

ZR_TEST(values_beyond_the_last_bucket_are_counted_in_it)
{
    zr_stat_page *page = open_page();

    CHECK(zr_hist_bucket((uint64_t)1 << 40) < ZR_HIST_BUCKETS - 1);
    CHECK_EQ(zr_hist_bucket(UINT64_MAX), ZR_HIST_BUCKETS - 1);
    zr_hist_add(page, ZR_HIST_age_us, UINT64_MAX);
    zr_hist_add(page, ZR_HIST_age_us, 100);
    zr_hist_add(page, ZR_HIST_age_us, 100);
    CHECK_EQ(page->hist[ZR_HIST_age_us][ZR_HIST_BUCKETS - 1], 1);
    CHECK_EQ(page->hist[ZR_HIST_age_us][zr_hist_bucket(100)], 2);
    free(page);
}

static const struct {
    enum zr_ledger ledger;
    enum zr_stat_id in, out;
} books[] = {
    { ZR_LEDGER_link, ZR_STAT_rx_link, ZR_STAT_link_accepted },
    { ZR_LEDGER_media, ZR_STAT_rx_media, ZR_STAT_media_accepted },
    { ZR_LEDGER_fan, ZR_STAT_fan_due, ZR_STAT_fan_sent },
    { ZR_LEDGER_egress, ZR_STAT_tx_due, ZR_STAT_tx_sent },
};

static const char *const ledger_names[] = { "link", "media", "fan", "egress" };

ZR_TEST(each_ledger_balances_with_its_own_drops_and_no_others)
{
    for (size_t i = 0; i < ZR_LEN(books); i++) {
        zr_stat_page *page = open_page();
        uint32_t own = 0;

        for (uint32_t d = 0; d < ZR_DROP_COUNT; d++) {
            zr_drop_add(page, (enum zr_drop_id)d);
            own += strcmp(zr_drop_infos[d].ledger, ledger_names[books[i].ledger]) == 0;
        }
        CHECK(own > 0);
        CHECK_EQ(zr_ledger_off(page, books[i].ledger), -(int64_t)own);
        zr_stat_add(page, books[i].in, own + 10);
        CHECK_EQ(zr_ledger_off(page, books[i].ledger), 10);
        zr_stat_add(page, books[i].out, 10);
        CHECK_EQ(zr_ledger_off(page, books[i].ledger), 0);
        free(page);
    }
}

ZR_TEST(the_tables_have_the_lists_words_in_their_order)
{
    CHECK(strcmp(zr_stat_infos[ZR_STAT_rx_link].name, "rx_link") == 0);
    CHECK(strcmp(zr_stat_infos[ZR_STAT_turn_ns_max].kind, "g") == 0);
    CHECK(strcmp(zr_stat_infos[ZR_STAT_turn_ns_max].unit, "nanoseconds") == 0);
    CHECK(strcmp(zr_drop_infos[ZR_DROP_tx_again].word, "again") == 0);
    CHECK(strcmp(zr_drop_infos[ZR_DROP_tx_again].ledger, "egress") == 0);
    CHECK(strcmp(zr_hist_infos[ZR_HIST_tx_run].name, "tx_run") == 0);
    CHECK(strcmp(zr_hist_infos[ZR_HIST_tx_run].kind, "h") == 0);
}

ZR_TEST(a_ledgers_words_are_labels_so_no_two_of_its_drops_share_one)
{
    for (size_t i = 0; i < ZR_DROP_COUNT; i++)
        for (size_t j = 0; j < i; j++)
            CHECK(strcmp(zr_drop_infos[i].ledger, zr_drop_infos[j].ledger) != 0 ||
                  strcmp(zr_drop_infos[i].word, zr_drop_infos[j].word) != 0);
}

/* A writer that keeps rx_link = link_accepted between turns, never within one. */
static void *turn_until_told(void *arg)
{
    zr_stat_page *page = arg;

    for (int i = 0; i < 200000; i++) {
        zr_stat_turn_begin(page);
        zr_stat_add(page, ZR_STAT_rx_link, 3);
        zr_stat_add(page, ZR_STAT_link_accepted, 2);
        zr_drop_add(page, ZR_DROP_short);
        zr_stat_turn_end(page);
    }
    return NULL;
}

ZR_TEST(a_snapshot_never_falls_into_a_turn)
{
    zr_stat_page *page = zr_test_memory(zr_stat_bytes(1));
    zr_stat_counts counts;
    pthread_t writer;
    int consistent = 0;

    CHECK_EQ(zr_stat_init(page, 1), ZR_OK);
    CHECK_EQ(pthread_create(&writer, NULL, turn_until_told, page), 0);
    for (int i = 0; i < 2000; i++) {
        if (!zr_stat_snapshot(page, &counts))
            continue;
        consistent++;
        if (zr_counts_off(&counts, ZR_LEDGER_link) != 0)
            consistent = -1000000;
    }
    CHECK_EQ(pthread_join(writer, NULL), 0);
    CHECK(consistent > 0);
    CHECK(zr_stat_snapshot(page, &counts));
    CHECK_EQ(zr_counts_off(&counts, ZR_LEDGER_link), 0);
    free(page);
}

ZR_TEST(a_snapshot_says_when_the_writer_died_within_a_turn_and_a_successor_mends_it)
{
    zr_stat_page *page = zr_test_memory(zr_stat_bytes(1));
    zr_stat_counts counts;

    CHECK_EQ(zr_stat_init(page, 1), ZR_OK);
    zr_stat_turn_begin(page);
    zr_stat_add(page, ZR_STAT_rx_link, 1);
    CHECK(!zr_stat_snapshot(page, &counts));
    CHECK_EQ(counts.stat[ZR_STAT_rx_link], 1);
    CHECK_EQ(zr_stat_attach(page, zr_stat_bytes(1)), ZR_OK);
    CHECK(zr_stat_snapshot(page, &counts));
    free(page);
}
