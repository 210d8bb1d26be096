"""Small SVG plots for `zrelay bench report`, drawn here: bars, percentile curves, histories.

Colours are classes of the page's style sheet (f0.. fill, k0.. stroke); all texts are escaped.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

SERIES = 6
CURVE_MIN = 8  # fewer samples are no distribution
_WIDTH, _LEFT, _RIGHT = 720, 60, 20
_ROW = 26
_LABEL = 300
_TINY = 1e-300


def number(value: float) -> str:
    """Four significant digits, no exponent where none is needed."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    if abs(value) >= 1e4:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers from at or below `low` to at or above `high`."""
    if high - low < _TINY:  # also what is left of a number that no fifth is left of
        high = max(high, low + max(abs(low), 1.0))
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= raw * 0.999)
    first = math.floor(low / step + 1e-9)
    made = [first * step]
    while made[-1] < high - step * 1e-9:
        made.append((first + len(made)) * step)
    return made


def bars(rows: Sequence[tuple[str, float, float | None]], unit: str) -> str:
    """(label, value, bar) one below the other."""
    values = [value for _, value, _ in rows] + [bar for _, _, bar in rows if bar is not None]
    scale = ticks(min(0.0, *values), max(0.0, *values))
    wide = _WIDTH - _LABEL - 90

    def x(value: float) -> float:
        return _LABEL + wide * (value - scale[0]) / (scale[-1] - scale[0])

    parts = []
    for at, (label, value, bar) in enumerate(rows):
        top = at * _ROW + 6
        left, right = sorted((x(0.0), x(value)))
        parts.append(_text(_LABEL - 8, top + 13, _short(label), "end"))
        parts.append(f'<rect class="f{at % SERIES}" x="{left:.1f}" y="{top}" width="{right - left:.1f}" height="16"/>')
        parts.append(_text(right + 6, top + 13, f"{number(value)} {unit}".strip()))
        if bar is not None:
            parts.append(_line(x(bar), top - 4, x(bar), top + 20, "bar", dash=True))
    return _svg(
        len(rows) * _ROW + 8, parts, "bars: " + ", ".join(f"{label} {number(value)}" for label, value, _ in rows)
    )


def curve(samples: Sequence[float], unit: str) -> str:
    """Value over percentile, the upper tail drawn out: the distance to 100 % is logarithmic."""
    ordered = sorted(samples)
    count = len(ordered)
    points = [((at + 1) / count, value) for at, value in enumerate(ordered)]
    return _percentile_plot([(min(share, 1 - 0.5 / count), value) for share, value in points], unit)


def delays(points: Sequence[tuple[str, float]]) -> str:
    """(percentile, ms) of one result."""
    return _percentile_plot([(min(float(name) / 100, 0.9999), value) for name, value in points], "ms", marks=True)


def _percentile_plot(points: Sequence[tuple[float, float]], unit: str, *, marks: bool = False) -> str:
    height, bottom = 240, 206
    shares = [0.0, 0.5, 0.9, 0.99, 0.999, 0.9999]
    last = max(0.9, *(share for share, _ in points))
    scale = ticks(min(0.0, *(value for _, value in points)), max(value for _, value in points))
    far = -math.log10(1 - last)

    def x(share: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * min(1.0, -math.log10(1 - share) / far)

    def y(value: float) -> float:
        return bottom - (bottom - 14) * (value - scale[0]) / (scale[-1] - scale[0])

    parts = _y_axis(scale, y, unit)
    for share in shares:
        if share <= last:
            parts.append(_line(x(share), 14, x(share), bottom, "axis"))
            parts.append(_text(x(share), bottom + 18, f"{share * 100:g} %", "middle", "soft"))
    path = " ".join(f"{x(share):.1f},{y(value):.1f}" for share, value in points)
    parts.append(f'<polyline class="k0" fill="none" stroke-width="2" points="{path}"/>')
    if marks:
        for share, value in points:
            parts.append(f'<circle class="f0" cx="{x(share):.1f}" cy="{y(value):.1f}" r="3"/>')
            parts.append(_text(x(share), y(value) - 7, number(value), "end"))
    return _svg(height, parts, "percentiles: " + ", ".join(f"{s:.4g} {number(v)}" for s, v in points[-5:]))


def history(points: Sequence[tuple[str, float, float, float]], unit: str, bar: float | None) -> str:
    """(label, median, min, max) from left to right."""
    height, bottom = 230, 188
    values = [value for _, *rest in points for value in rest] + ([] if bar is None else [bar])
    scale = ticks(min(values), max(values))
    step = (_WIDTH - _LEFT - _RIGHT) / len(points)

    def y(value: float) -> float:
        return bottom - (bottom - 14) * (value - scale[0]) / (scale[-1] - scale[0])

    parts = _y_axis(scale, y, unit)
    places = [(_LEFT + step * (at + 0.5), point) for at, point in enumerate(points)]
    for x, (label, median, low, high) in places:
        parts.append(_line(x, y(low), x, y(high), "k0"))
        parts.append(f'<circle class="f0" cx="{x:.1f}" cy="{y(median):.1f}" r="4"/>')
        parts.append(_text(x, bottom + 18, _short(label, max(6, int(step / 7))), "middle", "soft"))
        parts.append(_text(x + 8, y(median) - 6, number(median)))
    path = " ".join(f"{x:.1f},{y(median):.1f}" for x, (_, median, _, _) in places)
    parts.append(f'<polyline class="k0" fill="none" points="{path}"/>')
    if bar is not None:
        parts.append(_line(_LEFT, y(bar), _WIDTH - _RIGHT, y(bar), "bar", dash=True))
        parts.append(_text(_WIDTH - _RIGHT, y(bar) - 4, f"bar {number(bar)}", "end", "soft"))
    return _svg(height, parts, "history: " + ", ".join(f"{label} {number(median)}" for label, median, _, _ in points))


def _y_axis(scale: Sequence[float], y: object, unit: str) -> list[str]:
    assert callable(y)
    parts = [_text(4, 10, unit, "start", "soft")] if unit else []
    for value in scale:
        parts.append(_line(_LEFT, y(value), _WIDTH - _RIGHT, y(value), "axis"))
        parts.append(_text(_LEFT - 6, y(value) + 4, number(round(value, 12)), "end", "soft"))
    return parts


def _line(x1: float, y1: float, x2: float, y2: float, kind: str, *, dash: bool = False) -> str:
    dashes = ' stroke-width="2" stroke-dasharray="5 3"' if dash else ""
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"{dashes}/>'


def _text(x: float, y: float, text: str, anchor: str = "start", kind: str = "") -> str:
    named = f' class="{kind}"' if kind else ""
    return f'<text{named} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _short(text: str, most: int = 44) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _svg(height: float, parts: Sequence[str], says: str) -> str:
    """`says`: what the plot shows, for who cannot see it."""
    size = f'viewBox="0 0 {_WIDTH} {height:g}" width="{_WIDTH}" height="{height:g}"'
    head = f'<svg role="img" aria-label="{escape(says)}" {size}>'
    return head + "\n" + "\n".join(parts) + "\n</svg>"
