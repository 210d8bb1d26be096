"""The fuzz targets of tests/fuzz under AddressSanitizer and UBSan: their corpus and mutations of it.

20 000 of them for RTP; as many as 5 seconds allow for the gate, 8 for sealed datagrams, 20 for a lane, 30 for the pair
of KCP conversations. With ZR_FULL=1 five minutes each: here, or, where there is clang, by libFuzzer
(test_libfuzzer.py).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))
import cbuild  # noqa: E402
from cflags import Switches, core_cflags, link_flags  # noqa: E402

OUT = ROOT / "build" / "fuzz"
FUZZ = Path("tests/fuzz")
FLOORS = ("base", "mem", "ring", "stat", "time", "coll", "wire", "kcp", "probe", "gate", "forward")
BUDGETS = {"gate": "5s", "kcp": "30s", "lane": "20s", "rtp": "20000", "sealed": "8s"}
SECONDS_FULL = 300
LONG = bool(os.environ.get("ZR_FULL")) and shutil.which("clang") is None
SEED = 1
INPUT_BYTES_MAX = 8192
CHECKS = Switches("address,undefined", debug=True)


@pytest.fixture(scope="module")
def objects() -> list[Path]:
    """The core below the sockets, with every check, and what the targets share. One folder, so it is compiled once."""
    sources = [path for path in cbuild.core_sources(ROOT) if path.parts[1] in FLOORS]
    flags = [*core_cflags(CHECKS), "-Itests/fuzz"]
    targets = [FUZZ / f"{name}.c" for name in (*BUDGETS, "fuzz_main")]
    built, _ = cbuild.compile_objects(ROOT, [*sources, *targets], flags, OUT)
    return built


def corpus(target: str) -> list[Path]:
    return sorted((ROOT / FUZZ / "corpus" / target).glob("*.hex"))


@pytest.mark.timeout(SECONDS_FULL + 120 if LONG else 120)
@pytest.mark.parametrize("target", BUDGETS)
def test_corpus_and_mutations_break_nothing(objects: list[Path], target: str) -> None:
    program = OUT / target
    others = {f"{name}.o" for name in BUDGETS if name != target}
    mine = [path for path in objects if not (path.parent.name == "fuzz" and path.name in others)]
    cbuild.link(mine, link_flags(CHECKS), program, changed=True)
    inputs = corpus(target)
    done = subprocess.run(
        [program, f"{SECONDS_FULL}s" if LONG else BUDGETS[target], str(SEED), *inputs],
        env={**os.environ, "ASAN_OPTIONS": "abort_on_error=1", "UBSAN_OPTIONS": "abort_on_error=1:print_stacktrace=1"},
        capture_output=True, text=True, timeout=SECONDS_FULL + 60 if LONG else 60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    mutations = re.fullmatch(rf"{len(inputs)} inputs, (\d+) mutations\n", done.stdout)
    assert mutations is not None, done.stdout
    assert int(mutations[1]) >= 1000, "a machine too slow for this to mean anything"


@pytest.mark.parametrize("target", BUDGETS)
def test_the_corpus_is_small_and_says_what_it_is_for(target: str) -> None:
    files = corpus(target)
    assert len(files) >= 10
    for path in files:
        text = path.read_text()
        assert text.startswith("# "), f"{path.name}: the first line says why it is there"
        assert len(text) <= 2 * INPUT_BYTES_MAX
