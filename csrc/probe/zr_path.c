#include "probe/zr_path.h"

#include <string.h>

#define NONE      INT64_MAX
#define SECOND    ZR_SEC(1)
#define MINUTE    ZR_SEC(60)
#define DELAYS_OF MINUTE
#define STRAGGLER ZR_MS(100) /* a hole may be filled that long before it counts as a run */

/* Peers say any number: differences of times wrap rather than overflow. */
static int64_t minus(zr_ns_t a, zr_ns_t b)
{
    return (int64_t)((uint64_t)a - (uint64_t)b);
}

static void least_init(zr_path_least *least, zr_ns_t now)
{
    least->second = now / SECOND;
    for (size_t i = 0; i < ZR_LEN(least->value); i++)
        least->value[i] = NONE;
}

static void least_put(zr_path_least *least, int64_t value, zr_ns_t now)
{
    int64_t second = now / SECOND, count = ZR_LEN(least->value);

    for (int64_t s = ZR_MAX(least->second + 1, second - count + 1); s <= second; s++)
        least->value[s % count] = NONE;
    least->second = second;
    if (value < least->value[second % count])
        least->value[second % count] = value;
}

static int64_t least_of(const zr_path_least *least)
{
    int64_t value = NONE;

    for (size_t i = 0; i < ZR_LEN(least->value); i++)
        value = ZR_MIN(value, least->value[i]);
    return value;
}

static void share_put(zr_path_share *share, uint32_t expected, uint32_t received, zr_ns_t now)
{
    int64_t second = now / SECOND, count = ZR_PATH_SHARE_S;

    for (int64_t s = ZR_MAX(share->second + 1, second - count + 1); s <= second; s++) {
        share->all_expected -= share->expected[s % count];
        share->all_received -= share->received[s % count];
        share->expected[s % count] = share->received[s % count] = 0;
    }
    share->second = second;
    share->expected[second % count] += expected;
    share->received[second % count] += received;
    share->all_expected += expected;
    share->all_received += received;
}

double zr_path_loss(const zr_path_share *share)
{
    if (share->all_expected == 0 || share->all_received >= share->all_expected)
        return 0;
    return (double)(share->all_expected - share->all_received) / (double)share->all_expected;
}

void zr_path_init(zr_path *path, zr_ns_t now)
{
    memset(path, 0, sizeof *path);
    path->in.second = path->out.second = now / SECOND;
    path->minute = now / MINUTE;
    least_init(&path->in_least, now);
    least_init(&path->out_least, now);
    zr_clocks_init(&path->clocks);
}

static void note_run(zr_path *path, uint32_t lost, zr_ns_t now)
{
    int64_t minute = now / MINUTE, count = ZR_PATH_RUN_MIN;

    for (int64_t m = ZR_MAX(path->minute + 1, minute - count + 1); m <= minute; m++)
        path->most_lost[m % count] = 0;
    path->minute = minute;
    if (lost > path->most_lost[minute % count])
        path->most_lost[minute % count] = lost;
}

static void close_gap(zr_path *path)
{
    if (path->gap.at != 0)
        note_run(path, (uint32_t)(path->gap.to - path->gap.from) - path->gap.filled, path->gap.at);
    path->gap.at = 0;
}

static void begin(zr_path *path, uint32_t run, uint64_t counter)
{
    close_gap(path);
    path->counting = true;
    path->run = run;
    path->next = counter + 1;
}

void zr_path_on_counter(zr_path *path, uint32_t run, uint64_t counter, zr_ns_t now)
{
    uint32_t expected = 1;

    if (path->counting && run < path->run)
        return;
    if (!path->counting || run > path->run) {
        begin(path, run, counter);
    } else if (counter < path->next) { /* a straggler: it was given up as lost */
        path->reordered++;
        expected = 0;
        if (path->gap.at != 0 && counter >= path->gap.from && counter < path->gap.to)
            path->gap.filled++;
    } else {
        uint64_t lost = counter - path->next;
        if (path->gap.at != 0 && (lost > 0 || now - path->gap.at >= STRAGGLER))
            close_gap(path);
        if (lost > ZR_PATH_JUMP_MAX || (lost > 0 && now - path->heard > ZR_PATH_OUTAGE)) {
            begin(path, run, counter);
        } else if (lost > 0) {
            path->gap.from = path->next;
            path->gap.to = counter;
            path->gap.filled = 0;
            path->gap.at = ZR_MAX(now, 1);
            expected += (uint32_t)lost;
        }
        path->next = counter + 1;
    }
    path->expected += expected;
    path->received++;
    share_put(&path->in, expected, 1, now);
    path->heard = now;
}

void zr_path_on_told(zr_path *path, uint32_t expected, uint32_t received, uint32_t run, zr_ns_t now)
{
    uint32_t more_expected = expected - path->told_expected, more_received = received - path->told_received;

    /* What goes back, or grows by more than could have been sent meanwhile, is a lie or a peer that began anew. */
    if (path->told && more_expected <= ZR_PATH_JUMP_MAX && more_received <= ZR_PATH_JUMP_MAX)
        share_put(&path->out, more_expected, more_received, now);
    path->told = true;
    path->told_expected = expected;
    path->told_received = received;
    path->told_run = run;
}

