#include "kcp/zr_kcp_path.h"

#include "coll/zr_seq.h"
#include "kcp/zr_kcp_plan.h"

#define BASE_HALF      15000u
#define RECENT_HALF    100u
#define NONE           INT32_MAX
#define OUTCOMES_MIN   256u /* the window of the loss estimate: 1.3 s at 200 packets a second */
#define OUTCOMES_FIRST 16u  /* the weight of what is assumed at the start */
#define ASSUMED_PPM    50000u
#define LEVEL_EVERY    8u
#define REORDER_STEP   128 /* 1/256 ms, at least, else the share of what it is */
#define REORDER_SHARE  8
#define REORDER_SPREAD 6

static void least_init(zr_kcp_least *least, uint32_t half, uint32_t ms)
{
    *least = (zr_kcp_least){ .now = NONE, .before = NONE, .since = ms, .half = half };
}

static void least_add(zr_kcp_least *least, int32_t value, uint32_t ms)
{
    uint32_t age = ms - least->since;

    if (age >= least->half) {
        least->before = age < 2 * least->half ? least->now : NONE;
        least->now = NONE;
        least->since = ms;
    }
    least->now = ZR_MIN(least->now, value);
}

static int32_t least_of(const zr_kcp_least *least)
{
    return ZR_MIN(least->now, least->before);
}

/* Up by steps that grow with the gap and the spread, down by a small share of them: a quantile. Which one depends on
 * the loss: an arrival whose first ACKs were lost gives a late sample, and those must not count. */
static void follow_high(zr_kcp_path *path, int32_t rtt256)
{
    int32_t gap = rtt256 - path->high256, spread = path->high256 - least_of(&path->recent) * 256;
    int32_t step = ZR_MIN(ZR_MAX(spread / 16, 32), 1024);

    if (gap > 0)
        path->high256 += ZR_MIN(ZR_MAX(gap / 8, step), 1024);
    else if (gap < 0)
        path->high256 -= ZR_MAX(step * path->fall256 / 256, 1);
}

static void set_level(zr_kcp_path *path)
{
    uint32_t level = zr_kcp_plan_level(path->failed_ppm / 1e6, path->copies);
    if (level == path->level && path->fall256 != 0)
        return;
    path->level = level;
    path->version++;
    path->fall256 = (int32_t)(256 * (0.02 + zr_kcp_plan_unheard(path->level)));
    path->calm256 = (int32_t)(256 * (0.01 + zr_kcp_plan_loss(path->level) / 2));
}

void zr_kcp_path_init(zr_kcp_path *path, uint32_t ms)
{
    *path = (zr_kcp_path){ .srtt = ZR_KCP_PATH_RTT_START,
                           .timer = ZR_KCP_PATH_RTT_START,
                           .failed_ppm = ASSUMED_PPM,
                           .outcomes = OUTCOMES_FIRST,
                           .copies = 1,
                           .rate_since = ms };
    least_init(&path->base, BASE_HALF, ms);
    least_init(&path->recent, RECENT_HALF, ms);
    set_level(path);
}

static uint32_t timer_of(const zr_kcp_path *path)
{
    int32_t least = least_of(&path->recent), floor = least + ZR_KCP_PATH_SLACK;
    uint32_t steady = (uint32_t)ZR_MAX(floor, (path->high256 + 255) / 256 + ZR_KCP_PATH_SLACK * 5 / 8);
    return steady + (uint32_t)path->reorder256 / 256;
}

void zr_kcp_path_rtt(zr_kcp_path *path, int32_t rtt, uint32_t ms)
{
    int32_t rtt16 = ZR_MAX(rtt, 1) * 16;
    uint32_t srtt = path->srtt, timer = path->timer;
    bool full = path->full;

    if (rtt == path->last && ms == path->last_at && path->srtt16 != 0)
        return; /* more of the same millisecond says nothing new */
    path->last = rtt;
    path->last_at = ms;

    least_add(&path->base, rtt, ms);
    least_add(&path->recent, rtt, ms);
    if (path->srtt16 == 0)
        path->srtt16 = rtt16, path->high256 = rtt16 * 16;
    path->srtt16 += (rtt16 - path->srtt16) / 8;
    follow_high(path, rtt16 * 16);
    path->srtt = (uint32_t)ZR_MAX(path->srtt16 / 16, 1);
    path->timer = timer_of(path);
    path->full = zr_kcp_path_queue(path) > (path->full ? ZR_KCP_PATH_QUEUE / 2 : ZR_KCP_PATH_QUEUE);
    path->version += srtt != path->srtt || timer != path->timer || full != path->full;
}

