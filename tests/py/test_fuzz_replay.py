"""The fuzz targets of tests/fuzz under AddressSanitizer and UBSan: their corpus, and 20 000 mutations of it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))
import cbuild  # noqa: E402
from cflags import SANITIZERS, Switches, core_cflags  # noqa: E402

OUT = ROOT / "build" / "fuzz"
FUZZ = Path("tests/fuzz")
FLOORS = ("base", "mem", "ring", "stat", "time", "coll", "wire", "kcp", "forward")
MUTATIONS, SEED = 20_000, 1
INPUT_BYTES_MAX = 8192


@pytest.fixture(scope="module")
def objects() -> list[Path]:
    """The core below the sockets, with every check, and what the targets share. One folder, so it is compiled once."""
    sources = [path for path in cbuild.core_sources(ROOT) if path.parts[1] in FLOORS]
    flags = [*core_cflags(Switches("address", debug=True)), *SANITIZERS["undefined"], "-Itests/fuzz"]
    targets = [FUZZ / "lane.c", FUZZ / "rtp.c", FUZZ / "fuzz_main.c"]
    built, _ = cbuild.compile_objects(ROOT, [*sources, *targets], flags, OUT)
    return built


def corpus(target: str) -> list[Path]:
    return sorted((ROOT / FUZZ / "corpus" / target).glob("*.hex"))


@pytest.mark.timeout(120)
@pytest.mark.parametrize("target", ["lane", "rtp"])
def test_corpus_and_mutations_break_nothing(objects: list[Path], target: str) -> None:
    program = OUT / target
    other = {"lane": "rtp.o", "rtp": "lane.o"}[target]
    mine = [path for path in objects if not (path.parent.name == "fuzz" and path.name == other)]
    cbuild.link(mine, [*SANITIZERS["address"], *SANITIZERS["undefined"]], program, changed=True)
    inputs = corpus(target)
    done = subprocess.run(
        [program, str(MUTATIONS), str(SEED), *inputs],
        env={**os.environ, "ASAN_OPTIONS": "abort_on_error=1", "UBSAN_OPTIONS": "abort_on_error=1:print_stacktrace=1"},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    assert done.stdout == f"{len(inputs)} inputs, {MUTATIONS} mutations\n"


@pytest.mark.parametrize("target", ["lane", "rtp"])
def test_the_corpus_is_small_and_says_what_it_is_for(target: str) -> None:
    files = corpus(target)
    assert len(files) >= 10
    for path in files:
        text = path.read_text()
        assert text.startswith("# "), f"{path.name}: the first line says why it is there"
        assert len(text) <= 2 * INPUT_BYTES_MAX
