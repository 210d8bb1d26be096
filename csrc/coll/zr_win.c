#include "coll/zr_win.h"

#include <string.h>

/* One word more than the window holds: a window that begins inside a word still ends in a word of its own. */
#define WORDS (ZR_WIN / 64 + 1)

void zr_win_init(zr_win *win)
{
    memset(win, 0, sizeof *win);
}

enum zr_win_verdict zr_win_look(const zr_win *win, uint64_t n)
{
    /* The last number of all has no "one above": it can never be taken, so it counts as gone by. */
    if (n == UINT64_MAX)
        return ZR_WIN_OLD;
    if (n >= win->top)
        return ZR_WIN_NEW;
    if (win->top - n > ZR_WIN)
        return ZR_WIN_OLD;
    return (win->bits[n / 64 % WORDS] >> (n % 64) & 1) != 0 ? ZR_WIN_SEEN : ZR_WIN_NEW;
}

enum zr_win_verdict zr_win_mark(zr_win *win, uint64_t n)
{
    enum zr_win_verdict verdict = zr_win_look(win, n);

    if (verdict != ZR_WIN_NEW)
        return verdict;
    if (n >= win->top) {
        /* The words that the window moves onto held numbers that are too old by now. */
        uint64_t last = win->top == 0 ? 0 : (win->top - 1) / 64;
        uint64_t moved = ZR_MIN(n / 64 - last, (uint64_t)WORDS);
        for (uint64_t i = 0; i < moved; i++)
            win->bits[(n / 64 - i) % WORDS] = 0;
        win->top = n + 1;
    }
    win->bits[n / 64 % WORDS] |= (uint64_t)1 << (n % 64);
    return ZR_WIN_NEW;
}
