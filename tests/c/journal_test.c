#include "zr_test.h"

#include <stdlib.h>
#include <string.h>

#include "forward/zr_journal.h"

#define STREAMS 4u
#define INGRESS 4u
#define SUBS    8u

static zr_journal *journal_open(void)
{
    zr_journal *j = zr_test_memory(zr_journal_bytes(STREAMS, INGRESS, SUBS));
    CHECK_EQ(zr_journal_init(j, STREAMS, INGRESS, SUBS), ZR_OK);
    return j;
}

static void note(zr_journal *j, zr_cmd cmd)
{
    cmd.seq = 77; /* of the command ring: not kept */
    zr_journal_note(j, &cmd);
}

/* What a successor would execute; how many. */
static int replay(zr_journal *j, zr_cmd out[64])
{
    zr_journal_cursor cursor = { 0 };
    int count = 0;

    CHECK_EQ(zr_journal_attach(j, zr_journal_bytes(STREAMS, INGRESS, SUBS)), ZR_OK);
    while (zr_journal_next(j, &cursor, &out[count]) == ZR_OK) {
        CHECK_EQ(out[count].seq, 0);
        CHECK(++count < 64);
    }
    return count;
}

static const zr_addr somewhere = { .ip = { 127, 0, 0, 1 }, .family = 4, .port = 5000 };
static const zr_addr elsewhere = { .ip = { 127, 0, 0, 1 }, .family = 4, .port = 5002 };

/* One of each, on stream 1. */
static void tell(zr_journal *j)
{
    note(j, (zr_cmd){ .op = ZR_CMD_stream_open, .a = 1, .b = 1, .x = 9, .y = 100 });
    note(j, (zr_cmd){ .op = ZR_CMD_stream_track, .a = 1, .b = 3, .c = 0x610000, .d = 48000, .x = 5 });
    note(j, (zr_cmd){ .op = ZR_CMD_ingress_bind, .a = 2, .b = 1 });
    note(j, (zr_cmd){ .op = ZR_CMD_ingress_source, .a = 2, .addr = somewhere });
    note(j, (zr_cmd){ .op = ZR_CMD_sub_add, .a = 7, .b = 1, .c = 1, .addr = somewhere });
    note(j, (zr_cmd){ .op = ZR_CMD_sub_addr, .a = 7, .b = 3, .addr = elsewhere });
}

ZR_TEST(a_successor_is_told_what_is_in_force_in_an_order_that_can_be_executed)
{
    static const uint16_t ops[] = { ZR_CMD_stream_open,    ZR_CMD_stream_track, ZR_CMD_ingress_bind,
                                    ZR_CMD_ingress_source, ZR_CMD_sub_add,      ZR_CMD_sub_addr };
    zr_journal *j = journal_open();
    zr_cmd out[64];

    CHECK_EQ(replay(j, out), 0);
    tell(j);
    CHECK_EQ(replay(j, out), 6);
    for (size_t i = 0; i < ZR_LEN(ops); i++)
        CHECK_EQ(out[i].op, ops[i]);
    CHECK_EQ(out[0].x, 9);
    CHECK_EQ(out[1].c, 0x610000);
    CHECK_EQ(out[1].x, 5);
    CHECK(zr_addr_eq(&out[5].addr, &elsewhere));
    note(j, (zr_cmd){ .op = ZR_CMD_sub_drop, .a = 7 });
    CHECK_EQ(replay(j, out), 4);
    note(j, (zr_cmd){ .op = ZR_CMD_ingress_close, .a = 2 });
    CHECK_EQ(replay(j, out), 2);
    note(j, (zr_cmd){ .op = ZR_CMD_reset });
    CHECK_EQ(replay(j, out), 0);
    free(j);
}

ZR_TEST(a_closed_stream_takes_with_it_what_hung_on_it_also_when_its_slot_is_used_again)
{
    zr_journal *j = journal_open();
    zr_cmd out[64];

    tell(j);
    note(j, (zr_cmd){ .op = ZR_CMD_stream_close, .a = 1 });
    CHECK_EQ(replay(j, out), 0);
    note(j, (zr_cmd){ .op = ZR_CMD_stream_open, .a = 1, .b = 0, .x = 9 });
    CHECK_EQ(replay(j, out), 1);
    CHECK_EQ(out[0].b, 0);
    free(j);
}

