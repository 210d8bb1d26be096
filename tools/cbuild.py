"""Compiles C files into objects, two at a time, and only those that changed.

An object is fresh when it is newer than every file in its depfile (gcc -MMD) and was made by the same command line.
"""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

JOBS = 2


class BuildError(Exception):
    """The compiler, archiver or linker refused; the message is what it printed."""


def compiler() -> list[str]:
    """The C compiler: $CC or gcc."""
    return shlex.split(os.environ.get("CC", "gcc"))


def core_sources(root: Path) -> list[Path]:
    """Every C file of the core, all floors, relative to `root`, in a fixed order."""
    return sorted(path.relative_to(root) for path in (root / "csrc").glob("*/*.c"))


def compile_objects(root: Path, sources: Iterable[Path], cflags: Sequence[str], out: Path) -> tuple[list[Path], int]:
    """Objects of `sources` (relative to `root`) below `out`, and how many had to be compiled.

    Raises BuildError with all of the compiler's complaints, not only those about the first file.
    """
    jobs = [(source, out / source.with_suffix(".o"), _command(source, cflags)) for source in sources]
    stale = [job for job in jobs if not _fresh(root, job[1], job[2])]
    with ThreadPoolExecutor(JOBS) as pool:
        complaints = [text for text in pool.map(lambda job: _compile(root, *job), stale) if text]
    if complaints:
        raise BuildError("\n".join(complaints))
    return [job[1] for job in jobs], len(stale)


def archive(objects: Sequence[Path], library: Path, *, changed: bool) -> None:
    """A static library of `objects`, made anew so that no member outlives its source."""
    listing = library.with_suffix(".list")
    members = "\n".join(map(str, objects))
    if not changed and library.exists() and listing.exists() and listing.read_text() == members:
        return
    library.unlink(missing_ok=True)
    run(["ar", "rcsD", str(library), *map(str, objects)])
    listing.write_text(members)


def link(objects: Sequence[Path], flags: Sequence[str], program: Path, *, changed: bool) -> None:
    """A program from `objects`; the flags follow them, as libraries must."""
    command = [*compiler(), *map(str, objects), *flags, "-o", str(program)]
    record = program.with_suffix(".cmd")
    if not changed and program.exists() and record.exists() and record.read_text() == shlex.join(command):
        return
    run(command)
    record.write_text(shlex.join(command))


def run(command: Sequence[str], cwd: Path | None = None) -> None:
    """Runs `command`; BuildError when it cannot start or fails."""
    try:
        done = subprocess.run(
            command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )
    except FileNotFoundError as missing:
        raise BuildError(f"{command[0]}: not installed (Debian: gcc)") from missing
    if done.returncode != 0:
        raise BuildError(f"{shlex.join(command)}\n{done.stdout}")


def _command(source: Path, cflags: Sequence[str]) -> list[str]:
    return [*compiler(), *cflags, "-c", str(source)]


def _compile(root: Path, source: Path, target: Path, command: Sequence[str]) -> str:
    target.parent.mkdir(parents=True, exist_ok=True)
    record = target.with_suffix(".cmd")
    record.unlink(missing_ok=True)
    try:
        run([*command, "-MMD", "-MF", str(target.with_suffix(".d")), "-o", str(target)], cwd=root)
    except BuildError as error:
        target.unlink(missing_ok=True)
        return str(error)
    record.write_text(shlex.join(command))
    return ""


def _fresh(root: Path, target: Path, command: Sequence[str]) -> bool:
    try:
        built = target.stat().st_mtime_ns
        if target.with_suffix(".cmd").read_text() != shlex.join(command):
            return False
        depfile = target.with_suffix(".d").read_text()
        needs = depfile.partition(":")[2].replace("\\\n", " ").split()
        return all((root / need).stat().st_mtime_ns < built for need in needs)
    except FileNotFoundError:
        return False
