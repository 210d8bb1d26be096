"""What a verdict of `zrelay bench ab` may claim: on noise nothing, on a real difference that one."""

from __future__ import annotations

import math
import random

import pytest

from relay.bench.stats import PAIRS_MIN, heaps_ratio, line, paired_ratio, summary_ratio, verdict

ROUNDS = 12


def drawn(
    rng: random.Random, shift: float, noise: float, drift: float = 0.0, stalls: float = 0.05
) -> tuple[list[float], list[float]]:
    """Pairs as alternating runs give them, on a machine that drifts and now and then stalls."""
    sides: tuple[list[float], list[float]] = ([], [])
    for number in range(ROUNDS):
        for side in ((0, 1), (1, 0))[number % 2]:
            stall = rng.expovariate(10) if rng.random() < stalls else 0.0
            value = 100 * (1 + drift * number) * math.exp(rng.gauss(0, noise)) * (1 + stall)
            sides[side].append(value * (1 + shift) if side else value)
    return sides


def test_of_a_thousand_runs_against_itself_at_most_one_in_twenty_claims_a_difference() -> None:
    for noise, drift in ((0.01, 0.0), (0.1, 0.0), (0.02, 0.01)):
        rng = random.Random(20)
        claims = sum(
            verdict(paired_ratio(*drawn(rng, 0.0, noise, drift))) != "no difference shown" for _ in range(1000)
        )
        assert claims <= 50, (noise, drift)


def test_five_percent_is_found_in_noise_of_one_percent() -> None:
    rng = random.Random(3)
    for shift, word in ((0.05, "slower"), (-0.05, "faster")):
        for stalls, least in ((0.0, 200), (0.05, 150)):
            found = [str(verdict(paired_ratio(*drawn(rng, shift, 0.01, stalls=stalls)))) for _ in range(200)]
            assert found.count(word) >= least, stalls
            assert set(found) <= {word, "no difference shown"}


def test_the_interval_holds_the_true_ratio() -> None:
    rng = random.Random(5)
    held = 0
    for _ in range(300):
        interval = paired_ratio(*drawn(rng, 0.03, 0.02))
        held += interval.low <= 1.03 <= interval.high
    assert held >= 290


def test_more_is_better_turns_the_verdict_around() -> None:
    old, new = drawn(random.Random(1), 0.2, 0.01)
    assert verdict(paired_ratio(old, new)) == "slower"
    assert verdict(paired_ratio(old, new), higher_is_better=True) == "faster"


def test_few_pairs_never_claim_anything() -> None:
    few = [1.0] * (PAIRS_MIN - 1)
    interval = paired_ratio(few, [value * 3 for value in few])
    assert interval.ratio == pytest.approx(3)
    assert (interval.low, interval.high) == (0.0, math.inf)
    assert verdict(interval) == "no difference shown"
    enough = [1.0] * PAIRS_MIN
    assert verdict(paired_ratio(enough, [value * 3 for value in enough])) == "slower"


def test_what_is_no_pair_is_refused() -> None:
    for old, new in (([1.0], [1.0, 2.0]), ([], []), ([0.0], [1.0]), ([1.0], [-1.0])):
        with pytest.raises(ValueError):
            paired_ratio(old, new)


def test_heaps_and_summaries_know_their_noise() -> None:
    rng = random.Random(9)
    old = [rng.gauss(100, 1) for _ in range(30)]
    new = [rng.gauss(110, 1) for _ in range(30)]
    for interval in (heaps_ratio(old, new), summary_ratio((100, 1, 30), (110, 1, 30))):
        assert interval.low > 1.08
        assert interval.high < 1.12
    assert heaps_ratio([1.0], [2.0]).high == math.inf
    assert summary_ratio((1, 0, 1), (2, 0, 1)).high == math.inf
    same = heaps_ratio(old, [rng.gauss(100, 1) for _ in range(30)])
    assert same.low <= 1 <= same.high


def test_heaps_of_the_same_seldom_differ() -> None:
    for count in (5, 8, 20):
        rng = random.Random(count)
        claims = 0
        for seed in range(40):
            old, new = ([rng.gauss(100, 10) for _ in range(count)] for _ in range(2))
            interval = heaps_ratio(old, new, seed=seed)
            claims += not interval.low <= 1 <= interval.high
        assert claims <= 2, count


def test_a_line_says_how_sure_its_slope_is() -> None:
    rng = random.Random(2)
    xs = [float(x) for x in range(100)]
    flat = line(xs, [500 + rng.gauss(0, 10) for _ in xs])
    assert abs(flat.slope) < 3 * flat.error
    steep = line(xs, [500 + 2 * x + rng.gauss(0, 10) for x in xs])
    assert steep.slope == pytest.approx(2, abs=4 * steep.error)
    with pytest.raises(ValueError):
        line([1, 2], [1, 2])
    with pytest.raises(ValueError):
        line([1, 1, 1], [1, 2, 3])
