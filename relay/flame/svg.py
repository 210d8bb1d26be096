"""A flame graph as one SVG file that needs nothing else: readable as it is, with search and zoom where scripts run.

Boxes are as wide as their share of the samples, the outermost frame lies at the bottom. Colours tell the kernel, ours,
Python and the rest apart. Given an older run, red grew and blue shrank, measured as share of all samples.
"""

from __future__ import annotations

import re
import zlib
from collections import Counter
from dataclasses import dataclass, field
from html import escape as html_escape
from pathlib import Path

from relay.flame.stacks import INLINED, KERNEL, Stacks, is_named

WIDTH, MARGIN, ROW = 1200, 10, 16
TOP, BOTTOM = 64, 34
CHAR = 6.6  # width of a letter of the 11 px monospace font
NARROWEST = 0.1  # px: a box below it cannot be seen
_SCRIPT = Path(__file__).parents[1] / "data" / "flame.js"
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass
class _Box:
    count: int = 0
    children: dict[str, _Box] = field(default_factory=dict)

    def add(self, stack: tuple[str, ...], count: int) -> None:
        self.count += count
        box = self
        for name in stack:
            box = box.children.setdefault(name, _Box())
            box.count += count


def escape(text: str) -> str:
    """Safe in XML text and attributes; characters that XML cannot hold become U+FFFD."""
    return html_escape(_NOT_XML.sub("\ufffd", text), quote=True)


def flame_graph(stacks: Stacks, title: str, old: Stacks | None = None) -> str:
    """The file's text. With `old`: boxes of `stacks`, coloured by what changed since."""
    root = _Box()
    for stack, count in stacks.counts.items():
        root.add(stack, count)
    changes = None if old is None else _shares_changed(stacks, old)
    scale = (WIDTH - 2 * MARGIN) / max(1, root.count)
    boxes: list[str] = []
    deepest = _draw(root, scale, changes, boxes)
    height = TOP + (deepest + 1) * ROW + BOTTOM
    legend = _LEGEND if old is None else _LEGEND_DIFF
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" '
        f'data-bottom="{height - BOTTOM}">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n"
        f'<rect width="100%" height="100%" fill="#fbfaf7"/>\n'
        f'<text x="{WIDTH / 2}" y="22" text-anchor="middle" class="head">{escape(title)}</text>\n'
        f'<text x="{MARGIN}" y="44" class="hint">{legend}</text>\n'
        f'<text id="reset" x="{MARGIN}" y="{height - 10}" class="button">all</text>\n'
        f'<text id="search" x="{WIDTH - MARGIN}" y="{height - 10}" text-anchor="end" class="button">search</text>\n'
        f'<text id="said" x="{WIDTH / 2}" y="{height - 10}" text-anchor="middle"></text>\n'
        f'<g id="boxes" transform="translate(0,{height - BOTTOM})">\n{"".join(boxes)}</g>\n'
        f"<script><![CDATA[\n{_SCRIPT.read_text()}]]></script>\n</svg>\n"
    )


def _draw(root: _Box, scale: float, changes: dict[tuple[str, ...], float] | None, out: list[str]) -> int:
    """Appends every box wide enough to be seen; returns the deepest row."""
    deepest = 0
    waiting: list[tuple[tuple[str, ...], _Box, int]] = [((), root, 0)]  # path, box, samples left of it
    while waiting:
        path, box, left = waiting.pop()
        width = box.count * scale
        if width < NARROWEST and path:
            continue
        deepest = max(deepest, len(path))
        out.append(_rect(path, box, left, scale, root.count, changes))
        for name in sorted(box.children):
            waiting.append(((*path, name), box.children[name], left))
            left += box.children[name].count
    return deepest


def _rect(
    path: tuple[str, ...],
    box: _Box,
    left: int,
    scale: float,
    whole: int,
    changes: dict[tuple[str, ...], float] | None,
) -> str:
    name = path[-1] if path else "all"
    x, y, width = MARGIN + left * scale, -(len(path) + 1) * ROW, box.count * scale
    said = f"{name} ({box.count} samples, {100 * box.count / max(1, whole):.2f} %"
    if changes is None:
        fill = _colour(name)
    else:
        change = changes.get(path, 0.0)
        said += f", {100 * change:+.2f} %"
        fill = _colour_of_change(change)
    letters = int((width - 4) / CHAR)
    shown = "" if letters < 3 else name if len(name) <= letters else name[: letters - 2] + ".."
    return (
        f'<g data-n="{escape(name)}" data-x="{left}" data-w="{box.count}" data-d="{len(path)}">'
        f"<title>{escape(said)})</title>"
        f'<rect x="{x:.2f}" y="{y}" width="{width:.2f}" height="{ROW - 1}" fill="{fill}" rx="1"/>'
        f'<text x="{x + 3:.2f}" y="{y + 11.5}">{escape(shown)}</text></g>\n'
    )


def _colour(name: str) -> str:
    """The same name has the same colour in every graph."""
    shade = zlib.crc32(name.encode(errors="replace")) % 40
    if not is_named(name) or name == "all":
        return f"rgb({190 + shade // 2},{190 + shade // 2},{190 + shade // 2})"
    if name.endswith(KERNEL):
        return f"rgb({225 + shade // 2},{140 + shade},60)"
    if ".py:" in name or name.endswith(".py)"):
        return f"rgb({90 + shade},{150 + shade},{200 + shade})"
    if name.removesuffix(INLINED).startswith("zr_"):
        return f"rgb({90 + shade},{175 + shade},{95 + shade})"
    return f"rgb({215 + shade},{190 + shade},{90 + shade})"


def _colour_of_change(change: float) -> str:
    """`change` of the share, -1 to 1: white at nothing, full at a tenth of all samples."""
    rest = int(255 - 175 * min(1.0, abs(change) * 10) ** 0.5) if abs(change) >= 0.0005 else 255
    if rest == 255:
        return "rgb(245,245,245)"
    return f"rgb(255,{rest},{rest})" if change > 0 else f"rgb({rest},{rest},255)"


def _shares_changed(new: Stacks, old: Stacks) -> dict[tuple[str, ...], float]:
    """Of each box, its share now minus its share then."""
    shares: list[Counter[tuple[str, ...]]] = []
    for stacks in (new, old):
        counts: Counter[tuple[str, ...]] = Counter()
        for stack, count in stacks.counts.items():
            for depth in range(len(stack) + 1):
                counts[stack[:depth]] += count
        shares.append(counts)
    now, then = shares
    return {path: now[path] / max(1, new.samples) - then[path] / max(1, old.samples) for path in now}


_STYLE = (
    "text{font:11px ui-monospace,Menlo,Consolas,monospace;fill:#222;pointer-events:none}"
    ".head{font-size:14px}.hint{fill:#666}.button{pointer-events:auto;cursor:pointer;fill:#06c}"
    "#boxes g{cursor:pointer}#boxes g:hover rect{stroke:#000;stroke-width:.7}.found rect{fill:#c0f!important}"
)
_LEGEND = "green: zr_ · orange: kernel · blue: Python · yellow: all else · grey: no name"
_LEGEND_DIFF = "red: a larger share than before · blue: a smaller one · white: as before"
