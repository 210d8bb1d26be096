"""`zrelay bench ab`: two builds by turns, and a verdict that does not call noise a win."""

from __future__ import annotations

import json
import math
import os
import resource
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from relay.bench import result
from relay.bench.stats import ALPHA, PAIRS_MIN, Interval, paired_ratio, verdict
from relay.bench.trees import Tree, TreeError, tree

RUN_S_MAX = 600
# What each benchmark is judged by, and the options that keep one run short.
BENCHES = {
    "fanout": ("cpu_us_per_packet", ["--seconds", "2"]),
    "hop": ("cpu_us_per_packet", ["--seconds", "2"]),
    "ring": ("ns_per_record", ["--seconds", "1"]),
    "link": ("wall_s", ["--virtual", "--seconds", "20", "--loss", "10%"]),
}
CPU_FIGURE = "cpu_s"  # of a --cmd: user and system time of it and its children


class AbError(Exception):
    """A run failed; the message has the end of what it said."""


@dataclass(frozen=True)
class Judged:
    """What the pairs of one figure say."""

    figure: str
    old: list[float]
    new: list[float]
    interval: Interval
    verdict: str

    @classmethod
    def of(cls, figure: str, old: list[float], new: list[float]) -> Judged:
        """`old[i]` and `new[i]` were measured next to each other."""
        interval = paired_ratio(old, new)
        higher = result.FIGURES.get(figure, ("", "lower"))[1] == "higher"
        return cls(figure, old, new, interval, verdict(interval, higher_is_better=higher))


def order(rounds: int) -> Iterator[int]:
    """0 old, 1 new: old new, new old, old new ... so that neither always comes first and a drift cancels."""
    for number in range(rounds):
        yield from ((0, 1), (1, 0))[number % 2]


def alternate(
    run: tuple[Callable[[], float], Callable[[], float]], rounds: int, step: Callable[[], None] | None = None
) -> tuple[list[float], list[float]]:
    """One warm-up of each, discarded; then `rounds` pairs."""
    samples: tuple[list[float], list[float]] = ([], [])
    for warm_up in run:
        warm_up()
        if step:
            step()
    for side in order(rounds):
        samples[side].append(run[side]())
        if step:
            step()
    return samples


@click.command(context_settings={"ignore_unknown_options": False})
@click.argument("old")
@click.argument("new")
@click.option("--bench", type=click.Choice(sorted(BENCHES)), default="ring", show_default=True)
@click.option("--cmd", default=None, help="Instead of a benchmark: a command, run in each checkout.")
@click.option("--figure", default=None, help="Of the JSON that is printed; of a --cmd its CPU time if not given.")
@click.option("--rounds", type=click.IntRange(PAIRS_MIN, 1000), default=12, show_default=True, help="Pairs of runs.")
@click.option("--options", default=None, help="For the benchmark, instead of those that keep it short.")
@click.option("--json", "as_json", is_flag=True)
@result.save_option
def ab(
    old: str,
    new: str,
    bench: str,
    cmd: str | None,
    figure: str | None,
    rounds: int,
    options: str | None,
    as_json: bool,
    save_to: str | None,
) -> None:
    """Two builds by turns: faster, slower, or no difference shown.

    OLD and NEW: a git revision, which is built in a worktree of its own, or a directory: a built checkout, or a
    virtual environment with zrelay in it. One run of each is thrown away, then they alternate (old new, new old, ...).
    The verdict is the 99 % interval of the paired ratios by signed ranks: a difference is claimed only when all of it
    lies on one side of 1.
    """
    try:
        chosen = figure or (CPU_FIGURE if cmd is not None else BENCHES[bench][0])
        words = shlex.split(cmd) if cmd is not None else None
        extra = shlex.split(options) if options is not None else BENCHES[bench][1]
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    if words == []:
        raise click.UsageError("--cmd is empty")
    started = time.monotonic()
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="zrelay-ab-")))
        try:
            sides = [stack.enter_context(tree(name, scratch, _talk)) for name in (old, new)]
            step = stack.enter_context(_progress(2 + 2 * rounds))
            commands = [words or [side.python, "-m", "relay.cli", "bench", bench, "--json", *extra] for side in sides]
            runs = tuple(
                _runner(side, command, chosen, from_json=not (cmd and not figure))
                for side, command in zip(sides, commands, strict=True)
            )
            judged = Judged.of(chosen, *alternate((runs[0], runs[1]), rounds, step))
        except (TreeError, AbError, ValueError) as error:
            raise click.ClickException(str(error)) from None
    made = figures(judged, old, new, cmd or f"bench {bench}", round(time.monotonic() - started, 1))
    if save_to:
        result.save(save_to, "ab", made)
    if as_json:
        click.echo(json.dumps(made))
    else:
        click.echo("\n".join(table(made)))


def _runner(side: Tree, command: list[str], figure: str, *, from_json: bool) -> Callable[[], float]:
    def run() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        try:
            done = subprocess.run(
                command, cwd=side.folder, env=side.environment(), capture_output=True, text=True, timeout=RUN_S_MAX,
                stdin=subprocess.DEVNULL,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired) as error:
            raise AbError(f"{side.name}: {error}") from None
        if done.returncode != 0:
            end = (done.stderr or done.stdout).strip()[-800:]
            raise AbError(f"{side.name}: {shlex.join(command)} ended with {done.returncode}:\n{end}")
        if not from_json:
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return _figure(side.name, done.stdout, figure)

    return run


def _figure(name: str, printed: str, figure: str) -> float:
    try:
        whole = json.loads(printed)
    except ValueError:
        raise AbError(f"{name}: what it printed is not JSON") from None
    value = whole.get(figure) if isinstance(whole, dict) else None
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value) or value <= 0:
        raise AbError(f"{name}: its JSON has no figure {figure!r} above 0")
    return float(value)


def figures(judged: Judged, old: str, new: str, what: str, wall_s: float) -> dict[str, Any]:
    """The JSON."""
    ratio, low, high = judged.interval
    load = os.getloadavg()[0]
    cores = len(os.sched_getaffinity(0))
    return {
        "record": f"{what}: {judged.figure}, {new} against {old}",
        "old": old,
        "new": new,
        "figure": judged.figure,
        "pairs": len(judged.old),
        "confidence": 1 - ALPHA,
        "ratio": round(ratio, 5),
        "low": round(low, 5),
        "high": round(high, 5),
        "verdict": judged.verdict,
        "old_samples": judged.old,
        "new_samples": judged.new,
        "wall_s": wall_s,
        "limited_by": f"load average {load:.1f} on {cores} cores"
        + ("; on a quiet machine the interval is narrower" if load > cores / 2 else ""),
    }


def table(made: dict[str, Any]) -> list[str]:
    """For a person."""
    percent = (made["high"] / made["low"]) ** 0.5 - 1
    return [
        f"{made['record']}, {made['pairs']} pairs by turns",
        f"new / old  {made['ratio']:.4f}   99 % interval {made['low']:.4f} to {made['high']:.4f}",
        f"verdict    {made['verdict']}"
        + (f" (a difference below {percent:.1%} would not be seen)" if "no" in made["verdict"] else ""),
        result.limit_line(made),
    ]


def _talk(text: str) -> None:
    click.echo(text, err=True)


@contextmanager
def _progress(runs: int) -> Iterator[Callable[[], None]]:
    if not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("bench ab", total=runs)
        yield lambda: bar.advance(task)
