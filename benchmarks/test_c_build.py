"""A clean build of the C core and the extension, as a newcomer's first command does it."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.machine import slack

pytestmark = pytest.mark.figures

BAR_S = 40.0
ROOT = Path(__file__).resolve().parent.parent


def test_clean_build(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    keep = shutil.ignore_patterns(".git", ".venv", "build", "*.so", "__pycache__", "_core.c")
    shutil.copytree(ROOT, tree, ignore=keep)
    start = time.monotonic()
    subprocess.run(
        [sys.executable, "setup.py", "-q", "build_ext", "--inplace"], cwd=tree, check=True, capture_output=True
    )
    seconds = time.monotonic() - start
    print(f"\nclean C build: {seconds:.1f} s")
    assert list((tree / "relay").glob("_core*.so"))
    assert seconds <= BAR_S * slack()
