#!/usr/bin/env python3
"""Writes docs/counters.md from the core's own lists (csrc/stat, csrc/base, csrc/forward): no list is kept by hand.

python tools/docs.py            writes        python tools/docs.py --check   exits 1 when the file is out of date
"""

from __future__ import annotations

import sys
from pathlib import Path

from relay import _core

TARGET = Path(__file__).resolve().parent.parent / "docs" / "counters.md"


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    return [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}", *(f"| {' | '.join(row)} |" for row in rows), ""]


def document() -> str:
    lines = ["# Counters, drop words, errors, records", "", "Made by `tools/docs.py` from the lists in `csrc/`.", ""]
    lines += ["## Counters", "", "One set per lane, in its counter page; all are metrics (`relay/metrics.py`).", ""]
    kinds = {"c": "counter", "g": "gauge"}
    lines += table(("name", "kind", "unit", "what"), [(f"`{n}`", kinds[k], u, h) for n, k, u, h in _core.STATS])
    lines += ["## Histograms", ""]
    lines += table(("name", "unit", "what"), [(f"`{n}`", u, h) for n, _, u, h in _core.HISTS])
    lines += [
        "## Drop words",
        "",
        "Conservation: in each ledger, what came in = what was accepted + these, exactly.",
        "",
    ]
    lines += table(("ledger", "word", "what"), [(ledger, f"`{word}`", h) for _, ledger, word, h in _core.DROPS])
    lines += ["## Errors", ""]
    lines += table(("name", "value", "text"), [(f"`{n}`", str(v), t) for n, v, t in _core.ERRORS])
    for title, rows in (("Commands", _core.COMMANDS), ("Events", _core.EVENTS)):
        lines += [f"## {title}", "", "64-byte records of `csrc/forward/zr_cmd.h`.", ""]
        lines += table(
            ("op", "fields", "what"),
            [(f"`{op}`", ", ".join(f for f in fields if f != "_") or "none", h) for op, fields, h in rows],
        )
    return "\n".join(lines)


def main() -> int:
    if "--check" in sys.argv:
        if not TARGET.exists() or TARGET.read_text() != document():
            print(f"{TARGET.name} is out of date: run python tools/docs.py", file=sys.stderr)
            return 1
        return 0
    TARGET.write_text(document())
    return 0


if __name__ == "__main__":
    sys.exit(main())
