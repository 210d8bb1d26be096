#include "coll/zr_win.h"

#include "zr_test.h"

/* One window, step by step, in the manner of RFC 6479's own cases. */
static const struct {
    uint64_t n;
    enum zr_win_verdict want;
} steps[] = {
    { 0, ZR_WIN_NEW },
    { 0, ZR_WIN_SEEN },
    { 1, ZR_WIN_NEW },
    { 9, ZR_WIN_NEW },
    { 8, ZR_WIN_NEW },
    { 9, ZR_WIN_SEEN },
    { 8, ZR_WIN_SEEN },
    { 7, ZR_WIN_NEW },
    { ZR_WIN, ZR_WIN_NEW }, /* top: ZR_WIN + 1, the oldest: 1 */
    { 0, ZR_WIN_OLD },
    { 1, ZR_WIN_SEEN },
    { 2, ZR_WIN_NEW },
    { ZR_WIN + 2, ZR_WIN_NEW },
    { 2, ZR_WIN_OLD },
    { 3, ZR_WIN_NEW },
    { ZR_WIN + 1, ZR_WIN_NEW },
    { 3 * ZR_WIN, ZR_WIN_NEW }, /* beyond the whole window */
    { ZR_WIN + 2, ZR_WIN_OLD },
    { 2 * ZR_WIN, ZR_WIN_OLD },
    { 2 * ZR_WIN + 1, ZR_WIN_NEW },
    { 2 * ZR_WIN + 64, ZR_WIN_NEW },
    { 2 * ZR_WIN + 64, ZR_WIN_SEEN },
    { UINT64_MAX - 1, ZR_WIN_NEW },
    { UINT64_MAX - 1, ZR_WIN_SEEN },
    { UINT64_MAX - ZR_WIN, ZR_WIN_NEW },
    { UINT64_MAX - ZR_WIN - 1, ZR_WIN_OLD },
    { UINT64_MAX, ZR_WIN_OLD }, /* no number is one above it */
};

ZR_TEST(a_window_says_new_once_then_seen_then_old)
{
    zr_win win;

    zr_win_init(&win);
    for (size_t i = 0; i < ZR_LEN(steps); i++) {
        CHECK_EQ(zr_win_look(&win, steps[i].n), steps[i].want);
        CHECK_EQ(zr_win_mark(&win, steps[i].n), steps[i].want);
    }
}

ZR_TEST(looking_changes_nothing)
{
    zr_win win, before;

    zr_win_init(&win);
    zr_win_mark(&win, 100);
    before = win;
    zr_win_look(&win, 5);
    zr_win_look(&win, 100000);
    CHECK(memcmp(&win, &before, sizeof win) == 0);
}

ZR_TEST(every_number_of_a_full_window_stays_seen_while_it_slides)
{
    zr_win win;

    zr_win_init(&win);
    for (uint64_t n = 0; n < 3 * ZR_WIN; n++)
        CHECK_EQ(zr_win_mark(&win, n), ZR_WIN_NEW);
    for (uint64_t n = 2 * ZR_WIN; n < 3 * ZR_WIN; n++)
        CHECK_EQ(zr_win_look(&win, n), ZR_WIN_SEEN);
    CHECK_EQ(zr_win_look(&win, 2 * ZR_WIN - 1), ZR_WIN_OLD);
}

ZR_TEST(numbers_jumped_over_are_new_for_every_length_of_the_jump)
{
    for (uint64_t jump = 1; jump <= ZR_WIN + 130; jump += jump < 200 || jump > ZR_WIN - 200 ? 1 : 61) {
        zr_win win;
        zr_win_init(&win);
        for (uint64_t n = 0; n < ZR_WIN + 70; n++) /* all bits set, begins inside a word */
            zr_win_mark(&win, n);
        uint64_t last = ZR_WIN + 69, top = last + jump;
        CHECK_EQ(zr_win_mark(&win, top), ZR_WIN_NEW);
        for (uint64_t n = ZR_MAX(last + 1, top - ZR_WIN + 1); n < top; n += 1 + (top - n) / 8)
            CHECK_EQ(zr_win_look(&win, n), ZR_WIN_NEW);
        if (top - last < ZR_WIN)
            CHECK_EQ(zr_win_look(&win, last), ZR_WIN_SEEN);
    }
}
