"""The table of `zrelay bench link`: what is missing at 400 ms and what it costs, at losses from 0 to 70 % both ways.

With ZR_FULL=1 each row is at least 10^6 packets over 10 seeds, its bars are those of the table, and SRT and RIST are
measured beside it. Otherwise a short look that allows for what so few packets say.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import pytest

from benchmarks.link_peers import RIST, SRT, Peer, measure
from benchmarks.machine import percentile
from relay.bench.case import Case, Cross, Span
from relay.bench.figures import figures
from relay.bench.link import run_all
from relay.units import NS_PER_S

FULL = bool(os.environ.get("ZR_FULL"))
SEEDS, SECONDS = (10, 520.0) if FULL else (2, 60.0)
JOBS = os.cpu_count() or 1
RTT_MS = 100

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


@dataclass(frozen=True)
class Row:
    """Loss both ways, and the most that may be: missing in percent, bytes per byte of RTP, milliseconds."""

    loss: float
    missing_pct: float
    overhead: float
    reverse: float
    p50_ms: float | None = None
    p99_ms: float | None = None


ROWS = [
    Row(0.00, 0, 1.08, 0.03, 52),
    Row(0.01, 0.0001, 1.10, 0.05, 52),
    Row(0.05, 0.0005, 1.19, 0.12, 52, 170),
    Row(0.10, 0.001, 1.33, 0.22, 52),
    Row(0.20, 0.005, 1.62, 0.40, 52, 190),
    Row(0.30, 0.01, 2.0, 0.65, 52, 290),
    Row(0.50, 0.1, 3.2, 1.3),
    Row(0.70, 0.5, 6.2, 2.0),
]
BURST_ROW = Row(0.10, 0.05, 1.33 if FULL else 2.0, 1.0)


def run(case: Case, seeds: int = SEEDS) -> dict[str, Any]:
    made = figures(case, run_all(case, seeds, virtual=True, jobs=JOBS), virtual=True, series=True)
    print(
        f"\nloss {case.loss:4.0%}  missing {made['missing']:5} of {made['sent']} = {made['missing_pct']:.5f} %  "
        f"overhead {made['overhead']:.3f}  reverse {made['reverse']:.3f}  p50 {made['p50_ms']} p99 {made['p99_ms']} "
        f"p99.9 {made['p999_ms']} max {made['max_ms']} ms  late {made['late']}",
        end="",
    )
    return made


def over(row: Row, made: dict[str, Any]) -> list[str]:
    """Which bars were passed. A short look allows one packet in four hundred more where anything is lost, as most of
    it is spent on learning the loss, and a tenth on top of the costs.
    """
    spare = 0 if FULL or row.loss == 0 else made["sent"] / 400
    factor = 1.0 if FULL else 1.1
    bars = [
        ("missing", row.missing_pct / 100 * made["sent"] + spare),
        ("overhead", row.overhead * factor),
        ("reverse", row.reverse * factor),
        ("p50_ms", row.p50_ms),
        ("p99_ms", row.p99_ms and row.p99_ms * factor),
    ]
    return [f"{key} {made[key]} > {bar:g}" for key, bar in bars if bar is not None and not made[key] <= bar]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.loss:.0%}")
def test_a_row_of_the_table(row: Row) -> None:
    made = run(Case(loss=row.loss, rloss=row.loss, seconds=SECONDS))
    assert not FULL or made["sent"] >= 1_000_000
    assert made["duplicates"] == 0
    assert over(row, made) == []


def test_ten_minutes_on_the_virtual_clock_take_at_most_half_of_them() -> None:
    seconds = 600 if FULL else 60
    command = [sys.executable, "-m", "relay.cli", "bench", "link", "--virtual", "--loss", "70%", "--rloss", "70%"]
    done = subprocess.run([*command, "--seconds", str(seconds), "--json"], capture_output=True, check=True, timeout=600)
    made = json.loads(done.stdout)
    print(f"\n{seconds} s at 70 % in {made['wall_s']} s", end="")
    assert made["sent"] == seconds * 200
    assert made["wall_s"] <= seconds / 2


def test_losses_in_bursts_of_five() -> None:
    row = BURST_ROW
    made = run(Case(loss=row.loss, rloss=row.loss, burst=5, seconds=SECONDS))
    assert made["duplicates"] == 0
    assert made["missing"] <= row.missing_pct / 100 * made["sent"] + (0 if FULL else made["sent"] / 500)


def test_after_a_blackout_of_two_seconds_the_first_new_packet_comes_within_a_round_trip_and_30_ms() -> None:
    worst = 0.0
    for phase_ms in range(0, 40, 2 if FULL else 10):  # of a frame's 40
        dark = Span(5 * NS_PER_S + phase_ms * 1_000_000, 7 * NS_PER_S + phase_ms * 1_000_000)
        case = Case(seconds=12, blackout=dark)
        made = figures(case, run_all(case, 1, virtual=True), virtual=True, series=True)
        assert made["late"] == 0, "older than its deadline, and delivered"
        assert made["duplicates"] == 0
        assert [second for second in made["series"] if second["second"] >= 8 and second["missing"]] == []
        worst = max(worst, made["heal_ms"])
    print(f"\nheals in {worst:.1f} ms at most", end="")
    assert worst <= RTT_MS + 30


def test_on_a_full_link_copies_stop_and_come_back() -> None:
    cross = Cross(1_000_000, Span(5 * NS_PER_S, 15 * NS_PER_S))
    case = Case(seconds=25, rate_bps=2_600_000, queue_bytes=65536, cross=cross)
    made = run(case, seeds=1)
    print()
    for second in made["series"]:
        print(f"  {second['second']:3} s  missing {second['missing']:3}  overhead {second['overhead']}")
    sending = [second for second in made["series"] if second["sent"]]
    assert [second for second in sending[7:] if second["overhead"] >= 1.15] == []
    assert [second for second in sending[:5] + sending[17:] if second["missing"]] == []


@pytest.mark.parametrize("engine", ["compat", "stock"])
def test_plain_kcp_beside_it(engine: str) -> None:
    """No bar: what one buys by the media profile."""
    for row in ROWS[:6]:
        made = run(replace(Case(seconds=60), engine=engine, loss=row.loss, rloss=row.loss), seeds=2)  # type: ignore[arg-type]
        assert made["duplicates"] == 0


@pytest.mark.skipif(not FULL, reason="SRT and RIST take minutes in real time: ZR_FULL=1")
@pytest.mark.parametrize("peer", [SRT, RIST], ids=lambda peer: peer.name)
def test_other_protocols_beside_it(peer: Peer) -> None:
    """No bar, and all losses at once: each takes a few percent of a core."""
    if reason := peer.lacking():
        pytest.skip(reason)
    losses = [0.0, 0.01, 0.05, 0.10, 0.20, 0.30, 0.50, 0.70]
    with ThreadPoolExecutor(len(losses)) as pool:
        outcomes = list(pool.map(lambda loss: measure(peer, loss, seconds=25), losses))
    for loss, outcome in zip(losses, outcomes, strict=True):
        if not outcome.connected:
            print(f"\n{peer.name:4} loss {loss:4.0%}  never connects", end="")
            continue
        delays = list(outcome.delays_ms.values())
        print(
            f"\n{peer.name:4} loss {loss:4.0%}  missing {outcome.missing_pct:.3f} % of {outcome.sent}  "
            f"overhead {outcome.overhead:.3f}  reverse {outcome.reverse:.3f}  p50 {percentile(delays, 0.5):.0f} ms",
            end="",
        )
    assert outcomes[0].connected
    assert outcomes[0].missing_pct < 1
