"""Compiles csrc/ and the declarations in cdef/ into a module for tests, with cffi in API mode.

The product's binding shows whole relays; this one shows single nouns, so that a model can drive one ring or one wheel.
It is built with ZR_DEBUG, holds no product code that the product's build does not have, and is never installed.

    cdef/<noun>.h    what Python may see; its first line names the floors it needs: /* floors: mem */
    shim/<noun>.c    glue for what cffi cannot call, such as atomics; compiled into the same unit

ZR_WHITEBOX_DIR     where the module goes (build/whitebox)
ZR_WHITEBOX_FLOORS  only these floors, e.g. "base,mem,ring", for work on a lower floor while a higher one is broken
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import re
import subprocess
import sys
import sysconfig
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cffi

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
CSRC = ROOT / "csrc"
FLOORS = ("base", "mem", "ring", "stat", "time", "coll", "wire", "kcp", "gate", "sim", "forward")
CFLAGS = ["-std=c11", "-D_GNU_SOURCE", "-DZR_DEBUG", "-O1", "-g", "-fPIC", "-fno-omit-frame-pointer", f"-I{CSRC}"]
JOBS = 2


def chosen_floors() -> list[str]:
    """The floors to build, lowest first."""
    wanted = os.environ.get("ZR_WHITEBOX_FLOORS")
    if not wanted:
        return list(FLOORS)
    named = {word.strip() for word in wanted.split(",")} | {"base"}
    if unknown := named.difference(FLOORS):
        raise ValueError(f"ZR_WHITEBOX_FLOORS: no such floor: {', '.join(sorted(unknown))}")
    return [floor for floor in FLOORS if floor in named]


def cdef_files(floors: list[str]) -> list[Path]:
    """The declarations whose floors are all built: base.h first, since the others use its types, then by name."""
    files = sorted((HERE / "cdef").glob("*.h"), key=lambda path: (path.stem != "base", path.stem))
    return [path for path in files if _floors_needed(path).issubset(floors)]


def _floors_needed(path: Path) -> set[str]:
    lines = path.read_text().splitlines()
    match = re.fullmatch(r"/\* floors: ([a-z, ]+) \*/", lines[0].strip()) if lines else None
    if match is None:
        raise ValueError(f'{path}: the first line must name its floors, as in "/* floors: mem */"')
    return set(re.split(r"[ ,]+", match[1].strip()))


def ensure() -> Path:
    """The module's file, built anew when the contents of any input differ from those it was built from."""
    floors = chosen_floors()
    out = Path(os.environ.get("ZR_WHITEBOX_DIR") or ROOT / "build" / "whitebox")
    if floors != list(FLOORS):
        out = out / "-".join(floors)
    module, stamp = out / "_whitebox.so", out / "_whitebox.sha256"

    cdefs = cdef_files(floors)
    shims = [path for path in (HERE / "shim" / f"{cdef.stem}.c" for cdef in cdefs) if path.exists()]
    sources = [path for floor in floors for path in sorted((CSRC / floor).glob("*.c"))]
    headers = [path for floor in floors for path in sorted((CSRC / floor).glob("*.h"))]
    digest = _digest([Path(__file__), *cdefs, *shims, *sources, *headers])
    if module.exists() and stamp.exists() and stamp.read_text() == digest:
        return module

    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out) as scratch:
        built = _build(Path(scratch), cdefs, shims, sources, headers)
        # Renamed into place: a process that runs the old module keeps it, one that starts now never sees half of it.
        built.replace(module)
        stamp.write_text(digest)
    return module


def _digest(inputs: list[Path]) -> str:
    total = hashlib.sha256(" ".join([sys.version, *CFLAGS]).encode())
    for path in inputs:
        total.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes() + b"\0")
    return total.hexdigest()


def _build(scratch: Path, cdefs: list[Path], shims: list[Path], sources: list[Path], headers: list[Path]) -> Path:
    ffi = cffi.FFI()
    for path in cdefs:
        ffi.cdef(path.read_text())
    preamble = [f'#include "{path.relative_to(CSRC)}"' for path in headers] + [f'#include "{path}"' for path in shims]
    ffi.set_source("_whitebox", "\n".join(preamble))
    glue = scratch / "_whitebox.c"
    with contextlib.redirect_stdout(io.StringIO()):  # it says what it generates
        ffi.emit_c_code(str(glue))

    python = f"-I{sysconfig.get_paths()['include']}"
    # cffi's own output is not held to our warnings.
    jobs = [(glue, [*CFLAGS, python, "-w"])] + [(path, [*CFLAGS, "-fvisibility=hidden"]) for path in sources]
    objects = [scratch / f"{number}.o" for number in range(len(jobs))]
    with ThreadPoolExecutor(JOBS) as pool:
        list(pool.map(lambda job, obj: _cc([*job[1], "-c", str(job[0]), "-o", str(obj)]), jobs, objects))
    module = scratch / "_whitebox.so"
    _cc(["-shared", *map(str, objects), "-lcrypto", "-o", str(module)])
    return module


def _cc(args: list[str]) -> None:
    done = subprocess.run([os.environ.get("CC", "cc"), *args], capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"the white-box module does not build:\n{done.stderr}")


if __name__ == "__main__":
    print(ensure())
