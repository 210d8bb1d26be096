"""Does something grow? A straight line through samples, and how sure of its slope one can be."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from relay.bench.stats import line

SURE = 2.6  # standard errors: 99 %
SHORT_H = 0.5  # shorter runs see caches and heaps fill; longer ones must not need the slack

Word = Literal["flat", "grows", "too short to tell"]


@dataclass(frozen=True)
class Trend:
    """Of one figure. `slope` and its 99 % interval are per hour; `allowed` too."""

    name: str
    unit: str
    slope: float
    low: float
    high: float
    allowed: float
    first: float
    last: float
    samples: int
    word: Word

    @classmethod
    def of(
        cls, name: str, unit: str, hours: Sequence[float], values: Sequence[float], allowed: float, slack: float
    ) -> Trend:
        """`allowed` per hour. In runs below SHORT_H a rise of `slack` in all is forgiven too. Needs three samples."""
        fitted = line(hours, values)
        error = SURE * fitted.error * _tied(hours, values, fitted.slope)
        low, high = fitted.slope - error, fitted.slope + error
        span = hours[-1] - hours[0]
        forgiven = slack if span < SHORT_H else 0.0
        word: Word = "too short to tell"
        if low > allowed and fitted.slope * span > forgiven:
            word = "grows"
        elif high <= allowed:
            word = "flat"
        third = max(1, len(values) // 3)
        first, last = (math.fsum(part) / third for part in (values[:third], values[-third:]))
        return cls(name, unit, fitted.slope, low, high, allowed, first, last, len(values), word)


def _tied(xs: Sequence[float], ys: Sequence[float], slope: float) -> float:
    """Memory moves in steps: neighbours tell less than as many independent samples would. By how much less is known."""
    middle = sum(ys) / len(ys) - slope * sum(xs) / len(xs)
    rest = [y - middle - slope * x for x, y in zip(xs, ys, strict=True)]
    square = math.fsum(value * value for value in rest)
    if square == 0:
        return 1.0
    tied = math.fsum(a * b for a, b in pairwise(rest)) / square
    tied = min(max(tied, 0.0), 0.95)
    return math.sqrt((1 + tied) / (1 - tied))
