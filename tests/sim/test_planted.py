"""The simulation notices: an off-by-one planted in forward/ turns it red."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SEEDS = "5"
FULL = bool(os.environ.get("ZR_FULL"))

CHAIN = "tests/sim/test_chain.py"
MIRROR = "tests/sim/test_mirror.py"
PLANTED = [  # file, right, wrong, what the simulation says, and where
    ("zr_stream.c", "zr_win_mark(&stream->window, n)", "zr_win_mark(&stream->window, n + 1)", "delivered twice", CHAIN),
    ("zr_fwd_out.c", "replay_at = item->ordinal + 1", "replay_at = item->ordinal", "a joiner got", CHAIN),
    ("zr_mirror.c", "mirrors->written |= (uint64_t)1 << worker", "mirrors->written |= 0 * worker", "order", MIRROR),
]
CHOSEN = PLANTED if FULL else PLANTED[:1]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project, without its build."""
    copy = tmp_path_factory.mktemp("planted") / "tree"
    left = shutil.ignore_patterns(".git", ".venv", "build", "_core*.so", "_whitebox*", "__pycache__")
    shutil.copytree(ROOT, copy, ignore=left)
    return copy


def run_in(tree: Path, *command: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "ZR_SIM_SEEDS": SEEDS, "PYTHONPATH": str(tree), "ZR_DEBUG": "1"}  # builds in half the time
    return subprocess.run([sys.executable, *command], cwd=tree, env=env, capture_output=True, text=True, timeout=230)


@pytest.mark.slow
@pytest.mark.timeout(500)
@pytest.mark.parametrize(
    ("file", "good", "bad", "said", "where"),
    CHOSEN,
    ids=[planted[0] for planted in CHOSEN],
)
def test_a_planted_off_by_one_turns_the_simulation_red(
    tree: Path, file: str, good: str, bad: str, said: str, where: str
) -> None:
    source = tree / "csrc" / "forward" / file
    text = source.read_text()
    assert text.count(good) == 1, "the line to change is not there any more"
    source.write_text(text.replace(good, bad))
    try:
        built = run_in(tree, "setup.py", "-q", "build_ext", "--inplace")
        assert built.returncode == 0, built.stderr
        ran = run_in(tree, "-m", "pytest", "-q", "-p", "no:cacheprovider", where, "-k", "at_most_once or instant")
    finally:
        source.write_text(text)
    assert ran.returncode == 1, ran.stdout + ran.stderr
    assert said in ran.stdout, ran.stdout
