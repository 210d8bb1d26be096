"""`zrelay bench report`: result files as one HTML page, with nothing to fetch and nothing to run."""

from __future__ import annotations

import re
from html import escape
from pathlib import Path
from typing import Any

import click

from relay import __version__
from relay.bench import plots
from relay.bench.fingerprint import COMPARED, normal
from relay.bench.result import Measured, Result, ResultError, load

# What HTML allows nowhere.
_NO_TEXT = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")
# Colours stand in the style sheet alone, so that the page follows the reader's light or dark.
_STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --paper: #fff; --soft: #667; --line: #d5d8dd; --bar: #c2410c;
  --s0: #2563eb; --s1: #0f766e; --s2: #a21caf; --s3: #b45309; --s4: #4d7c0f; --s5: #be123c; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e8eb; --paper: #15181c; --soft: #9aa3ad; --line: #343a42;
  --bar: #fb923c; --s0: #7aa7ff; --s1: #2dd4bf; --s2: #e879f9; --s3: #fbbf24; --s4: #a3e635; --s5: #fb7185; } }
body { background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto;
  max-width: 62rem; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; border-top: 1px solid var(--line);
  padding-top: 1rem; }
table { border-collapse: collapse; font-size: 0.87rem; width: 100%; } caption { text-align: left; color: var(--soft); }
th, td { text-align: left; padding: 0.25rem 0.6rem 0.25rem 0; border-bottom: 1px solid var(--line);
  vertical-align: top; overflow-wrap: anywhere; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
figure { margin: 1.2rem 0; overflow-x: auto; } figcaption { color: var(--soft); font-size: 0.87rem; }
svg { max-width: 100%; height: auto; } svg text { fill: var(--ink); font: 12px system-ui, sans-serif; }
svg .soft { fill: var(--soft); } svg .axis { stroke: var(--line); } svg .bar { stroke: var(--bar); }
.over { color: var(--bar); font-weight: 600; } p.soft { color: var(--soft); }
""" + "".join(f"svg .f{i} {{ fill: var(--s{i}); }} svg .k{i} {{ stroke: var(--s{i}); }}\n" for i in range(plots.SERIES))


def page(results: list[Result]) -> str:
    """The whole document."""
    parts = [_head(results)]
    groups: dict[str, dict[tuple[str, str], list[tuple[Result, Measured]]]] = {}
    for result in results:
        for measured in result.measured:
            groups.setdefault(measured.group or "benchmarks", {}).setdefault(measured.key, []).append(
                (result, measured)
            )
    for group, rows in groups.items():
        parts.append(f"<h2>{escape(group)}</h2>")
        parts.append(_figures(rows))
        parts += _plots(rows)
        parts.append(_method(rows))
    parts.append(_machines(results))
    body = _NO_TEXT.sub("\N{REPLACEMENT CHARACTER}", "\n".join(parts))
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>zrelay bench report</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def _head(results: list[Result]) -> str:
    count = f"{len(results)} result file{'s' if len(results) > 1 else ''}"
    return f'<h1>zrelay bench report</h1>\n<p class="soft">{count}, written by zrelay {escape(__version__)}.</p>'


def _figures(rows: dict[tuple[str, str], list[tuple[Result, Measured]]]) -> str:
    lines = []
    for found in rows.values():
        for result, measured in found:
            stats, bar = measured.stats, _bar(measured)
            over = bar is not None and (stats["median"] < bar if measured.better == "higher" else stats["median"] > bar)
            lines.append(
                f"<tr><td>{escape(measured.title)}</td><td>{escape(_name(result))}</td>"
                f'<td class="n{" over" if over else ""}">{plots.number(stats["median"])}</td>'
                f"<td>{escape(measured.unit)}</td>"
                f'<td class="n">{plots.number(stats["min"])} to {plots.number(stats["max"])}</td>'
                f'<td class="n">{stats["rounds"]:.0f}</td>'
                f'<td class="n">{"" if bar is None else plots.number(bar) + (" (missed)" if over else "")}</td></tr>'
            )
    head = "<tr><th>figure</th><th>file</th><th class=n>median</th><th>unit</th><th class=n>range</th>"
    return (
        f"<table>\n<thead>{head}<th class=n>rounds</th><th class=n>bar</th></tr></thead>\n<tbody>\n"
        + "\n".join(lines)
        + "\n</tbody></table>"
    )


def _plots(rows: dict[tuple[str, str], list[tuple[Result, Measured]]]) -> list[str]:
    made = []
    by_unit: dict[str, list[tuple[str, float, float | None]]] = {}
    history = False
    for found in rows.values():
        if len(found) > 1:
            history = True
            for _, measured in found[:1]:
                points = [(_name(result), m.stats["median"], m.stats["min"], m.stats["max"]) for result, m in found]
                made.append(
                    _figure(plots.history(points, measured.unit, _bar(measured)), f"{measured.title} over files")
                )
        else:
            _, measured = found[0]
            by_unit.setdefault(measured.unit, []).append((measured.title, measured.stats["median"], _bar(measured)))
    if not history:
        for unit, bars in by_unit.items():
            made.append(_figure(plots.bars(bars, unit), f"Medians, {unit or 'ratio'}; the line is the bar, if any."))
    curves = [
        (measured.title, list(measured.samples), measured.unit)
        for found in rows.values()
        for _, measured in found[-1:]
        if len(measured.samples) >= plots.CURVE_MIN
    ]
    for title, samples, unit in curves:
        made.append(_figure(plots.curve(samples, unit), f"{title}: percentiles of {len(samples)} rounds"))
    for found in rows.values():
        for result, measured in found:
            delays = _percentiles(measured)
            if delays:
                made.append(_figure(plots.delays(delays), f"Delay in {_name(result)}, by percentile, ms"))
    return made


def _percentiles(measured: Measured) -> list[tuple[str, float]]:
    """Of a result that has them: p50_ms and so on."""
    whole = measured.extra.get("result")
    if not isinstance(whole, dict):
        return []
    for unit, factor in (("ms", 1.0), ("us", 1e-3)):
        names = (("p50", "50"), ("p90", "90"), ("p99", "99"), ("p999", "99.9"), ("max", "100"))
        found = [(shown, whole.get(f"{name}_{unit}")) for name, shown in names]
        points = [(shown, float(value) * factor) for shown, value in found if isinstance(value, int | float)]
        if len(points) >= 3:
            return points
    return []


def _method(rows: dict[tuple[str, str], list[tuple[Result, Measured]]]) -> str:
    """What was run and what limited it, once per file."""
    lines = []
    for found in rows.values():
        for result, measured in found:
            whole = measured.extra.get("result")
            if isinstance(whole, dict):
                options = ", ".join(f"{name} {value}" for name, value in whole.items() if _is_option(name, value))
                limit = str(measured.extra.get("limited_by") or "not said")
                lines.append(
                    f"<tr><td>{escape(_name(result))}</td><td>{escape(options)}</td><td>{escape(limit)}</td></tr>"
                )
    if not lines:
        return ""
    return (
        "<table>\n<caption>Method</caption>\n<thead><tr><th>file</th><th>what was run</th><th>limited by</th></tr>"
        "</thead>\n<tbody>\n" + "\n".join(lines) + "\n</tbody></table>"
    )


def _is_option(name: str, value: Any) -> bool:
    return isinstance(value, str | int | float | bool) and name != "limited_by"


def _machines(results: list[Result]) -> str:
    machines = [normal(result.machine) for result in results]
    head = "".join(f"<th>{escape(_name(result))}</th>" for result in results)
    rows = [
        ("measured", [result.at for result in results]),
        ("by", [result.version for result in results]),
        (
            "commit",
            [f"{str(r.commit.get('id', ''))[:12]}{' (changed)' if r.commit.get('dirty') else ''}" for r in results],
        ),
        *((name, [str(machine.get(name, "")) for machine in machines]) for name in (*COMPARED, "load_average")),
    ]
    lines = [
        f"<tr><th>{escape(name)}</th>{''.join(f'<td>{escape(value)}</td>' for value in values)}</tr>"
        for name, values in rows
        if any(values)
    ]
    return (
        f"<h2>Machines</h2>\n<table>\n<thead><tr><th></th>{head}</tr></thead>\n<tbody>\n"
        + "\n".join(lines)
        + "\n</tbody></table>"
    )


def _bar(measured: Measured) -> float | None:
    bar = measured.extra.get("bar")
    return float(bar) if isinstance(bar, int | float) and not isinstance(bar, bool) else None


def _name(result: Result) -> str:
    return Path(result.path).name


def _figure(svg: str, caption: str) -> str:
    return f"<figure>\n{svg}\n<figcaption>{escape(caption)}</figcaption>\n</figure>"


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("-o", "--output", default="report.html", show_default=True)
def report(files: tuple[str, ...], output: str) -> None:
    """Result files as one HTML page with plots.

    The page holds everything and asks for nothing: it opens without a network. Several files of the same benchmark
    become a history, in the order they are given.
    """
    try:
        results = [load(path) for path in files]
    except ResultError as error:
        raise click.ClickException(str(error)) from None
    target = Path(output)
    try:
        target.write_text(page(results), encoding="utf-8")
    except OSError as error:
        raise click.ClickException(f"{output}: {error.strerror}") from None
    click.echo(
        f"{output}: {target.stat().st_size >> 10} KiB, {sum(len(r.measured) for r in results)} figures", err=True
    )
