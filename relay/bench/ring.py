"""`zrelay bench ring`: what a record costs between two threads, and what it costs to cross and to wake."""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from relay._ring import Rings
from relay.bench import result
from relay.bench.options import FiniteRange

LIMIT_NS = 120_000_000_000  # a call that hangs ends; nothing here takes a tenth of it
CALIBRATION_RECORDS = 200_000
ROUNDS_WAKE_MAX = 2000
WAKE_PAUSE_NS = 200_000  # before each round, so that the other end has gone to sleep
BURSTS = (1, 8, 64)
ROUNDS = 5  # each figure is the median of so many


class RingError(Exception):
    """The ring lost or reordered records, or one side never came."""


@dataclass(frozen=True)
class Places:
    """Where the two threads run."""

    first: int
    second: int

    @property
    def same(self) -> bool:
        return self.first == self.second

    @property
    def word(self) -> str:
        if self.same:
            return "one CPU"
        return "two hyper-threads of one core" if self.second in _siblings(self.first) else "two cores"


def _siblings(cpu: int) -> set[int]:
    try:
        text = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list").read_text()
        spans = [part.partition("-") for part in text.strip().split(",")]
        return {number for low, _, high in spans for number in range(int(low), int(high or low) + 1)}
    except (OSError, ValueError):
        return {cpu}


def places(cpus: str | None) -> Places:
    """From "0,1", or two CPUs that are ours, of different cores if there are any. ValueError."""
    ours = sorted(os.sched_getaffinity(0))
    if cpus is None:
        first = ours[0]
        other = next((cpu for cpu in ours[1:] if cpu not in _siblings(first)), ours[-1])
        return Places(first, other)
    words = cpus.split(",")
    if len(words) != 2 or not all(word.strip().isdigit() for word in words):
        raise ValueError(f"{cpus!r} is not two CPUs like '0,1'")
    first, second = (int(word) for word in words)
    missing = {first, second} - set(ours)
    if missing:
        raise ValueError(f"CPU {min(missing)} is offline or not ours")
    return Places(first, second)


def both(where: Places, first: Callable[[], Any], second: Callable[[], Any]) -> tuple[Any, Any]:
    """Each in a thread of its own, pinned; the second begins a little earlier. What each answers."""

    def pinned(cpu: int, work: Callable[[], Any]) -> Any:
        os.sched_setaffinity(0, {cpu})  # of this thread alone
        return work()

    with ThreadPoolExecutor(2) as pool:
        later = pool.submit(pinned, where.second, second)
        sooner = pool.submit(pinned, where.first, first)
        return sooner.result(), later.result()


def measure(where: Places, slots: int, record_bytes: int, seconds: float) -> dict[str, Any]:
    """The JSON. `seconds`: about as long in all. RingError."""
    per_alone = _alone(where, slots, record_bytes, CALIBRATION_RECORDS)
    records = max(1000, min(50_000_000, int(seconds * 1e9 / (2 * len(BURSTS) * ROUNDS) / max(10 * per_alone, 100))))
    bursts = {
        burst: statistics.median(_through(where, slots, record_bytes, records, burst) for _ in range(ROUNDS))
        for burst in BURSTS
        if burst <= slots
    }
    spun, _ = _crossings(where, slots, record_bytes, max(100, int(seconds * 20_000)), wake=False)
    slept, writes = _crossings(where, slots, record_bytes, min(ROUNDS_WAKE_MAX, max(50, int(seconds * 500))), wake=True)
    best = min(bursts.values())
    return {
        "what": "a ring of records between two threads",
        "cores": where.word,
        "cpus": [where.first, where.second],
        "slots": slots,
        "record_bytes": record_bytes,
        "records": records,
        "ns_per_record_alone": round(per_alone, 2),
        "ns_per_record": round(bursts[1], 2),
        "ns_per_record_burst": round(best, 2),
        "bursts": {str(burst): round(ns, 2) for burst, ns in bursts.items()},
        "records_per_s": round(1e9 / best),
        "crossing_p50_ns": _share(spun, 0.5),
        "crossing_p99_ns": _share(spun, 0.99),
        "crossings": len(spun),
        "wake_p50_ns": _share(slept, 0.5),
        "wake_p99_ns": _share(slept, 0.99),
        "wakes": len(slept),
        "eventfd_writes": writes,
        "limited_by": _limit(where),
    }


