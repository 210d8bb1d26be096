/* floors: coll */
#define ZR_WIN 8192

typedef struct zr_win {
    uint64_t top;
    ...;
} zr_win;

enum zr_win_verdict { ZR_WIN_NEW, ZR_WIN_SEEN, ZR_WIN_OLD, ... };

void zr_win_init(zr_win *win);
enum zr_win_verdict zr_win_look(const zr_win *win, uint64_t n);
enum zr_win_verdict zr_win_mark(zr_win *win, uint64_t n);
