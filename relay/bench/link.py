"""`zrelay bench link`: an engine over an impaired link, on a virtual clock or over real sockets."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click

from relay.bench import result
from relay.bench.case import PACKETS_MAX, Case, Cross, Engine, Span, Wheel
from relay.bench.figures import Run, figures, table
from relay.bench.stock import StockMissingError
from relay.units import parse_duration_ns, parse_fraction, parse_rate_bps, parse_size_bytes

_SECONDS_VIRTUAL, _SECONDS_REAL = 60.0, 10.0
_SECONDS_MAX = 86_400.0
_DELAY_MAX_NS = 10_000_000_000
_DEADLINE_MAX_NS = 60_000_000_000

Progress = Callable[[float], None]


class _Parsed(click.ParamType):  # type: ignore[type-arg,unused-ignore]  # generic in newer clicks only
    """A parser that raises ValueError, as a click type."""

    def __init__(self, name: str, parse: Callable[[str], Any]) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return self._parse(value) if isinstance(value, str) else value
        except ValueError as error:
            self.fail(str(error), param, ctx)


def _at_most(limit_ns: int, *, least_ns: int = 0) -> Callable[[str], int]:
    def parse(text: str) -> int:
        value = parse_duration_ns(text)
        if not least_ns <= value <= limit_ns:
            raise ValueError(f"{text!r} is not within {least_ns // 1_000_000}ms and {limit_ns // 1_000_000}ms")
        return value

    return parse


def _number(least: float, most: float, what: str) -> Callable[[str], float]:
    def parse(text: str) -> float:
        value = float(text)
        if not least <= value <= most:  # nan too
            raise ValueError(f"{text!r} is not {what} from {least:g} to {most:g}")
        return value

    return parse


_FRACTION = _Parsed("fraction", parse_fraction)


@click.command()
@click.option("--engine", type=click.Choice(["media", "compat", "stock"]), default="media", show_default=True)
@click.option("--wheel", type=click.Choice(["kcp", "siokcp"]), default="kcp", help="Whose engine is the stock one.")
@click.option("--virtual", is_flag=True, help="On a virtual clock: ten minutes in seconds.")
@click.option(
    "--delay", type=_Parsed("time", _at_most(_DELAY_MAX_NS)), default="50ms", show_default=True, help="One way."
)
@click.option("--loss", type=_FRACTION, default="0", show_default=True, help="Forward: 0.3 or 30%.")
@click.option("--rloss", type=_FRACTION, default=None, help="Reverse; as --loss if not given.")
@click.option(
    "--burst",
    type=_Parsed("packets", _number(0, 1e9, "a number of packets")),
    default="0",
    help="Mean packets in a burst of losses; up to 1: independent.",
)
@click.option("--pps", type=click.IntRange(1, 100_000), default=200, show_default=True, help="Packets a second.")
@click.option("--size", type=click.IntRange(12, 1500), default=1200, show_default=True, help="Of an RTP packet, bytes.")
@click.option("--frame", type=click.IntRange(1, 256), default=8, show_default=True, help="Packets sent at once.")
@click.option(
    "--seconds",
    type=_Parsed("seconds", _number(0.01, _SECONDS_MAX, "seconds")),
    default=None,
    help=f"Of sending; {_SECONDS_VIRTUAL:g} virtual or {_SECONDS_REAL:g} real ones if not given.",
)
@click.option(
    "--deadline",
    type=_Parsed("time", _at_most(_DEADLINE_MAX_NS, least_ns=1_000_000)),
    default="400ms",
    show_default=True,
    help="From send to delivery; later is missing. The media engine's too.",
)
@click.option(
    "--residual",
    type=_Parsed("fraction", _number(1e-12, 1, "a fraction")),
    default=None,
    help="What the media engine may leave missing; 1e-6 if not given.",
)
@click.option(
    "--max-overhead",
    type=_Parsed("factor", _number(1, 100, "a factor")),
    default=None,
    help="Transmissions per segment, at most; 6.5 if not given.",
)
@click.option(
    "--rate", type=_Parsed("rate", parse_rate_bps), default="0", help="Forward bottleneck: 2.6Mbit/s; 0: none."
)
@click.option(
    "--queue", type=_Parsed("size", parse_size_bytes), default="64KiB", show_default=True, help="In front of it."
)
@click.option(
    "--cross",
    type=_Parsed("cross", Cross.parse),
    default=None,
    metavar="RATE@FROM-UNTIL",
    help="A second sender on the forward link: 1Mbit/s@5s-15s. Virtual only.",
)
@click.option(
    "--blackout",
    type=_Parsed("span", Span.parse),
    default=None,
    metavar="FROM-UNTIL",
    help="Both ways lose everything: 5s-7s. Virtual only.",
)
@click.option("--seed", type=click.IntRange(0, (1 << 62) - 1), default=1, show_default=True, help="Of the first run.")
@click.option("--seeds", type=click.IntRange(1, 1000), default=1, show_default=True, help="Runs, summed.")
@click.option("--jobs", type=click.IntRange(1, 64), default=1, show_default=True, help="Virtual runs at a time.")
@click.option("--series", is_flag=True, help="Second by second in the JSON.")
@click.option("--json", "as_json", is_flag=True, help="The figures as JSON.")
@result.save_option
def link(
    engine: Engine,
    wheel: Wheel,
    virtual: bool,
    delay: int,
    loss: float,
    rloss: float | None,
    burst: float,
    pps: int,
    size: int,
    frame: int,
    seconds: float | None,
    deadline: int,
    residual: float | None,
    max_overhead: float | None,
    rate: int,
    queue: int,
    cross: Cross | None,
    blackout: Span | None,
    seed: int,
    seeds: int,
    jobs: int,
    series: bool,
    as_json: bool,
    save_to: str | None,
) -> None:
    """An engine over an impaired link: what is missing at the deadline, and what it costs.

    Sends a stream of RTP packets from A to B and counts what arrives by the deadline, all UDP payload bytes forward
    (overhead) and back (reverse) per byte of RTP, and the delay of what was delivered.
    """
    case = Case(
        engine=engine,
        wheel=wheel,
        delay_ns=delay,
        loss=loss,
        rloss=loss if rloss is None else rloss,
        burst=burst,
        rate_bps=rate,
        queue_bytes=queue,
        cross=cross,
        blackout=blackout,
        pps=pps,
        size=size,
        frame=frame,
        seconds=seconds or (_SECONDS_VIRTUAL if virtual else _SECONDS_REAL),
        deadline_ns=deadline,
        residual=residual or 0.0,
        max_overhead=max_overhead or 0.0,
        seed=seed,
    )
    if case.packets > PACKETS_MAX:
        raise click.UsageError(f"{case.packets} packets in a run: at most {PACKETS_MAX}")
    if not virtual and (cross or blackout):
        raise click.UsageError("--cross and --blackout need --virtual")
    if queue > 1 << 31:
        raise click.UsageError("--queue: at most 2GiB")
    started = time.monotonic()
    try:
        with _progress(case.span_ns / 1e9 * seeds) as progress:
            runs = run_all(case, seeds, virtual=virtual, jobs=jobs, progress=progress)
    except (StockMissingError, OSError, RuntimeError) as error:
        raise click.ClickException(str(error)) from None
    made = figures(case, runs, virtual=virtual, series=series)
    made["wall_s"] = round(time.monotonic() - started, 3)
    if save_to:
        result.save(save_to, "link", made)
    if as_json:
        click.echo(json.dumps(made))
    else:
        _show(made)


def run_all(case: Case, seeds: int, *, virtual: bool, jobs: int = 1, progress: Progress | None = None) -> list[Run]:
    """`seeds` runs of the case, each with seeds of its own. `progress` gets seconds of the runs as they pass.

    StockMissingError, OSError (sockets), RuntimeError (an engine that spins).
    """
    if not virtual:
        from relay.bench import sockets

        return [sockets.run(case, which, time.monotonic_ns, progress) for which in range(seeds)]
    from relay.bench import virtual as on_virtual_clock

    if jobs == 1 or seeds == 1:
        return [on_virtual_clock.run(case, which, progress) for which in range(seeds)]
    from concurrent.futures import ProcessPoolExecutor

    with ProcessPoolExecutor(min(jobs, seeds)) as pool:
        runs = []
        for run in pool.map(on_virtual_clock.run, [case] * seeds, range(seeds)):
            runs.append(run)
            if progress is not None:
                progress(case.span_ns / 1e9)
        return runs


@contextmanager
def _progress(total_s: float) -> Iterator[Progress | None]:
    """A bar on stderr where that is a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress as Bar

    with Bar(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("bench link", total=total_s)
        yield lambda seconds: bar.advance(task, seconds)


def _show(made: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    shown = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for row in table(made):
        shown.add_row(*row)
    Console(highlight=False).print(shown)
    click.echo(result.limit_line(made))