ZR_TEST(a_higher_epoch_keeps_the_players_and_the_binding_and_forgets_tracks_and_sources)
{
    zr_journal *j = journal_open();
    zr_cmd out[64];

    tell(j);
    note(j, (zr_cmd){ .op = ZR_CMD_stream_epoch, .a = 1, .b = 1, .x = 10 });
    CHECK_EQ(replay(j, out), 4);
    CHECK_EQ(out[0].op, ZR_CMD_stream_open);
    CHECK_EQ(out[0].x, 10);
    CHECK_EQ(out[1].op, ZR_CMD_ingress_bind);
    CHECK_EQ(out[2].op, ZR_CMD_sub_add);
    CHECK_EQ(out[3].op, ZR_CMD_sub_addr);
    note(j, (zr_cmd){ .op = ZR_CMD_ingress_source, .a = 2, .addr = elsewhere });
    note(j, (zr_cmd){ .op = ZR_CMD_ingress_source, .a = 2, .addr = elsewhere });
    CHECK_EQ(replay(j, out), 5);
    free(j);
}

/* The last write cut short at every byte of it, before and after its redo record was whole. */
ZR_TEST(a_write_cut_short_leaves_the_old_command_or_the_new_one)
{
    size_t bytes = zr_journal_bytes(STREAMS, INGRESS, SUBS);
    zr_journal *before = journal_open(), *after = journal_open(), *cut = journal_open();
    zr_cmd out[64];
    int old = 0, new = 0;

    tell(before);
    tell(after);
    note(after, (zr_cmd){ .op = ZR_CMD_stream_epoch, .a = 1, .b = 1, .x = 10 });
    for (size_t at = 0; at < 2 * sizeof(zr_cmd); at++) {
        bool redo_whole = at >= sizeof(zr_cmd);
        memcpy(cut, before, bytes);
        memcpy(&cut->redo, &after->redo, redo_whole ? sizeof(zr_cmd) : at);
        cut->redo_at = after->redo_at;
        cut->redo_sum = 0;
        if (redo_whole) { /* then the place itself was being written */
            uint64_t place = after->redo_at;
            memcpy(&cut->places[place], &after->places[place], at - sizeof(zr_cmd));
            zr_cmd noted = after->redo;
            zr_journal_note(cut, &(zr_cmd){ .op = ZR_CMD_nop });
            cut->redo = noted;
            cut->redo_sum = zr_journal_redo_sum(cut);
        }
        int count = replay(cut, out);
        CHECK_EQ(count, redo_whole ? 4 : 6);
        CHECK_EQ(out[0].x, redo_whole ? 10 : 9);
        old += !redo_whole;
        new += redo_whole;
        CHECK_EQ(cut->refused, 0);
    }
    CHECK_EQ(old, new);
    free(before);
    free(after);
    free(cut);
}

ZR_TEST(a_place_that_was_overwritten_is_passed_over_and_counted)
{
    zr_journal *j = journal_open();
    zr_cmd out[64];
    uint8_t *bytes = (uint8_t *)j->places;

    tell(j);
    for (size_t i = 0; i < zr_journal_bytes(STREAMS, INGRESS, SUBS) - sizeof *j; i += 7)
        bytes[i] ^= 0x55;
    CHECK_EQ(replay(j, out), 0);
    CHECK(j->refused > 0);
    free(j);
}

ZR_TEST(a_journal_of_another_size_or_version_is_refused)
{
    size_t bytes = zr_journal_bytes(STREAMS, INGRESS, SUBS);
    zr_journal *j = journal_open();

    CHECK_EQ(zr_journal_attach(j, bytes - 64), ZR_E_version);
    CHECK_EQ(zr_journal_attach(j, bytes + 64), ZR_E_version);
    CHECK_EQ(zr_journal_attach(j, 8), ZR_E_version);
    j->streams_used = STREAMS + 1;
    CHECK_EQ(zr_journal_attach(j, bytes), ZR_E_version);
    j->streams_used = 0;
    j->redo_at = UINT64_MAX; /* no place at all: not even looked at */
    j->redo_sum = zr_journal_redo_sum(j);
    CHECK_EQ(zr_journal_attach(j, bytes), ZR_OK);
    j->version++;
    CHECK_EQ(zr_journal_attach(j, bytes), ZR_E_version);
    free(j);
}

ZR_TEST(commands_out_of_range_or_about_nothing_leave_no_trace)
{
    zr_journal *j = journal_open();
    zr_cmd out[64];

    for (uint16_t op = 0; op < ZR_CMD_COUNT; op++) {
        note(j, (zr_cmd){ .op = op, .a = UINT32_MAX, .b = UINT32_MAX, .c = 1, .d = 1, .x = 1, .y = 1 });
        if (op != ZR_CMD_stream_open)
            note(j, (zr_cmd){ .op = op, .a = 0, .b = 0, .c = 1, .d = 1, .x = 1, .y = 1 });
    }
    CHECK_EQ(replay(j, out), 0);
    zr_journal_note(NULL, &out[0]);
    free(j);
}
