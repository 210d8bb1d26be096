"""Two gates for the C sources that are not tests.

python tools/check_c.py headers     each header of csrc/ compiles alone, twice in a row, under the strict flags
python tools/check_c.py format      clang-format 14 finds nothing to change; exit 77 (skipped) when it is not there
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cbuild
from cflags import Switches, core_cflags

SKIPPED = 77
CLANG_FORMAT_MAJOR = "14"  # other majors break lines elsewhere


def headers(root: Path) -> int:
    """Compiles every header on its own; the exit status."""
    names = sorted(path.relative_to(root / "csrc") for path in (root / "csrc").glob("*/*.h"))
    with ThreadPoolExecutor(cbuild.JOBS) as pool:
        complaints = [text for text in pool.map(lambda name: _compile_alone(root, name), names) if text]
    print("\n".join([*complaints, f"headers: {len(names)} files, {len(complaints)} do not compile alone"]))
    return 1 if complaints or not names else 0


def _compile_alone(root: Path, header: Path) -> str:
    # Twice, so that a missing guard shows; the declaration keeps a header of macros from being an empty unit.
    source = f'#include "{header}"\n#include "{header}"\nextern int zr_header_compiles_alone;\n'
    command = [*cbuild.compiler(), *core_cflags(Switches()), "-fsyntax-only", "-x", "c", "-"]
    done = subprocess.run(command, cwd=root, input=source, capture_output=True, text=True, check=False)
    return done.stderr if done.returncode != 0 else ""


def layout(root: Path) -> int:
    """Asks clang-format about every C file; the exit status."""
    program = next((name for name in ("clang-format-14", "clang-format") if shutil.which(name)), None)
    if program is None:
        print("format: skipped, clang-format is not installed (Debian: clang-format-14)")
        return SKIPPED
    version = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    if f"version {CLANG_FORMAT_MAJOR}." not in version:
        print(f"format: skipped, the tree is formatted by version {CLANG_FORMAT_MAJOR}, here is {version.strip()}")
        return SKIPPED
    files = sorted(
        path for folder in ("csrc", "tests/c", "tests/whitebox/shim") for path in (root / folder).rglob("*.[ch]")
    )
    done = subprocess.run(
        [program, "--dry-run", "-Werror", "--style=file", *map(str, files)],
        cwd=root,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    wrong = sorted({line.partition(":")[0] for line in done.stdout.splitlines() if "error: code should be" in line})
    for name in wrong:
        print(f"{Path(name).relative_to(root)}: run {program} -i on it")
    print(f"format: {len(files)} files, {len(wrong)} to format")
    return 1 if done.returncode != 0 or not files else 0


def main() -> int:
    parser = argparse.ArgumentParser(description="Gates for the C sources.")
    parser.add_argument("gate", choices=["headers", "format"])
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parent.parent)
    options = parser.parse_args()
    return {"headers": headers, "format": layout}[options.gate](options.root.resolve())


if __name__ == "__main__":
    sys.exit(main())
