"""The same targets under clang's libFuzzer, which looks for inputs that lead where none led before: with ZR_FULL=1,
five minutes each (the core once more, by another compiler, is too long for every run). What it finds is printed in the
form of the corpus, ready to be kept there.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.test_fuzz_replay import BUDGETS, CHECKS, FLOORS, FUZZ, INPUT_BYTES_MAX, ROOT, SECONDS_FULL, SEED, corpus

sys.path.insert(0, str(ROOT / "tools"))
import cbuild
from cflags import LIBFUZZER, LIBFUZZER_OBJECT, core_cflags, link_flags

OUT = ROOT / "build" / "libfuzzer"
SECONDS = SECONDS_FULL
RSS_MB_MAX = 1024

pytestmark = [
    pytest.mark.timeout(SECONDS + 600),  # compiled anew, on a machine with other things to do
    pytest.mark.skipif(not os.environ.get("ZR_FULL"), reason="compiles the core once more: ./tools/test --full"),
    pytest.mark.skipif(shutil.which("clang") is None, reason="no libFuzzer: install clang"),
]


@pytest.fixture(scope="module")
def programs() -> dict[str, Path]:
    """One of each target, all with the core below the sockets and every check."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CC", "clang")
        sources = [path for path in cbuild.core_sources(ROOT) if path.parts[1] in FLOORS]
        flags = [*core_cflags(CHECKS), *LIBFUZZER_OBJECT, "-Itests/fuzz"]
        targets = [FUZZ / f"{name}.c" for name in BUDGETS]
        objects, compiled = cbuild.compile_objects(ROOT, [*sources, *targets], flags, OUT)
        others = {OUT / path.with_suffix(".o") for path in targets}
        for name in BUDGETS:
            mine = [path for path in objects if path not in others or path.name == f"{name}.o"]
            cbuild.link(mine, [*LIBFUZZER, *link_flags(CHECKS)], OUT / name, changed=compiled > 0)
    return {name: OUT / name for name in BUDGETS}


def bytes_of(text: str) -> bytes:
    """A file of the corpus as the targets take it: each line a record behind its length."""
    records = [bytes.fromhex(line.split("#")[0]) for line in text.splitlines()]
    return b"".join(len(record).to_bytes(2, "little") + record for record in records if record)


def text_of(data: bytes) -> str:
    lines, at = [], 0
    while at + 2 <= len(data):
        end = at + 2 + int.from_bytes(data[at : at + 2], "little")
        lines.append(data[at + 2 : end].hex())
        at = end
    return "\n".join(lines)


@pytest.mark.parametrize("target", BUDGETS)
def test_inputs_that_lead_where_none_led_before_break_nothing(
    programs: dict[str, Path], target: str, tmp_path: Path
) -> None:
    seeds, found = tmp_path / "seeds", tmp_path / "found"
    seeds.mkdir()
    found.mkdir()
    for path in corpus(target):
        (seeds / path.stem).write_bytes(bytes_of(path.read_text()))
    limits = [f"-max_total_time={SECONDS}", f"-max_len={INPUT_BYTES_MAX}", f"-rss_limit_mb={RSS_MB_MAX}", "-timeout=25"]
    done = subprocess.run(
        [programs[target], *limits, f"-seed={SEED}", "-print_final_stats=1", f"-artifact_prefix={found}/", seeds],
        capture_output=True, text=True, errors="replace", timeout=SECONDS + 120, check=False,
    )  # fmt: skip
    inputs = "\n\n".join(f"# {path.name}\n{text_of(path.read_bytes())}" for path in found.iterdir())
    assert done.returncode == 0, f"{done.stderr[-4000:]}\n{inputs}"
    made = re.search(r"stat::number_of_executed_units: (\d+)", done.stderr)
    assert made is not None, done.stderr[-4000:]
    assert int(made[1]) >= len(corpus(target)), "not even its corpus was tried"
    print(f"{target}: {made[1]} inputs in {SECONDS} s")
