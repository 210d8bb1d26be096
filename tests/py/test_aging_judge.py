"""The judge of `zrelay bench aging` on a recorded minute: as it was, and with a leak sown into it."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from relay.bench.aging import Sample, figures, findings, trends
from relay.bench.churn import Counts, Shape

RELAYS = 3
STREAMS_PER_S, PACKETS_PER_S = 6.4, 200.0  # of the recorded run: made and ended; sent
GOOD = Counts(expected=7361)
CLEAN = {"streams": 0, "subscribers": 0, "packets in the pool": 0, "packets off the ledgers": 0}


def recorded(stretch: float = 1.0) -> list[Sample]:
    kept = json.loads((Path(__file__).parent / "data" / "aging_60s.json").read_text())
    assert kept["columns"][0] == "at_s"
    return [Sample(row[0] * stretch / 3600, *row[1:]) for row in kept["rows"]]


def judged(samples: list[Sample]) -> list[str]:
    return findings(GOOD, trends(samples, workers=RELAYS, relays=RELAYS), CLEAN)


def sown(samples: list[Sample], name: str, amount: Callable[[float], float]) -> list[Sample]:
    """`amount`: what has leaked after so many seconds."""
    start = samples[0].at_h
    return [replace(taken, **{name: getattr(taken, name) + amount((taken.at_h - start) * 3600)}) for taken in samples]


def test_the_minute_as_it_was_recorded_aged_well_and_says_what_it_could_not_tell() -> None:
    samples = recorded()
    assert len(samples) > 50
    assert judged(samples) == []
    made = figures(GOOD, samples, trends(samples, workers=RELAYS, relays=RELAYS), CLEAN, 60, RELAYS, 1, Shape())
    assert made["aged_well"]
    assert "too short to tell of data_kib" in made["limited_by"]


LEAKS: dict[str, tuple[str, Callable[[float], float]]] = {
    "a descriptor of every stream": ("files", lambda s: int(s * STREAMS_PER_S)),
    "a descriptor each five seconds": ("files", lambda s: s // 5),
    "a socket each five seconds": ("sockets", lambda s: s // 5),
    "a thread each five seconds": ("threads", lambda s: s // 5),
    "16 KiB of a worker for every stream": ("data_kib", lambda s: 16 * int(s * STREAMS_PER_S)),
    "half of the packets' buffers": ("data_kib", lambda s: int(s * PACKETS_PER_S)),
    "128 KiB of Python for every stream": ("python_kib", lambda s: 128 * int(s * STREAMS_PER_S)),
    "a queue that grows by a fifth of a millisecond a second": ("p50_ms", lambda s: s / 5),
    "a tail that grows by two milliseconds a second": ("p99_ms", lambda s: 2 * s),
}


@pytest.mark.parametrize("leak", LEAKS)
def test_a_leak_sown_into_the_minute_is_found_and_nothing_else_is(leak: str) -> None:
    name, amount = LEAKS[leak]
    (found,) = judged(sown(recorded(), name, amount))
    assert found.startswith(f"{name} grows by ")


def quiet_hour() -> list[Sample]:
    """The minute's noise spread over an hour, without the warm-up's rise."""
    samples = recorded(60)
    by_name: dict[str, Any] = {}
    for name in ("data_kib", "python_kib"):
        at, values = [taken.at_h for taken in samples], [getattr(taken, name) for taken in samples]
        slope, _ = statistics.linear_regression(at, values)
        by_name[name] = [value - slope * x for x, value in zip(at, values, strict=True)]
    by_name |= {name: [getattr(samples[0], name)] * len(samples) for name in ("files", "sockets", "p50_ms", "p99_ms")}
    return [
        replace(taken, **{name: values[number] for name, values in by_name.items()})
        for number, taken in enumerate(samples)
    ]


@pytest.mark.parametrize(
    ("name", "per_hour"),
    [("data_kib", 2 * STREAMS_PER_S * 3600), ("python_kib", 2 * STREAMS_PER_S * 3600), ("files", 10), ("p50_ms", 3)],
)
def test_what_a_minute_forgives_as_warming_up_an_hour_does_not(name: str, per_hour: float) -> None:
    """2 KiB of every stream, a descriptor each six minutes: less than the minute's slack, and plain in an hour."""
    assert judged(sown(recorded(), name, lambda s: per_hour * s / 3600)) == []
    assert judged(quiet_hour()) == []
    (found,) = judged(sown(quiet_hour(), name, lambda s: per_hour * s / 3600))
    assert found.startswith(f"{name} grows by ")


def test_what_stays_behind_is_found_however_little_it_is() -> None:
    found = trends(recorded(), workers=RELAYS, relays=RELAYS)
    for word in CLEAN:
        assert findings(GOOD, found, {**CLEAN, word: 1}) == [f"left behind: 1 {word}"]
