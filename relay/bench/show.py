"""What the load benchmarks' commands share: progress on stderr, JSON alone or a table on stdout, exit codes."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from collections.abc import Callable, Coroutine
from typing import Any

import click

from relay.bench import result
from relay.bench.duel import DELIVERED_MIN_PCT, Say
from relay.client import Unreachable
from relay.errors import Problem

_ERRORS = (RuntimeError, OSError, TimeoutError, Problem, Unreachable)


def as_command(
    verb: str, measure: Callable[[Say], Coroutine[Any, Any, dict[str, Any]]], title: str, as_json: bool,
    save_to: str | None,
) -> None:  # fmt: skip
    """Runs a side-by-side measurement as a command."""
    finish(verb, run_until_done(measure(say)), as_json, save_to, lambda made: show_sides(made, title))


def run_until_done(work: Coroutine[Any, Any, dict[str, Any]]) -> dict[str, Any]:
    """Its figures with `wall_s`; a failure becomes one line and exit code 1, a signal exit code 128 + its number."""
    started = time.monotonic()
    try:
        made = asyncio.run(_until_signal(work))
    except _ERRORS as error:
        raise click.ClickException(f"{error or type(error).__name__}") from None
    if isinstance(made, int):
        sys.exit(128 + made)
    made["wall_s"] = round(time.monotonic() - started, 3)
    return made


async def _until_signal(work: Coroutine[Any, Any, dict[str, Any]]) -> dict[str, Any] | int:
    """The figures, or the first signal that came: then the work is cancelled and takes its processes along."""
    task = asyncio.ensure_future(work)
    came: list[int] = []

    def end(number: int) -> None:
        if not came:
            task.cancel()
        came.append(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, end, number)
    try:
        return await task
    except asyncio.CancelledError:
        if not came:
            raise
        return came[0]


def finish(
    verb: str, made: dict[str, Any], as_json: bool, save_to: str | None, show: Callable[[dict[str, Any]], None]
) -> None:
    """The figures on stdout, JSON alone or for people; kept first, where that is asked for."""
    if save_to:
        result.save(save_to, verb, made)
    if as_json:
        click.echo(json.dumps(made))
    else:
        show(made)


def say(text: str) -> None:
    """Progress, for people."""
    if sys.stderr.isatty():
        click.echo(f"  {text}", err=True)


def show_sides(made: dict[str, Any], title: str) -> None:
    """The figures of `Outcome.figures`, with `wall_s`, for people."""
    click.echo(
        f"{title}: {made['pps']} packets/s of {made['size']} B in frames of {made['frame']} ({made['mode']}) to "
        f"{made['subscribers']}, {made['seconds']:g} s each in {made['rounds']} rounds"
    )
    heads = ("CPU/packet", "of a core", "delivered", "p50", "p99", "p99.9")
    click.echo(f"{'':32}" + "".join(f"{head:>12}" for head in heads))
    for side in made["sides"].values():
        if side is not None:
            click.echo(f"{side['name']:32}" + "".join(f"{cell:>12}" for cell in _cells(side)))
    for name, word in (("ratio_to_bare", "bare"), ("ratio_to_peer", "peer")):
        if made[name] is not None:
            click.echo(f"relay / {word}: {made[name]:.3f}")
    if made["peer_lacking"]:
        click.echo(f"no peer: {made['peer_lacking']}")
    click.echo(f"system calls per packet: {made['syscalls_per_packet']}")
    if not made["claimable"]:
        click.echo(f"nothing is claimed: a contender is missing, or delivered less than {DELIVERED_MIN_PCT} %")
    for key, side in made["sides"].items():
        if side is not None and key != "relay" and side["limited_by"] != "nothing":
            click.echo(f"what limited {side['name']}: {side['limited_by']}")
    click.echo(result.limit_line(made))


def _cells(side: dict[str, Any]) -> list[str]:
    cost = side["cpu_us_per_packet"]
    delays = [side[name] for name in ("p50_us", "p99_us", "p999_us")]
    return [
        "-" if cost is None else f"{cost:.3f} µs",
        f"{side['core_pct']:.0f} %",
        f"{side['delivered_pct']:.4f} %",
        *("-" if delay is None else f"{delay:.0f} µs" for delay in delays),
    ]