def _alone(where: Places, slots: int, record_bytes: int, records: int) -> float:
    rings = Rings(slots, record_bytes)
    ns, _ = both(where, lambda: rings.alone(records), lambda: None)
    return float(ns / records)


def _through(where: Places, slots: int, record_bytes: int, records: int, burst: int) -> float:
    """Nanoseconds per record from the first one committed to the last one released."""
    rings = Rings(slots, record_bytes)
    sent, got = both(
        where,
        lambda: rings.produce(records, burst, where.same, LIMIT_NS),
        lambda: rings.consume(records, where.same, LIMIT_NS),
    )
    if (sent[2], got[2], got[3]) != (records, records, 0):
        raise RingError(f"{sent[2]} of {records} records sent, {got[2]} received, {got[3]} out of order")
    return float((got[1] - sent[0]) / records)


def _crossings(where: Places, slots: int, record_bytes: int, rounds: int, *, wake: bool) -> tuple[list[int], int]:
    """One way each, ascending: half a round trip; and how many eventfd writes the first end made."""
    rings = Rings(slots, record_bytes)
    (trips, writes), answered = both(
        where,
        lambda: rings.ping(rounds, where.same, wake, WAKE_PAUSE_NS if wake else 0, LIMIT_NS),
        lambda: rings.pong(rounds, where.same, wake, LIMIT_NS),
    )
    if len(trips) != rounds or answered != rounds:
        raise RingError(f"{len(trips)} of {rounds} round trips")
    return sorted(trip // 2 for trip in trips), writes


def _share(ordered: list[int], share: float) -> int:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def _limit(where: Places) -> str:
    load = os.getloadavg()[0]
    cores = len(os.sched_getaffinity(0))
    if where.same:
        return "one CPU for both ends: each crossing is a context switch"
    if load > cores / 2:
        return f"other work: load average {load:.1f} on {cores} cores"
    return "cache lines on their way between the cores"


@click.command()
@click.option("--slots", type=click.IntRange(2, 1 << 20), default=4096, show_default=True, help="A power of two.")
@click.option("--record", "record_bytes", type=click.IntRange(8, 65536), default=64, show_default=True, help="Bytes.")
@click.option("--cpus", default=None, metavar="A,B", help="Where the two ends run; 'A,A': on one.")
@click.option("--seconds", type=FiniteRange(0.1, 600), default=3.0, show_default=True, help="About, in all.")
@click.option("--json", "as_json", is_flag=True)
@result.save_option
def ring(slots: int, record_bytes: int, cpus: str | None, seconds: float, as_json: bool, save_to: str | None) -> None:
    """A ring between two threads: cost of a record, of a crossing, of a wake-up.

    Each record is written and checked. A crossing is half a round trip through two rings, both ends spinning; a
    wake-up is the same with both ends asleep on an eventfd, as workers and the agent are when there is nothing to do.
    """
    if slots & (slots - 1):
        raise click.UsageError(f"--slots {slots}: not a power of two")
    try:
        where = places(cpus)
        made = measure(where, slots, record_bytes, seconds)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    except (RingError, MemoryError) as error:
        raise click.ClickException(str(error)) from None
    if save_to:
        result.save(save_to, "ring", made)
    if as_json:
        click.echo(json.dumps(made))
        return
    for name, value in (
        ("ring", f"{slots} slots of {record_bytes} B, {made['cores']} (CPUs {where.first} and {where.second})"),
        ("one thread, both ends", f"{made['ns_per_record_alone']:.1f} ns a record"),
        *((f"bursts of {burst}", f"{ns:.1f} ns a record") for burst, ns in made["bursts"].items()),
        ("crossing, spinning", f"p50 {made['crossing_p50_ns']} ns, p99 {made['crossing_p99_ns']} ns"),
        ("crossing, asleep", f"p50 {made['wake_p50_ns']} ns, p99 {made['wake_p99_ns']} ns"),
        ("eventfd writes", f"{made['eventfd_writes']} for {made['wakes']} records"),
    ):
        click.echo(f"{name:22} {value}")
    click.echo(result.limit_line(made))
