"""What repeated measurements prove: intervals for a ratio, from pairs and from two heaps.

Plain and distribution-free where it decides: of pairs, the Hodges-Lehmann estimate with the exact interval of
Wilcoxon's signed ranks. Under "no difference" a pair's log ratio is as likely above 0 as below by as much, whatever
the noise looks like, so a claim at level `alpha` is wrong at most that often.
"""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Sequence
from typing import Literal, NamedTuple

ALPHA = 0.01  # of a claimed difference
PAIRS_MIN = 8  # below this no result of signed ranks is that rare: 2 / 2**8 < 0.01
BOOTSTRAPS = 2000

Verdict = Literal["faster", "slower", "no difference shown"]


class Interval(NamedTuple):
    """A ratio new / old, and where it may lie; `low` 0 and `high` infinite: nothing is known."""

    ratio: float
    low: float
    high: float


def paired_ratio(old: Sequence[float], new: Sequence[float], alpha: float = ALPHA) -> Interval:
    """Of pairs measured next to each other: old[i] with new[i]. All > 0; ValueError otherwise."""
    if len(old) != len(new) or not old:
        raise ValueError("pairs are wanted")
    if min(*old, *new) <= 0:
        raise ValueError("a ratio needs figures above 0")
    logs = [math.log(b / a) for a, b in zip(old, new, strict=True)]
    walsh = sorted((logs[i] + logs[j]) / 2 for i in range(len(logs)) for j in range(i, len(logs)))
    cut = _signed_rank_cut(len(logs), alpha)
    middle = math.exp(statistics.median(walsh))
    if cut is None:
        return Interval(middle, 0.0, math.inf)
    return Interval(middle, math.exp(walsh[cut]), math.exp(walsh[-1 - cut]))


def _signed_rank_cut(pairs: int, alpha: float) -> int | None:
    """How many Walsh averages lie outside on each side; None when even all signs alike are not rare enough.

    The largest c with P(W < = c) <= alpha / 2: ways[w] counts the sets of the ranks 1..n that sum to w.
    """
    ways = [1]
    for rank in range(1, pairs + 1):
        longer = ways + [0] * rank
        for at, count in enumerate(ways):
            longer[at + rank] += count
        ways = longer
    allowed, seen, cut = alpha / 2 * 2**pairs, 0, None
    for at, count in enumerate(ways):
        seen += count
        if seen > allowed:
            break
        cut = at
    return cut


def verdict(interval: Interval, *, higher_is_better: bool = False) -> Verdict:
    """A win or a loss only where the whole interval says so."""
    if interval.low <= 1 <= interval.high:
        return "no difference shown"
    return "faster" if (interval.ratio < 1) != higher_is_better else "slower"


def heaps_ratio(old: Sequence[float], new: Sequence[float], *, seed: int = 1, alpha: float = ALPHA) -> Interval:
    """Of two heaps of samples that belong to no pairs: ratio of medians, bootstrap interval. Needs two of each."""
    ratio = _over(statistics.median(new), statistics.median(old))
    if min(len(old), len(new)) < 2:
        return Interval(ratio, 0.0, math.inf)
    rng = random.Random(seed)
    drawn = sorted(
        _over(statistics.median(rng.choices(new, k=len(new))), statistics.median(rng.choices(old, k=len(old))))
        for _ in range(BOOTSTRAPS)
    )
    out = int(alpha / 2 * BOOTSTRAPS)
    # Few samples hide the tails: a resampled median cannot leave them, so the whole range counts then.
    if min(len(old), len(new)) < PAIRS_MIN:
        return Interval(ratio, _over(min(new), max(old)), _over(max(new), min(old)))
    return Interval(ratio, drawn[out], drawn[-1 - out])


def summary_ratio(old: tuple[float, float, int], new: tuple[float, float, int], *, alpha: float = ALPHA) -> Interval:
    """Where only (mean, standard deviation, rounds) are left of each: normal, by the ratio's relative errors."""
    ratio = _over(new[0], old[0])
    if min(old[2], new[2]) < 2 or old[0] <= 0 or new[0] <= 0:
        return Interval(ratio, 0.0, math.inf)
    error = math.sqrt(sum((stddev / mean) ** 2 / rounds for mean, stddev, rounds in (old, new)))
    wide = math.exp(statistics.NormalDist().inv_cdf(1 - alpha / 2) * error)
    return Interval(ratio, ratio / wide, ratio * wide)


def _over(new: float, old: float) -> float:
    if old == 0:
        return 1.0 if new == 0 else math.inf
    return new / old


class Line(NamedTuple):
    """A straight line through points, and the standard error of its slope."""

    slope: float
    error: float


def line(xs: Sequence[float], ys: Sequence[float]) -> Line:
    """Least squares. At least 3 points that do not all lie above each other; ValueError otherwise."""
    count = len(xs)
    if count < 3 or len(set(xs)) < 2:
        raise ValueError("a line with an error needs three points")
    middle_x, middle_y = math.fsum(xs) / count, math.fsum(ys) / count
    square = math.fsum((x - middle_x) ** 2 for x in xs)
    slope = math.fsum((x - middle_x) * (y - middle_y) for x, y in zip(xs, ys, strict=True)) / square
    rest = math.fsum((y - middle_y - slope * (x - middle_x)) ** 2 for x, y in zip(xs, ys, strict=True))
    return Line(slope, math.sqrt(rest / (count - 2) / square))
