"""`zrelay bench compare`: two result files, benchmark by benchmark. Exit 3 on a regression."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import dataclass
from typing import Any, Literal

import click

from relay.bench.fingerprint import differences
from relay.bench.result import Measured, Result, ResultError, load
from relay.bench.stats import Interval, heaps_ratio, summary_ratio
from relay.units import parse_fraction

EXIT_REGRESSION = 3
Word = Literal["better", "worse", "REGRESSION", "no difference shown", "only in old", "only in new"]


@dataclass(frozen=True)
class Row:
    """One benchmark in both files, or in one of them."""

    old: Measured | None
    new: Measured | None
    interval: Interval | None
    word: Word

    @property
    def title(self) -> str:
        measured = self.new or self.old
        assert measured is not None
        return measured.title

    @property
    def noise_known(self) -> bool:
        return self.interval is not None and self.interval.high < math.inf


def rows(old: Result, new: Result, fail_above: float) -> list[Row]:
    """In the order of the new file; what only the old one has comes last."""
    left = {measured.key: measured for measured in old.measured}
    made = []
    for measured in new.measured:
        before = left.pop(measured.key, None)
        if before is None:
            made.append(Row(None, measured, None, "only in new"))
        else:
            made.append(_row(before, measured, fail_above))
    return made + [Row(measured, None, None, "only in old") for measured in left.values()]


def _row(old: Measured, new: Measured, fail_above: float) -> Row:
    if len(old.samples) > 1 and len(new.samples) > 1:
        interval = heaps_ratio(old.samples, new.samples)
    else:
        interval = summary_ratio(*((m.stats["mean"], m.stats["stddev"], int(m.stats["rounds"])) for m in (old, new)))
    return Row(old, new, interval, _word(interval, new.better == "higher", fail_above))


def _word(interval: Interval, higher_is_better: bool, fail_above: float) -> Word:
    """Beyond the threshold, and beyond the noise where it is known."""
    ratio, known = interval.ratio, interval.high < math.inf
    worse = ratio < 1 if higher_is_better else ratio > 1
    by = (1 / ratio if ratio > 0 else math.inf) if higher_is_better and worse else ratio
    shown = not interval.low <= 1 <= interval.high if known else False
    if worse and by > 1 + fail_above and (shown or not known):
        return "REGRESSION"
    if shown:
        return "worse" if worse else "better"
    return "no difference shown"


def figures(old: Result, new: Result, compared: list[Row], fail_above: float) -> dict[str, Any]:
    """The JSON."""

    def finite(value: float) -> float | None:
        return round(value, 5) if math.isfinite(value) else None

    return {
        "old": old.path,
        "new": new.path,
        "fail_above": fail_above,
        "differences": differences(old.machine, new.machine),
        "regressions": sum(row.word == "REGRESSION" for row in compared),
        "benchmarks": [
            {
                "name": (row.new or row.old).name,  # type: ignore[union-attr]
                "params": (row.new or row.old).params,  # type: ignore[union-attr]
                "old": row.old.stats["median"] if row.old else None,
                "new": row.new.stats["median"] if row.new else None,
                "unit": (row.new or row.old).unit,  # type: ignore[union-attr]
                "better": (row.new or row.old).better,  # type: ignore[union-attr]
                "ratio": finite(row.interval.ratio) if row.interval else None,
                "low": finite(row.interval.low) if row.noise_known and row.interval else None,
                "high": finite(row.interval.high) if row.interval else None,
                "verdict": row.word,
            }
            for row in compared
        ],
    }


def _fail_above(context: click.Context, parameter: click.Parameter, value: str) -> float:
    try:
        return parse_fraction(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


@click.command()
@click.argument("old")
@click.argument("new")
@click.option("--fail-above", default="5%", show_default=True, callback=_fail_above, help="Worse by more: exit 3.")
@click.option("--json", "as_json", is_flag=True)
def compare(old: str, new: str, fail_above: float, as_json: bool) -> None:
    """Two result files, benchmark by benchmark; exit 3 on a regression.

    A regression is worse by more than --fail-above and beyond the noise of both files (99 % interval). Of a figure
    that was measured once the noise is not known: the threshold alone decides. Files of pytest-benchmark are read too.
    """
    try:
        before, after = load(old), load(new)
    except ResultError as error:
        raise click.ClickException(str(error)) from None
    compared = rows(before, after, fail_above)
    if not any(row.interval for row in compared):
        raise click.ClickException(f"{old} and {new} have no benchmark in common: same verb, same options?")
    for difference in differences(before.machine, after.machine):
        click.echo(f"WARN not the same machine: {difference}", err=True)
    if as_json:
        click.echo(json.dumps(figures(before, after, compared, fail_above)))
    else:
        _show(compared)
    sys.exit(EXIT_REGRESSION if any(row.word == "REGRESSION" for row in compared) else 0)


def _show(compared: list[Row]) -> None:
    from rich.console import Console
    from rich.table import Table

    shown = Table(box=None, padding=(0, 2, 0, 0))
    for head in ("benchmark", "old", "new", "unit", "new / old", "99 % interval", "verdict"):
        shown.add_column(head, justify="right" if head in ("old", "new", "new / old") else "left")
    for row in compared:
        measured = row.new or row.old
        assert measured is not None
        noise = f"{row.interval.low:.3f} to {row.interval.high:.3f}" if row.noise_known and row.interval else "-"
        if row.interval and not row.noise_known:
            noise = "1 run: not known"
        shown.add_row(
            row.title,
            f"{row.old.stats['median']:.5g}" if row.old else "-",
            f"{row.new.stats['median']:.5g}" if row.new else "-",
            measured.unit,
            f"{row.interval.ratio:.3f}" if row.interval else "-",
            noise,
            row.word,
        )
    Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else 160).print(shown)
