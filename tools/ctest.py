"""Builds and runs the C table tests: csrc/ and tests/c/ in one binary, plain and under the sanitizers: asan is ASan and
UBSan in one build.

    python tools/ctest.py [--variant plain|asan|tsan|all] [--root DIR] [FILTER]

Everything lands in build/c/<variant>/; only what changed is compiled again. FILTER is a part of the name of
a test or its file.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

import cbuild
from cflags import Switches, core_cflags, link_flags

# The sanitized variants also switch the costly checks on: they are slow anyway, and looking for trouble.
VARIANTS = {
    "plain": Switches(),
    "asan": Switches("address,undefined", debug=True),
    "tsan": Switches("thread", debug=True),
}
RUN_SECONDS_MAX = 300
# Engines that one thread owns have no races to find, and are ten times slower under TSan: with ZR_FULL=1, or asked for.
OWNED = {"tsan": ("kcp_", "probe_", "clocks_", "mtu_", "lane_probe", "lane_rekey", "gate_", "shed_")}
# TSan's shadow memory does not fit every address-space layout (vm.mmap_rnd_bits > 28, google/sanitizers#1716).
TSAN_LAYOUT = "unexpected memory mapping"


def build(root: Path, variant: str) -> Path:
    """The test program of one variant; BuildError when something does not compile."""
    switches = VARIANTS[variant]
    out = root / "build" / "c" / variant
    sources = [*cbuild.core_sources(root), *(path.relative_to(root) for path in sorted((root / "tests/c").glob("*.c")))]
    flags = [*core_cflags(switches), "-Itests/c"]
    objects, compiled = cbuild.compile_objects(root, sources, flags, out)
    program = out / "ctest"
    cbuild.link(objects, link_flags(switches), program, changed=compiled > 0)
    return program


def run(program: Path, name_filter: str | None) -> int:
    """Runs the tests; their exit status. TSan is given a second try without address randomisation when it needs one."""
    command = [str(program), *([name_filter] if name_filter else [])]
    owned = () if name_filter or os.environ.get("ZR_FULL") == "1" else OWNED.get(program.parent.name, ())
    os.environ["ZR_TEST_LEAVE_OUT"] = "".join(f"{beginning} " for beginning in owned)
    done = _captured(command)
    if done.returncode != 0 and TSAN_LAYOUT in done.stderr:
        print(f"{program.parent.name}: address layout refused, again under setarch -R", flush=True)
        done = _captured(["setarch", "-R", *command])
    sys.stderr.write(done.stderr)
    sys.stderr.flush()
    sys.stdout.write(done.stdout)
    sys.stdout.flush()
    return done.returncode


def _captured(command: list[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=RUN_SECONDS_MAX, check=False
        )
    except subprocess.TimeoutExpired as late:
        output = (late.stderr or b"").decode(errors="replace")
        return subprocess.CompletedProcess(command, 124, "", f"{output}\nno end after {RUN_SECONDS_MAX} s\n")


def main() -> int:
    parser = argparse.ArgumentParser(description="Build and run the C tests.")
    parser.add_argument("--variant", choices=[*VARIANTS, "all"], default="plain")
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parent.parent)
    parser.add_argument("filter", nargs="?", help="a part of a test's or file's name")
    options = parser.parse_args()

    failed = []
    for variant in VARIANTS if options.variant == "all" else [options.variant]:
        print(f"{variant}: ", end="", flush=True)
        try:
            status = run(build(options.root.resolve(), variant), options.filter)
        except cbuild.BuildError as error:
            print(f"does not build\n{error}")
            status = 1
        if status != 0:
            print(f"{variant}: exit status {status}")
            failed.append(variant)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
