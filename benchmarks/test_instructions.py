"""Instructions per forwarded packet in the data plane, counted by callgrind: the same on every machine, busy or not.

Without system calls and the kernel's part (`test_packet_cost.py` has those), one packet a turn. A figure without a bar.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))
import cbuild  # noqa: E402
from cflags import Switches, core_cflags, link_flags  # noqa: E402

OUT = ROOT / "build" / "bench"
FLOORS = ("base", "mem", "ring", "stat", "time", "coll", "wire", "kcp", "probe", "forward")
SCENARIOS = {
    "RTP in, 1 RTP subscriber": ("rtp", "1"),
    "RTP in, 10 RTP subscribers": ("rtp", "10"),
    "RTP in, KCP out (origin)": ("mesh", "origin"),
    "KCP in, KCP out (a hop)": ("mesh", "middle"),
    "KCP in, RTP out (edge)": ("mesh", "edge"),
    "a hop, sealed": ("sealed", "middle"),
}


@pytest.fixture(scope="module")
def driver() -> Path:
    """benchmarks/instructions.c with the core, compiled as the product is."""
    core = [path for path in cbuild.core_sources(ROOT) if path.parts[1] in FLOORS]
    flags = core_cflags(Switches())
    objects, compiled = cbuild.compile_objects(ROOT, core, flags, OUT)
    ours, more = cbuild.compile_objects(ROOT, [Path("benchmarks/instructions.c")], [*flags, "-Itests/c"], OUT)
    program = OUT / "instructions"
    cbuild.link([*objects, *ours], link_flags(Switches()), program, changed=compiled + more > 0)
    return program


@pytest.mark.skipif(shutil.which("valgrind") is None, reason="valgrind is not installed (Debian: valgrind)")
def test_instructions_per_packet(driver: Path, tmp_path: Path) -> None:
    print("\ninstructions per packet, without system calls:")
    for title, words in SCENARIOS.items():
        cost = instructions(driver, words, tmp_path)
        assert cost > 0
        print(f"  {title:28} {cost:7.0f}")


def instructions(driver: Path, words: tuple[str, ...], folder: Path) -> float:
    """The driver itself fails when a packet did not arrive."""
    done = subprocess.run(
        [
            "valgrind", "--tool=callgrind", "--toggle-collect=counted",
            f"--callgrind-out-file={folder / '.'.join(words)}", str(driver), *words,
        ],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    collected = re.search(r"Collected : (\d+)", done.stderr)
    assert collected is not None, done.stderr
    return int(collected[1]) / int(done.stdout)
