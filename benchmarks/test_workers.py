"""Of workers under load: what a second one costs, and how long a packet stays inside a relay."""

from __future__ import annotations

import asyncio
from statistics import median
from typing import Any

import pytest

from benchmarks.machine import Meter, slack
from relay.bench.contenders import Relays
from relay.bench.run import measured
from relay.bench.traffic import Shape

pytestmark = pytest.mark.figures

SECOND_WORKER_MAX = 1.1
INSIDE_P50_US, INSIDE_P99_US = 60.0, 400.0
ROUNDS, SECONDS = 3, 6.0


def load(workers: int, streams: int, pps: int, frame: int, subscribers: int) -> dict[str, Any]:
    shape = Shape(streams=streams, subscribers=subscribers, pps=pps, frame=frame)
    made = asyncio.run(measured(Relays("relay", workers=workers), shape, SECONDS, "127.0.0.1"))
    assert made["delivered_pct"] >= 99.99
    return made


def test_a_packet_costs_as_much_with_a_second_worker_on_streams_of_its_own() -> None:
    """The same streams and packets through one worker and through two, in alternating rounds; the median pair."""
    pairs = []
    for _ in range(ROUNDS):
        pairs.append([load(workers, 2, 5000, 8, 10)["cpu_us_per_packet"] for workers in (1, 2)])
    ratio = median(two / one for one, two in pairs)
    print(f"\nµs of CPU per packet delivered by one worker and by two: {pairs}, ratio {ratio:.3f}")
    assert ratio <= SECOND_WORKER_MAX * slack()


def test_a_packet_stays_inside_a_relay_for_microseconds() -> None:
    """5 000 packets a second, from `SO_TIMESTAMPNS` to the return of `sendmmsg`; the median round."""
    meter = Meter()
    rounds = sorted(
        (load(1, 1, 5000, 8, 1)["inside_us"] for _ in range(ROUNDS)), key=lambda inside: float(inside["p99"])
    )
    inside = rounds[ROUNDS // 2]
    print(f"\nµs inside, {ROUNDS} rounds of {SECONDS * 5000:.0f} packets: {rounds}")
    factor = slack(meter.busy_cores())
    assert inside["p50"] <= INSIDE_P50_US * factor
    assert inside["p99"] <= INSIDE_P99_US * factor
