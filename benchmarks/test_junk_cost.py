"""Case U07: what a stranger's datagram costs before it is dropped, in CPU time, without the system call."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.machine import slack

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))
import cbuild  # noqa: E402
from cflags import Switches, core_cflags, link_flags  # noqa: E402

pytestmark = pytest.mark.figures

OUT = ROOT / "build" / "bench"
FLOORS = ("base", "mem", "ring", "stat", "time", "coll", "wire", "kcp", "probe", "forward")
BAR_NS = 100


def test_a_datagram_for_no_session_costs_at_most_100_ns() -> None:
    sources = [path for path in cbuild.core_sources(ROOT) if path.parts[1] in FLOORS]
    objects, compiled = cbuild.compile_objects(
        ROOT, [*sources, Path("benchmarks/junk_cost.c")], core_cflags(Switches()), OUT
    )
    program = OUT / "junk_cost"
    cbuild.link(objects, link_flags(Switches()), program, changed=compiled > 0)
    done = subprocess.run([program], stdout=subprocess.PIPE, text=True, timeout=60, check=True)
    rows = [line.split() for line in done.stdout.splitlines()]
    print()
    for kind, lowest, median in rows:
        print(f"{kind:8} dropped in {lowest} ns (lowest), {median} ns (median) of 15 x 102400")
    bar = BAR_NS * slack()
    assert [kind for kind, _, _ in rows] == ["noindex", "lane", "type"]
    assert all(float(median) <= bar for _, _, median in rows)
