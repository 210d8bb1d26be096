#include "probe/zr_clocks.h"

#include <string.h>

#define NONE       INT64_MAX
#define FAR        1e300
#define MOST_DRIFT 500e-6
#define USUAL      40e-6 /* the standard deviation of clocks */
#define FINE       10e3  /* nanoseconds: no jitter is less */
#define UNLIKELY   1e-4  /* a drift that is so much less likely than the best one is left out */
#define STEPS      48
#define RECENT     ZR_SEC(10)

/* Delays by time, both in nanoseconds: the points that a line from below can touch. In doubles: the peer's clock may
 * say anything. */
typedef struct lower_hull {
    struct {
        double at, delay;
    } corner[ZR_CLOCKS_POINTS];
    uint32_t count;
} lower_hull;

typedef struct evidence {
    lower_hull out, in;
    double trip; /* mean round trip */
    uint32_t trips;
} evidence;

/* A drift, and what follows from it. */
typedef struct guess {
    double drift, offset;
    double excess; /* mean delay of both ways beyond the least */
    double cost;   /* to the power of -trips: likelihood */
} guess;

void zr_clocks_init(zr_clocks *clocks)
{
    memset(clocks, 0, sizeof *clocks);
}

void zr_clocks_put(zr_clocks *clocks, zr_ns_t sent, int64_t out, int64_t in, zr_ns_t now)
{
    if (clocks->made == 0 || now - clocks->since >= ZR_CLOCKS_POINT) {
        clocks->points[clocks->made++ % ZR_CLOCKS_POINTS] = (zr_clocks_point){ .out = NONE, .in = NONE };
        clocks->since = now;
    }
    zr_clocks_point *point = &clocks->points[(clocks->made - 1) % ZR_CLOCKS_POINTS];
    if (out <= point->out) {
        point->out = out;
        point->out_at = sent;
    }
    if (in <= point->in) {
        point->in = in;
        point->in_at = now;
    }
    point->trips_ns += (int64_t)((uint64_t)out + (uint64_t)in); /* either may be anything, the sum is a time of ours */
    point->trips++;
}

/* What was asked earlier than the last and answered later is left out. */
static void hull_put(lower_hull *hull, double at, double delay)
{
    uint32_t count = hull->count;

    if (count > 0 && at <= hull->corner[count - 1].at)
        return;
    while (count >= 2) {
        double run = hull->corner[count - 1].at - hull->corner[count - 2].at;
        double rise = hull->corner[count - 1].delay - hull->corner[count - 2].delay;
        if (rise * (at - hull->corner[count - 2].at) < (delay - hull->corner[count - 2].delay) * run)
            break;
        count--;
    }
    hull->corner[count].at = at;
    hull->corner[count].delay = delay;
    hull->count = count + 1;
}

static double hull_least(const lower_hull *hull, double slope)
{
    double least = FAR;

    for (uint32_t i = 0; i < hull->count; i++)
        least = ZR_MIN(least, hull->corner[i].delay - slope * hull->corner[i].at);
    return least;
}

static uint32_t oldest(const zr_clocks *clocks)
{
    return clocks->made - ZR_MIN(clocks->made, ZR_CLOCKS_POINTS);
}

/* Times are those before now: 0 and less. */
static void gather(const zr_clocks *clocks, zr_ns_t now, evidence *all)
{
    double trips_ns = 0;

    all->out.count = all->in.count = all->trips = 0;
    for (uint32_t i = oldest(clocks); i != clocks->made; i++) {
        const zr_clocks_point *point = &clocks->points[i % ZR_CLOCKS_POINTS];
        hull_put(&all->out, (double)(point->out_at - now), (double)point->out);
        hull_put(&all->in, (double)(point->in_at - now), (double)point->in);
        all->trips += point->trips;
        trips_ns += (double)point->trips_ns;
    }
    all->trip = trips_ns / ZR_MAX(all->trips, 1u);
}

static guess guess_of(const evidence *all, double drift)
{
    double out = hull_least(&all->out, drift), in = hull_least(&all->in, -drift), unusual = drift / USUAL;
    double excess = ZR_MAX(all->trip - out - in, 0.0) / 2;

    return (guess){ .drift = drift,
                    .offset = (out - in) / 2,
                    .excess = excess,
                    .cost = (excess + FINE) * (1 + unusual * unusual / (2 * (double)all->trips)) };
}

/* How likely `a` is, of `b`. */
static double likelihood(const evidence *all, const guess *a, const guess *b)
{
    double product = 1, factor = b->cost / a->cost;

    for (uint32_t power = all->trips; power > 0; power /= 2, factor *= factor)
        if (power % 2 == 1)
            product *= factor;
    return product;
}

static guess likeliest(const evidence *all)
{
    double low = -MOST_DRIFT, high = MOST_DRIFT;

    for (int i = 0; i < 40; i++) {
        double third = (high - low) / 3;
        if (guess_of(all, low + third).cost > guess_of(all, high - third).cost)
            low += third;
        else
            high -= third;
    }
    return guess_of(all, (low + high) / 2);
}

/* The drift towards `end` from which on all are unlikely. */
static double limit(const evidence *all, const guess *best, double end)
{
    double near = best->drift, far = end;

    for (int i = 0; i < 20; i++) {
        guess middle = guess_of(all, (near + far) / 2);
        if (likelihood(all, &middle, best) > UNLIKELY)
            near = middle.drift;
        else
            far = middle.drift;
    }
    return far;
}

bool zr_clocks_look(const zr_clocks *clocks, zr_ns_t now, zr_clocks_view *view)
{
    double sum = 0, drift = 0, excess = 0, offset = 0, square = 0;
    evidence all;

    *view = (zr_clocks_view){ 0 };
    gather(clocks, now, &all);
    if (all.trips < ZR_CLOCKS_TRIPS)
        return false;
    guess best = likeliest(&all);
    double low = limit(&all, &best, -MOST_DRIFT), high = limit(&all, &best, MOST_DRIFT);
    for (int i = 0; i <= STEPS; i++) {
        guess one = guess_of(&all, low + (high - low) * i / STEPS);
        double weight = likelihood(&all, &one, &best), apart = one.offset - best.offset;
        sum += weight;
        drift += weight * one.drift;
        excess += weight * one.excess;
        offset += weight * apart;
        square += weight * apart * apart;
    }
    view->drift = drift / sum;
    view->offset_ns = best.offset + offset / sum;
    if (view->offset_ns >= 9e18 || view->offset_ns <= -9e18)
        return false;
    /* Along the true drift, too, the least of so many samples of each way is a little more than the way's. */
    double beyond = excess / sum / (all.trips - 1), variance = square / sum - offset / sum * (offset / sum);
    variance += 2 * beyond * beyond;
    bool all_seen = clocks->made >= ZR_CLOCKS_POINTS && now - clocks->since < RECENT;
    return all_seen || variance <= (double)ZR_CLOCKS_SURE * (double)ZR_CLOCKS_SURE;
}

bool zr_clocks_least(const zr_clocks *clocks, zr_ns_t since, double drift, zr_ns_t now, double *out, double *in)
{
    *out = *in = FAR;
    for (uint32_t i = oldest(clocks); i != clocks->made; i++) {
        const zr_clocks_point *point = &clocks->points[i % ZR_CLOCKS_POINTS];
        if (point->in_at < since)
            continue;
        *out = ZR_MIN(*out, (double)point->out + drift * (double)(now - point->out_at));
        *in = ZR_MIN(*in, (double)point->in - drift * (double)(now - point->in_at));
    }
    return *out < FAR;
}
