"""The two sides of `zrelay bench ab`: a directory with a built checkout, or a git revision built for the occasion."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

BUILD_S = 900


class TreeError(Exception):
    """There is no such revision or directory, or it does not build; the message says which."""


@dataclass(frozen=True)
class Tree:
    """A built checkout. `name`: what the user called it."""

    name: str
    folder: Path

    def environment(self) -> dict[str, str]:
        """In which `python -m relay.cli` is this checkout's."""
        return {**os.environ, "PYTHONPATH": str(self.folder), "PYTHONSAFEPATH": "1"}


@contextmanager
def tree(name: str, scratch: Path, say: Callable[[str], None]) -> Iterator[Tree]:
    """Ready to run; a revision's worktree below `scratch` goes again. TreeError."""
    folder = Path(name)
    if folder.is_dir():
        _must_be_built(folder.resolve(), name)
        yield Tree(name, folder.resolve())
        return
    root = _git(None, "rev-parse", "--show-toplevel")
    if root is None:
        raise TreeError(f"{name}: no directory, and this is no git checkout to find a revision in")
    commit = _git(root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
    if commit is None:
        raise TreeError(f"{name}: neither a directory nor a revision of {root}")
    place = scratch / commit
    for attempt in range(2):  # the same revision on both sides: two worktrees
        if not place.exists():
            break
        place = scratch / f"{commit}-{attempt + 2}"
    say(f"{name}: building {commit[:12]} ...")
    if _git(root, "worktree", "add", "--detach", "--force", str(place), commit) is None:
        raise TreeError(f"{name}: git worktree add {place} failed")
    try:
        _build(place, name)
        yield Tree(name, place)
    finally:
        _git(root, "worktree", "remove", "--force", str(place))
        shutil.rmtree(place, ignore_errors=True)


def _must_be_built(folder: Path, name: str) -> None:
    if not (folder / "relay" / "cli.py").is_file():
        raise TreeError(f"{name}: no checkout of zrelay (no relay/cli.py)")
    if not any((folder / "relay").glob("_core.*.so")):
        raise TreeError(f"{name}: not built; run there: python setup.py build_ext --inplace")


def _build(folder: Path, name: str) -> None:
    if not (folder / "setup.py").is_file():
        raise TreeError(f"{name}: this revision has no setup.py")
    try:
        done = subprocess.run(
            [sys.executable, "setup.py", "-q", "build_ext", "--inplace"], cwd=folder, capture_output=True, text=True,
            timeout=BUILD_S, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise TreeError(f"{name}: not built after {BUILD_S} s") from None
    if done.returncode != 0:
        raise TreeError(f"{name}: does not build; the end of it:\n{(done.stdout + done.stderr)[-1500:]}")


def _git(root: str | None, *words: str) -> str | None:
    git = shutil.which("git")
    if git is None:
        raise TreeError("git is not installed: give two directories of built checkouts")
    at = ["-C", root] if root else []
    done = subprocess.run([git, *at, *words], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    return done.stdout.strip() if done.returncode == 0 else None
