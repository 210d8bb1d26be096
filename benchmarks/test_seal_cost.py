"""What sealing and opening cost, in CPU time of their thread, and that neither asks the allocator for anything."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.machine import slack

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))
import cbuild  # noqa: E402
from cflags import Switches, core_cflags, link_flags  # noqa: E402

from relay import _core  # noqa: E402

OUT = ROOT / "build" / "bench"
FLOORS = ("base", "mem", "ring", "stat", "time", "coll", "wire", "kcp", "probe", "forward")
BAR_NS = 800
REFUSED_NS = {"aes-128-gcm": 400, "chacha20-poly1305": 850}  # a forged datagram (T04): the second as opening costs
CIPHERS = ["aes-128-gcm", "chacha20-poly1305"]


@pytest.fixture(scope="module")
def program() -> Path:
    core = [path for path in cbuild.core_sources(ROOT) if path.parts[1] in FLOORS]
    flags = core_cflags(Switches())
    objects, compiled = cbuild.compile_objects(ROOT, core, flags, OUT)
    for name, more in (("seal_cost", objects), ("no_alloc", [])):
        own, fresh = cbuild.compile_objects(ROOT, [Path(f"benchmarks/{name}.c")], flags, OUT)
        target, shared = (OUT / "no_alloc.so", ["-shared"]) if name == "no_alloc" else (OUT / name, [])
        cbuild.link([*more, *own], [*link_flags(Switches()), *shared, "-ldl"], target, changed=compiled + fresh > 0)
    return OUT / "seal_cost"


def rows(program: Path, what: str, **environ: str) -> list[list[str]]:
    done = subprocess.run(
        [program, what], stdout=subprocess.PIPE, text=True, timeout=120, check=True, env={**os.environ, **environ}
    )
    return [line.split() for line in done.stdout.splitlines()]


@pytest.mark.figures
def test_sealing_and_opening_1200_bytes_cost_at_most_800_ns_and_refusing_400(program: Path) -> None:
    """With this machine's own cipher: AES-128-GCM wherever the CPU has it."""
    costs = {name: [float(ns) for ns in figures] for name, *figures in rows(program, "time")}
    print()
    for name, (seal, opened, refused) in costs.items():
        print(f"{name:18} 1200 B: sealed in {seal:.0f} ns, opened in {opened:.0f} ns, refused in {refused:.0f} ns")
    assert list(costs) == CIPHERS
    own, factor = CIPHERS[_core.cipher_default() - 1], slack()
    seal, opened, refused = costs[own]
    assert seal + opened <= BAR_NS * factor
    assert refused <= REFUSED_NS[own] * factor


def test_lanes_that_talk_under_keys_never_call_the_allocator(program: Path) -> None:
    """Forged datagrams, replaced lanes and rekeys included."""
    counts = rows(program, "count", LD_PRELOAD=str(OUT / "no_alloc.so"))
    assert [name for name, _, _ in counts] == CIPHERS
    assert all(int(accepted) > 5000 for _, accepted, _ in counts)
    assert [int(allocations) for _, _, allocations in counts] == [0, 0]
