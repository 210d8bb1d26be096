"""Case T08: what one datagram of a stranger's costs the agent, by how far it gets; in instructions, and CPU time.

A key exchange, which is what the gate stands in front of, takes about 150 us.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.machine import slack

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))
import cbuild  # noqa: E402
from cflags import Switches, core_cflags, link_flags  # noqa: E402

OUT = ROOT / "build" / "bench"
KINDS = ("type", "length", "lane", "mac1", "mac2", "forged", "reply", "ratelimit")
COUNT = 2000
BAR_NS = 7500  # of any; the exchange is 20 times that


@pytest.fixture(scope="module")
def program() -> Path:
    """benchmarks/gate_cost.c with the core, compiled as the product is."""
    flags = core_cflags(Switches())
    objects, compiled = cbuild.compile_objects(
        ROOT, [*cbuild.core_sources(ROOT), Path("benchmarks/gate_cost.c")], flags, OUT
    )
    path = OUT / "gate_cost"
    cbuild.link(objects, link_flags(Switches()), path, changed=compiled > 0)
    return path


@pytest.mark.skipif(shutil.which("valgrind") is None, reason="valgrind is not installed (Debian: valgrind)")
def test_the_further_a_strangers_datagram_gets_the_more_it_has_shown(program: Path, tmp_path: Path) -> None:
    cost = {kind: instructions(program, kind, tmp_path) for kind in KINDS}
    print("\ninstructions per datagram, without the system call:")
    for kind in KINDS:
        print(f"  {kind:10} {cost[kind]:7.0f}")
    assert max(cost["type"], cost["length"], cost["lane"]) * 5 < cost["mac1"], "without keys nothing is computed"
    assert cost["mac1"] <= cost["ratelimit"] < cost["forged"]
    assert cost["mac1"] < cost["mac2"] < cost["reply"]


def test_no_datagram_of_a_strangers_costs_a_twentieth_of_a_key_exchange(program: Path) -> None:
    print("\nCPU ns per datagram, without the system call (median of 5):")
    for kind in KINDS:
        runs = [subprocess.run([program, kind, "20000"], stdout=subprocess.PIPE, check=True) for _ in range(5)]
        median = sorted(float(run.stdout) for run in runs)[2]
        print(f"  {kind:10} {median:7.0f}")
        assert median <= BAR_NS * slack()


@pytest.mark.skipif(shutil.which("valgrind") is None, reason="valgrind is not installed (Debian: valgrind)")
@pytest.mark.parametrize("kind", ["forged", "reply"])
def test_no_datagram_takes_memory_not_even_libcryptos(program: Path, kind: str) -> None:
    few, many = (heap(program, kind, count) for count in (100, 2000))
    assert few == many


def heap(program: Path, kind: str, count: int) -> tuple[str, ...]:
    """Allocations, and bytes of them, of a whole run."""
    done = subprocess.run(["valgrind", str(program), kind, str(count)], check=True, capture_output=True, text=True)
    usage = re.search(r"heap usage: ([\d,]+) allocs.* ([\d,]+) bytes allocated", done.stderr)
    assert usage is not None, done.stderr
    return usage.groups()


def instructions(program: Path, kind: str, folder: Path) -> float:
    """The program itself fails when a datagram ended otherwise."""
    done = subprocess.run(
        [
            "valgrind", "--tool=callgrind", "--toggle-collect=counted", f"--callgrind-out-file={folder / kind}",
            str(program), kind, str(COUNT),
        ],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    collected = re.search(r"Collected : (\d+)", done.stderr)
    assert collected is not None, done.stderr
    return int(collected[1]) / COUNT
