"""The functions on top, as rows: what ``zrelay flame --text`` prints."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from relay.flame.stacks import Stacks

ROWS = 20


@dataclass(frozen=True)
class Row:
    """One function: samples taken in it, and samples with it anywhere in the stack."""

    name: str
    own: int
    total: int


def top(stacks: Stacks, rows: int = ROWS) -> list[Row]:
    """The functions with the most samples of their own. A function that calls itself counts a sample once."""
    own: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for stack, count in stacks.counts.items():
        own[stack[-1]] += count
        for name in set(stack[1:]):
            total[name] += count
    most = sorted(own, key=lambda name: (-own[name], name))[:rows]
    return [Row(name, own[name], total[name]) for name in most]


def text(stacks: Stacks, rows: int = ROWS) -> str:
    """Lines ``own % | with callees % | samples | function``."""
    whole = max(1, stacks.samples)
    lines = ["   own   total  samples  function"]
    for row in top(stacks, rows):
        lines.append(f"{100 * row.own / whole:5.1f} % {100 * row.total / whole:5.1f} % {row.own:8}  {row.name}")
    return "\n".join(lines)
