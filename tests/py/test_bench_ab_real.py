"""`zrelay bench ab` on real builds: two installations, two revisions; a slowdown sown into one of them, or none."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SHORT = ["--bench", "link", "--rounds", "8", "--options", "--virtual --seconds 2 --loss 10%"]
LOOP = "    while now < end:\n"  # of relay/bench/virtual.py, a few thousand times in such a run


def ab(*words: str, cwd: Path = ROOT, limit_s: float = 110) -> tuple[int, dict[str, object], str]:
    command = [sys.executable, "-m", "relay.cli", "bench", "ab", *words, "--json"]
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=cwd, env=environ, capture_output=True, text=True, timeout=limit_s, check=False)
    return done.returncode, json.loads(done.stdout or "{}"), done.stderr


def installation(folder: Path, *, with_zrelay: bool = True) -> Path:
    """A virtual environment with this build in it; what zrelay depends on is borrowed from ours."""
    venv.create(folder, symlinks=True, with_pip=False)
    packages = folder / "lib" / f"python3.{sys.version_info.minor}" / "site-packages"
    if with_zrelay:
        (packages / "borrowed.pth").write_text(f"{sysconfig.get_path('purelib')}\n{sysconfig.get_path('platlib')}\n")
        shutil.copytree(ROOT / "relay", packages / "relay", ignore=shutil.ignore_patterns("*.c", "__pycache__"))
    return folder


def sow(virtual: Path) -> None:
    """About 400 µs more in each turn: more than what runs beside this test may take."""
    text = virtual.read_text()
    assert text.count(LOOP) == 1
    virtual.write_text(text.replace(LOOP, LOOP + "        sum(range(20000))\n"))


def test_of_two_installations_the_one_with_a_slowdown_is_the_slower_one(tmp_path: Path) -> None:
    old, new = installation(tmp_path / "old"), installation(tmp_path / "new")
    (virtual,) = new.glob("lib/*/site-packages/relay/bench/virtual.py")
    sow(virtual)
    code, made, said = ab(str(old), str(new), *SHORT)
    assert code == 0, said
    assert made["verdict"] == "slower"
    assert made["pairs"] == 8
    ratio, low = made["ratio"], made["low"]
    assert isinstance(ratio, float)
    assert isinstance(low, float)
    assert ratio > low > 1


def test_an_environment_without_zrelay_is_refused_by_name(tmp_path: Path) -> None:
    empty = installation(tmp_path / "empty", with_zrelay=False)
    code, _, said = ab(str(empty), str(ROOT), *SHORT)
    assert code == 1
    assert "a virtual environment without zrelay" in said


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(not os.environ.get("ZR_FULL"), reason="builds two revisions: ./tools/test --full")
def test_of_two_revisions_that_are_built_the_one_with_a_slowdown_in_c_is_the_slower_one(tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    cloned = subprocess.run(["git", "clone", "-q", "--local", str(ROOT), str(copy)], capture_output=True, check=False)
    if cloned.returncode != 0:
        pytest.skip("this is no git checkout")
    source = copy / "csrc" / "ring" / "zr_spsc.c"
    head, found, rest = source.read_text().partition("void zr_spsc_commit(zr_spsc *ring)\n{\n")
    assert found
    source.write_text(f"{head}{found}    for (volatile int sown = 0; sown < 100; sown++)\n        ;\n{rest}")
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.net"]
    subprocess.run(["git", *identity, "commit", "-qam", "slower"], cwd=copy, check=True)
    words = ["--bench", "ring", "--figure", "ns_per_record_alone", "--rounds", "8", "--options", "--seconds 0.2"]
    code, made, said = ab("HEAD~1", "HEAD", *words, cwd=copy, limit_s=1700)
    assert code == 0, said
    assert made["verdict"] == "slower"
    listed = subprocess.run(["git", "worktree", "list"], cwd=copy, capture_output=True, text=True, check=True)
    assert len(listed.stdout.splitlines()) == 1


@pytest.mark.slow
@pytest.mark.skipif(not os.environ.get("ZR_FULL"), reason="takes a minute: ./tools/test --full")
def test_the_same_build_against_itself_is_no_win_twice_in_a_row() -> None:
    """By its level one in a hundred such comparisons claims something: two in a row, of the same word, never should."""
    words = [ab(str(ROOT), str(ROOT), *SHORT)[1]["verdict"] for _ in range(2)]
    assert "no difference shown" in words or len(set(words)) == 2
