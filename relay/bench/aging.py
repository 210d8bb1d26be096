"""`zrelay bench aging`: relays under churn for hours; memory, descriptors and delay must stay what they were."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click

from relay.bench import result
from relay.bench.churn import Churn, Counts, Shape
from relay.bench.options import FiniteRange
from relay.bench.trend import Trend
from relay.dev import DevMesh

SAMPLES = 240  # of a run; none more often than each half second, none less often than each minute
WARM_SHARE, WARM_MIN_S = 0.25, 5.0
ENDED_S = 20.0  # within which what was pulled and lingers has gone
DATA_KIB_H, PYTHON_KIB_H = 64.0, 1024.0
DATA_SLACK_KIB, PYTHON_SLACK_KIB = 768.0, 6144.0
COUNT_H, COUNT_SLACK = 1.0, 6.0  # descriptors, sockets, threads
DELAY_MS_H, DELAY_SLACK_MS = 1.0, 5.0


@dataclass(frozen=True)
class Sample:
    """At one moment, summed over all processes of a kind."""

    at_h: float
    data_kib: float
    python_kib: float
    files: int
    sockets: int
    threads: int
    p50_ms: float | None
    p99_ms: float | None


def sample(supervisors: list[int], at_h: float, delays_us: list[int]) -> Sample:
    """Of these relays now. ProcessLookupError, FileNotFoundError: one of their processes ended meanwhile."""
    data = python = 0.0
    files = sockets = threads = 0
    for pid in (pid for top in supervisors for pid in (top, *_children(top))):
        folder = Path(f"/proc/{pid}")
        found = re.search(r"^Pss:\s+(\d+)", (folder / "smaps_rollup").read_text(), re.M)
        pss = float(found[1]) if found else 0.0
        if (folder / "comm").read_text().startswith("zr-worker"):
            data += pss
        else:
            python += pss
        links = [_link(entry) for entry in (folder / "fd").iterdir()]
        files += len(links)
        sockets += sum(link.startswith("socket:") for link in links)
        threads += sum(1 for _ in (folder / "task").iterdir())
    ordered = sorted(delays_us)
    p50, p99 = (
        ordered[min(len(ordered) - 1, int(share * len(ordered)))] / 1000 if ordered else None for share in (0.5, 0.99)
    )
    return Sample(at_h, data, python, files, sockets, threads, p50, p99)


def _children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _link(entry: Path) -> str:
    try:
        return os.readlink(entry)
    except OSError:
        return ""


def trends(samples: list[Sample], *, workers: int = 1, relays: int = 1) -> list[Trend]:
    """Of what comes behind the warm-up; none when that is too little.

    What is allowed an hour is allowed to all together; the slack of a short run, in which pools are touched for the
    first time, to each of `workers` and `relays`.
    """
    made = []
    for name, unit, allowed, slack in (
        ("data_kib", "KiB", DATA_KIB_H, workers * DATA_SLACK_KIB),
        ("python_kib", "KiB", PYTHON_KIB_H, relays * PYTHON_SLACK_KIB),
        ("files", "", COUNT_H, COUNT_SLACK),
        ("sockets", "", COUNT_H, COUNT_SLACK),
        ("threads", "", COUNT_H, COUNT_SLACK),
        ("p50_ms", "ms", DELAY_MS_H, DELAY_SLACK_MS),
        ("p99_ms", "ms", DELAY_MS_H, 4 * DELAY_SLACK_MS),
    ):
        points = [(s.at_h, float(value)) for s in samples if (value := getattr(s, name)) is not None]
        if len(points) >= 3:
            made.append(Trend.of(name, unit, [x for x, _ in points], [y for _, y in points], allowed, slack))
    return made


def findings(counts: Counts, found: list[Trend], left: dict[str, int]) -> list[str]:
    """What is wrong, in words; nothing when it aged well."""
    wrong = [
        f"{trend.name} grows by {trend.slope:.4g} {trend.unit} an hour (at least {trend.low:.4g}, allowed "
        f"{trend.allowed:g})"
        for trend in found
        if trend.word == "grows"
    ]
    for name in ("lost", "repeated", "foreign", "failed"):
        if getattr(counts, name):
            wrong.append(f"{getattr(counts, name)} {'calls failed' if name == 'failed' else f'packets {name}'}")
    wrong += counts.errors
    if counts.expected == 0:
        wrong.append("not one packet was verified")
    wrong += [f"left behind: {count} {name}" for name, count in left.items() if count]
    if not found:
        wrong.append("too short for a line: at least three samples after the warm-up are needed")
    return wrong


async def age(seconds: float, relays: int, workers: int, shape: Shape, step: Callable[[float], None]) -> dict[str, Any]:
    """The JSON. RuntimeError: a relay did not come up, or one of its processes ended."""
    interval = min(60.0, max(0.5, seconds / SAMPLES))
    warm_s = max(WARM_MIN_S, min(seconds * WARM_SHARE, 600.0))
    samples: list[Sample] = []
    async with DevMesh(relays, workers=workers) as mesh, AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(mesh.client(relay.name)) for relay in mesh.relays]
        supervisors = [relay.process.pid for relay in mesh.relays if relay.process is not None]
        before = {pid for top in supervisors for pid in _children(top)}
        async with Churn(clients[0], clients[-2:], shape) as churn:
            start = time.monotonic()
            while (passed := time.monotonic() - start) < seconds:
                await asyncio.sleep(min(interval, seconds - passed))
                delays = churn.counts.take_delays()
                now = time.monotonic() - start
                step(now)
                try:
                    taken = await asyncio.to_thread(sample, supervisors, now / 3600, list(delays))
                except OSError as error:
                    raise RuntimeError(f"a process of a relay is gone: {error}") from None
                if now >= warm_s:
                    samples.append(taken)
        left = await _left(mesh)
        if before != {pid for top in supervisors for pid in _children(top)}:
            raise RuntimeError("a worker or agent was replaced during the run: see the relay's log")
    found = trends(samples, workers=relays * workers, relays=relays)
    return figures(churn.counts, samples, found, left, seconds, relays, workers, shape)


async def _left(mesh: DevMesh) -> dict[str, int]:
    """What is still there when everything has been taken down: all of it must become 0."""
    left: dict[str, int] = {}
    deadline = time.monotonic() + ENDED_S
    while True:
        left = {"streams": 0, "subscribers": 0, "packets in the pool": 0, "packets off the ledgers": 0}
        for relay in mesh.relays:
            async with mesh.client(relay.name) as client:
                status = await client.get("/v1/status")
            left["packets off the ledgers"] += sum(abs(off) for off in status["ledgers"].values())
            for worker in status["workers"]:
                left["streams"] += worker["streams"]
                left["subscribers"] += worker["subscribers"]
                left["packets in the pool"] += worker["stats"]["pool_in_use"]
        if not any(left.values()) or time.monotonic() > deadline:
            return left
        await asyncio.sleep(0.5)


def figures(
    counts: Counts,
    samples: list[Sample],
    found: list[Trend],
    left: dict[str, int],
    seconds: float,
    relays: int,
    workers: int,
    shape: Shape,
) -> dict[str, Any]:
    """The JSON."""
    by_name = {trend.name: trend for trend in found}
    wrong = findings(counts, found, left)
    open_ends = [trend.name for trend in found if trend.word == "too short to tell"]
    made: dict[str, Any] = {
        "relays": relays,
        "workers": workers,
        "seconds": seconds,
        **asdict(shape),
        "published": counts.published,
        "subscribed": counts.subscribed,
        "sent": counts.sent,
        "verified": counts.expected,
        "lost": counts.lost,
        "repeated": counts.repeated,
        "foreign": counts.foreign,
        "failed": counts.failed,
        "delivered_pct": round(100 * counts.delivered / counts.expected, 6) if counts.expected else None,
        "left": left,
        "samples": len(samples),
        "trends": [asdict(trend) for trend in found],
        "series": [asdict(taken) for taken in samples],
        "aged_well": not wrong,
        "findings": wrong,
        "limited_by": f"{seconds / 3600:.2g} h: too short to tell of {', '.join(open_ends)}"
        if open_ends
        else "nothing",
    }
    for name, key in (("data_kib", "data_kib_per_hour"), ("python_kib", "python_kib_per_hour")):
        if name in by_name:
            made[key] = round(by_name[name].slope, 1)
    for name in ("p50_ms", "p99_ms"):
        if name in by_name:
            made[name] = round(by_name[name].last, 3)
    return made


@click.command()
@click.option("--hours", type=FiniteRange(0.003, 1000), default=1.0, show_default=True)
@click.option("--relays", type=click.IntRange(1, 8), default=3, show_default=True, help="In a chain.")
@click.option("--workers", type=click.IntRange(1, 8), default=1, show_default=True, help="Of each relay.")
@click.option("--streams", type=click.IntRange(1, 200), default=20, show_default=True, help="At any time.")
@click.option("--subscribers", type=click.IntRange(1, 50), default=2, show_default=True, help="Of each stream.")
@click.option("--pps", type=click.IntRange(1, 1000), default=10, show_default=True, help="Of each stream.")
@click.option("--life", type=FiniteRange(0.5, 3600), default=5.0, show_default=True, help="Of a stream, seconds.")
@click.option("--seed", type=int, default=1, show_default=True)
@click.option("--json", "as_json", is_flag=True)
@result.save_option
def aging(
    hours: float,
    relays: int,
    workers: int,
    streams: int,
    subscribers: int,
    pps: int,
    life: float,
    seed: int,
    as_json: bool,
    save_to: str | None,
) -> None:
    """Streams and subscribers come and go for hours: memory, files and delay must stay flat, and no packet be lost.

    A chain of relays on loopback. Every packet is known by its number; what grows is judged by a straight line through
    the samples behind the warm-up and its 99 % interval. Exit 1 when something grew, was lost or was left behind; a
    short run says of what it could not tell.
    """
    seconds = hours * 3600
    shape = Shape(streams=streams, subscribers=subscribers, pps=pps, life_s=life, seed=seed)
    try:
        with _progress(seconds) as step:
            made = asyncio.run(age(seconds, relays, workers, shape, step))
    except (RuntimeError, OSError) as error:
        raise click.ClickException(str(error)) from None
    except KeyboardInterrupt:
        raise click.ClickException("interrupted: no verdict") from None
    if save_to:
        result.save(save_to, "aging", made)
    if as_json:
        click.echo(json.dumps(made))
    else:
        _show(made)
    sys.exit(0 if made["aged_well"] else 1)


def _show(made: dict[str, Any]) -> None:
    click.echo(
        f"{made['published']} streams and {made['subscribed']} subscribers came and went in {made['seconds']:g} s; "
        f"{made['verified']} packets verified, {made['lost']} lost, {made['repeated']} repeated"
    )
    for trend in made["trends"]:
        at = f"{trend['first']:.4g} -> {trend['last']:.4g} {trend['unit']}"
        slope = (
            f"{trend['slope']:+.4g} an hour ({trend['low']:+.4g} to {trend['high']:+.4g}, allowed {trend['allowed']:g})"
        )
        click.echo(f"{trend['name']:11} {at:26} {slope:58} {trend['word']}")
    for finding in made["findings"]:
        click.echo(f"WRONG       {finding}")
    click.echo("aged well" if made["aged_well"] else "did not age well")
    click.echo(result.limit_line(made))


@contextmanager
def _progress(seconds: float) -> Iterator[Callable[[float], None]]:
    if not sys.stderr.isatty():
        yield lambda passed: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("bench aging", total=seconds)
        yield lambda passed: bar.update(task, completed=passed)
