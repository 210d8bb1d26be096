"""The two sides of `zrelay bench ab`: a built checkout, a virtual environment, or a git revision built on the spot."""

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
    """A built checkout, or an installation. `name`: what the user called it; `python`: which runs it."""

    name: str
    folder: Path
    python: str = sys.executable
    installed: bool = False  # in a virtual environment, `folder`

    def environment(self) -> dict[str, str]:
        """In which `python -m relay.cli` is this one's."""
        environ = {**os.environ, "PYTHONSAFEPATH": "1"}
        if self.installed:
            environ.pop("PYTHONPATH", None)
            return {**environ, "PATH": f"{self.folder / 'bin'}:{environ.get('PATH', os.defpath)}"}
        return {**environ, "PYTHONPATH": str(self.folder)}


@contextmanager
def tree(name: str, scratch: Path, say: Callable[[str], None]) -> Iterator[Tree]:
    """Ready to run; a revision's worktree below `scratch` goes again. TreeError."""
    folder = Path(name)
    if (folder / "bin" / "python").exists() and not (folder / "relay").is_dir():
        yield _installation(folder.resolve(), name)
        return
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


def _installation(folder: Path, name: str) -> Tree:
    tree = Tree(name, folder, str(folder / "bin" / "python"), installed=True)
    try:
        done = subprocess.run(
            [tree.python, "-c", "import relay._core"], cwd=folder, env=tree.environment(), capture_output=True,
            text=True, timeout=60, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise TreeError(f"{name}: {error}") from None
    if done.returncode != 0:
        raise TreeError(f"{name}: a virtual environment without zrelay: {done.stderr.strip()[-300:]}")
    return tree


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
