/*
 * zr_win.h - "seen before?" over the last 8 192 numbers (RFC 6479's way: a ring of words, cleared as it moves).
 *
 *        too old          | window of ZR_WIN numbers: seen or not |   ahead: moves the window
 *   ----------------------+---------------------------------------+--------------------------> n
 *                     top - ZR_WIN                               top
 *
 * Serves the envelope's replay counters and the streams' media numbers alike.
 */
#ifndef ZR_WIN_H
#define ZR_WIN_H

#include "base/zr_base.h"

#define ZR_WIN 8192u

typedef struct zr_win {
    uint64_t top; /* one above the highest number seen; 0: nothing seen */
    uint64_t bits[ZR_WIN / 64 + 1];
} zr_win;

enum zr_win_verdict { ZR_WIN_NEW = 0, ZR_WIN_SEEN = 1, ZR_WIN_OLD = 2 };

void zr_win_init(zr_win *win);
/* What `n` would be; changes nothing. UINT64_MAX is always OLD: nothing is one above it. */
enum zr_win_verdict zr_win_look(const zr_win *win, uint64_t n);
/* Marks `n` when it is new. */
enum zr_win_verdict zr_win_mark(zr_win *win, uint64_t n);

#endif
