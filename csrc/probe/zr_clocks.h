/*
 * zr_clocks.h - the peer's clock against ours: how far ahead it is, and how much faster it runs. Sans-IO.
 *
 *   round trips ─▶ points: the least delay each way in 2 s ─▶ lower hulls ─┬─▶ of each drift: offset, likelihood
 *                                                                          └─▶ offset, drift: the mean over all drifts
 *
 * Along the true drift the least delays of both ways stay what they are; any other one makes some look shorter than the
 * path. So the larger the sum of both ways' least delays along a drift (its gap), the likelier that drift: the linear
 * programme of Moon, Skelly and Towsley, "Estimation and Removal of Clock Skew from Network Delay Measurements"
 * (INFOCOM 1999), for both ways at once. For delays that are exponential beyond the least, of a scale that is not
 * known,
 *
 *   likelihood(drift) ~ (mean round trip - gap(drift)) ^ -samples
 *
 * and half of these samples are counted: right where jitter is uniform, and the more careful where it is exponential.
 * The likeliest drift hangs on three samples; the mean over all, each by its likelihood and by how usual such a clock
 * is, is off by half as much, and how far they lie apart says how well the offset is known. Both ways' least delays are
 * those of the same round trips: the least of more samples on one side would be less.
 *
 * Right to half of what the two ways differ in their least delay; a symmetric path has no error there.
 */
#ifndef ZR_CLOCKS_H
#define ZR_CLOCKS_H

#include "base/zr_base.h"

#define ZR_CLOCKS_POINTS 64u
#define ZR_CLOCKS_POINT  ZR_SEC(2) /* so two minutes are remembered */
#define ZR_CLOCKS_TRIPS  8u        /* before anything is known */
#define ZR_CLOCKS_SURE   ZR_US(150)

/* The least delay each way of a while, and when it was seen. Each is off by what the clocks differ, their sum is not.
 */
typedef struct zr_clocks_point {
    int64_t out, in;
    zr_ns_t out_at, in_at;
    int64_t trips_ns; /* sum of the round trips, without what the peer held them for */
    uint32_t trips;
} zr_clocks_point;

typedef struct zr_clocks {
    zr_clocks_point points[ZR_CLOCKS_POINTS];
    uint32_t made; /* points since the start: the newest is points[(made - 1) % size] */
    zr_ns_t since; /* of the newest */
} zr_clocks;

typedef struct zr_clocks_view {
    double offset_ns; /* the peer's clock minus ours, now; fits an int64_t */
    double drift;     /* what it gains on ours, per unit of time */
} zr_clocks_view;

void zr_clocks_init(zr_clocks *clocks);
/* A round trip: begun at `sent`, ended `now`; each way took this long by both clocks. */
void zr_clocks_put(zr_clocks *clocks, zr_ns_t sent, int64_t out, int64_t in, zr_ns_t now);
/* False: not known. It is as soon as its standard deviation is at most ZR_CLOCKS_SURE, so that it is off by less than a
 * millisecond; or, where so much jitter leaves more than that, when all that is remembered has been seen. */
bool zr_clocks_look(const zr_clocks *clocks, zr_ns_t now, zr_clocks_view *view);
/* The least delay each way since then, brought to now along a drift; false: nothing was seen. */
bool zr_clocks_least(const zr_clocks *clocks, zr_ns_t since, double drift, zr_ns_t now, double *out, double *in);

#endif