void zr_kcp_path_outcome(zr_kcp_path *path, bool arrived, uint32_t in_flight)
{
    uint32_t most = ZR_MAX(OUTCOMES_MIN, 4 * in_flight);
    int32_t gap = (arrived ? 0 : 1000000) - (int32_t)path->failed_ppm;

    path->outcomes = ZR_MIN(path->outcomes + 1, most);
    path->failed_ppm = (uint32_t)((int32_t)path->failed_ppm + gap / (int32_t)path->outcomes);
    if (gap > 0 || path->outcomes % LEVEL_EVERY == 0)
        set_level(path);
}

void zr_kcp_path_arrived(zr_kcp_path *path, uint32_t count, uint32_t in_flight)
{
    uint32_t most = ZR_MAX(OUTCOMES_MIN, 4 * in_flight), share;

    path->outcomes = ZR_MIN(path->outcomes + count, most);
    share = ZR_MIN(count, path->outcomes / 2);
    path->failed_ppm -= (uint32_t)((uint64_t)path->failed_ppm * share / path->outcomes);
    set_level(path);
}

void zr_kcp_path_set_copies(zr_kcp_path *path, uint32_t copies)
{
    double failed = 1;

    if (copies == path->copies)
        return;
    double loss = zr_kcp_path_loss_ppm(path) / 1e6;
    for (uint32_t i = 0; i < copies; i++)
        failed *= loss;
    path->copies = copies;
    path->failed_ppm = (uint32_t)(failed * 1e6);
}

/* RFC 8985's reordering window, a quantile: up when something was sent again for nothing, down with what came in time.
 * Lost ACKs, too, make that happen. So it is no more than the prompt samples vary by, which those hardly touch; and the
 * more is lost, the more of it is borne with: then an attempt before the deadline is worth more than what it costs. */
static void set_reorder(zr_kcp_path *path, int32_t reorder256)
{
    int32_t before = path->reorder256 / 256, most = path->srtt16 * 16;

    if (most == 0)
        return;
    most = ZR_MIN(most, REORDER_SPREAD * ZR_MAX(most - least_of(&path->recent) * 256, 0));
    path->reorder256 = ZR_MAX(ZR_MIN(reorder256, most), 0);
    if (path->reorder256 / 256 == before)
        return;
    path->timer = timer_of(path);
    path->version++;
}

static int32_t reorder_step(const zr_kcp_path *path)
{
    return ZR_MAX(path->reorder256 / REORDER_SHARE, REORDER_STEP);
}

void zr_kcp_path_spurious(zr_kcp_path *path, uint32_t late)
{
    if (late > zr_kcp_path_patience(path))
        set_reorder(path, path->reorder256 + reorder_step(path));
}

void zr_kcp_path_in_time(zr_kcp_path *path, uint32_t count)
{
    int64_t fall = (int64_t)count * ZR_MAX(reorder_step(path) * path->calm256 / 256, 1);

    if (path->reorder256 > 0)
        set_reorder(path, (int32_t)ZR_MAX(path->reorder256 - fall, 0));
}

void zr_kcp_path_bytes(zr_kcp_path *path, uint32_t acknowledged, uint32_t ms)
{
    uint32_t span = ms - path->rate_since;

    path->rate_bytes += acknowledged;
    if (span < ZR_KCP_PATH_RATE_MS)
        return;
    path->rate_kbps = (uint32_t)ZR_MIN((uint64_t)path->rate_bytes * 8 / span, (uint64_t)UINT32_MAX);
    path->rate_best_kbps = ZR_MAX(path->rate_kbps, path->rate_best_kbps - path->rate_best_kbps / 32);
    path->rate_bytes = 0;
    path->rate_since = ms;
}

uint32_t zr_kcp_path_queue(const zr_kcp_path *path)
{
    int32_t base = least_of(&path->base), recent = least_of(&path->recent);
    return base == NONE || recent == NONE || recent <= base ? 0 : (uint32_t)(recent - base);
}

uint32_t zr_kcp_path_loss_ppm(const zr_kcp_path *path)
{
    double failed = path->failed_ppm / 1e6, low = 0, high = 1;

    for (int i = 0; i < 20; i++) { /* the root, without libm */
        double middle = (low + high) / 2, all = 1;
        for (uint32_t n = 0; n < path->copies; n++)
            all *= middle;
        *(all < failed ? &low : &high) = middle;
    }
    return (uint32_t)(high * 1e6);
}
