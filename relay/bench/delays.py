"""Log-linear histograms of delay, as csrc/stat counts them: 8 buckets an octave, at most 12.5 % wide."""

from __future__ import annotations

import math

from relay._load import hist_floor


def percentile_ns(buckets: list[int], share: float) -> float | None:
    """The middle of the bucket the nearest-rank value lies in; None of nothing."""
    total = sum(buckets)
    rank = max(1, math.ceil(share * total))
    for bucket, count in enumerate(buckets):
        rank -= count
        if rank <= 0 and total > 0:
            return (hist_floor(bucket) + hist_floor(bucket + 1)) / 2
    return None


def percentiles_us(buckets: list[int]) -> dict[str, float | None]:
    """p50_us, p99_us, p999_us, max_us."""
    shares = {"p50_us": 0.5, "p99_us": 0.99, "p999_us": 0.999, "max_us": 1.0}
    found = {name: percentile_ns(buckets, share) for name, share in shares.items()}
    return {name: None if ns is None else round(ns / 1000, 1) for name, ns in found.items()}