void zr_path_on_clock(zr_path *path, zr_ns_t left, zr_ns_t now)
{
    int64_t in = minus(now, left);

    if (path->in_known) {
        int64_t change = minus(in, path->in_last);
        uint64_t size = change < 0 ? -(uint64_t)change : (uint64_t)change;
        path->jitter16_ns += ZR_MIN(size, (uint64_t)SECOND) - path->jitter16_ns / 16;
    }
    path->in_known = true;
    path->in_last = path->in_ns = in;
    least_put(&path->in_least, in, now);
}

bool zr_path_answer_ok(zr_ns_t sent, zr_ns_t came, zr_ns_t left, zr_ns_t now)
{
    int64_t held = minus(left, came), trip = now - sent;

    return trip >= 0 && held >= 0 && held <= trip + trip / 1024; /* clocks drift, but not by a thousandth */
}

static void round_trip(zr_path *path, uint32_t us)
{
    if (path->samples == 0) {
        path->srtt_us = us;
        path->rttvar_us = us / 2;
        path->rtt_min_us = us;
    } else {
        uint32_t off = us > path->srtt_us ? us - path->srtt_us : path->srtt_us - us;
        path->rttvar_us = (uint32_t)((3 * (uint64_t)path->rttvar_us + off) / 4);
        path->srtt_us = (uint32_t)((7 * (uint64_t)path->srtt_us + us) / 8);
        path->rtt_min_us = ZR_MIN(path->rtt_min_us, us);
    }
    path->rtt_us[path->samples++ % ZR_PATH_SAMPLES] = us;
}

void zr_path_on_answer(zr_path *path, zr_ns_t sent, zr_ns_t came, zr_ns_t left, zr_ns_t now)
{
    int64_t out = minus(came, sent);

    round_trip(path, (uint32_t)ZR_MIN((now - sent) / 1000, (zr_ns_t)UINT32_MAX));
    zr_path_on_clock(path, left, now);
    path->out_ns = out;
    least_put(&path->out_least, out, now);
    zr_clocks_put(&path->clocks, sent, out, path->in_ns, now);
}

uint32_t zr_path_longest(const zr_path *path, zr_ns_t now)
{
    int64_t oldest = now / MINUTE - ZR_PATH_RUN_MIN + 1;
    uint32_t most = 0;

    if (path->gap.at != 0)
        most = (uint32_t)(path->gap.to - path->gap.from) - path->gap.filled;
    for (int64_t m = ZR_MAX(oldest, path->minute - ZR_PATH_RUN_MIN + 1); m <= path->minute; m++)
        if (m >= 0)
            most = ZR_MAX(most, path->most_lost[m % ZR_PATH_RUN_MIN]);
    return most;
}

static int64_t above(const zr_path_least *least, int64_t value)
{
    int64_t floor = least_of(least);
    if (floor == NONE || value <= floor)
        return 0;
    int64_t more = minus(value, floor);
    return more < 0 ? INT64_MAX : more; /* a clock that jumps about */
}

int64_t zr_path_queue_in(const zr_path *path)
{
    return above(&path->in_least, path->in_ns);
}

int64_t zr_path_queue_out(const zr_path *path)
{
    return above(&path->out_least, path->out_ns);
}

bool zr_path_offset(const zr_path *path, zr_ns_t now, int64_t *offset, double *drift_ppm)
{
    zr_clocks_view view;
    bool known = zr_clocks_look(&path->clocks, now, &view);

    *offset = known ? (int64_t)view.offset_ns : 0;
    *drift_ppm = known ? view.drift * 1e6 : 0;
    return known;
}

static int64_t delay_of(double ns)
{
    return ns <= 0 ? 0 : ns >= 9e18 ? INT64_MAX : (int64_t)ns;
}

void zr_path_delays(const zr_path *path, int64_t offset, double drift_ppm, zr_ns_t now, int64_t *in, int64_t *out,
                    int64_t *error)
{
    double drift = drift_ppm / 1e6, least_out, least_in;

    *error = zr_clocks_least(&path->clocks, 0, drift, now, &least_out, &least_in) ? delay_of((least_out + least_in) / 2)
                                                                                  : INT64_MAX;
    (void)zr_clocks_least(&path->clocks, now - DELAYS_OF, drift, now, &least_out, &least_in);
    *in = delay_of(least_in + (double)offset);
    *out = delay_of(least_out - (double)offset);
}

static bool share_ok(const zr_path_share *share)
{
    uint64_t expected = 0, received = 0;

    for (uint32_t i = 0; i < ZR_PATH_SHARE_S; i++) {
        expected += share->expected[i];
        received += share->received[i];
    }
    return expected == share->all_expected && received == share->all_received;
}

bool zr_path_check(const zr_path *path)
{
    if (path->gap.at != 0 && (path->gap.to <= path->gap.from || path->gap.filled > path->gap.to - path->gap.from))
        return false;
    return share_ok(&path->in) && share_ok(&path->out);
}
