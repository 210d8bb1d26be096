"""Runs the steps of ./tools/test and adds up what they counted.

Steps that only want to be right run two at a time, where there are two cores; those that measure, or carry media
between relays, run alone. The output of a step that runs beside another is shown when it ends. CPU is what a step used,
its children's included: two cores have too little of it for a third step (tried: 702 s for 706, and what waits failed).

Every step runs, also behind a red one; the exit status is 1 when any was red. A gate counts one, a test runner as many
as it says. The last line is always "N passed, N failed, N skipped". Logs: build/test/<step>.log
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOGS = ROOT / "build" / "test"
SKIPPED = 77  # exit status of a gate that names what it lacks
NOTHING_COLLECTED = 5  # pytest's
STEP_SECONDS_MAX, STEP_SECONDS_MAX_FULL = 900, 4800
FULL_MINUTES = 150
C_SANITIZERS = ("tsan", "asan")  # the longest first
MEDIA = tuple(f"tests/net/test_{name}.py" for name in ("media", "demo", "readme"))  # ffmpeg's and GStreamer's
RIGHT = "right"
TOGETHER = min(2, os.cpu_count() or 1)  # steps beside each other
ORPHAN_SECONDS = 5.0  # how long the output may stay open behind the end of a step


@dataclass(frozen=True)
class Step:
    name: str
    kind: str  # "gate", "ctest" or "pytest"
    command: tuple[str, ...]
    beside: str = ""  # runs beside its neighbours with the same word; without one it measures, or others build on it


@dataclass
class Count:
    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def __add__(self, other: Count) -> Count:
        return Count(self.passed + other.passed, self.failed + other.failed, self.skipped + other.skipped)

    def __str__(self) -> str:
        return f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped"


@dataclass
class Result:
    step: Step
    count: Count = field(default_factory=Count)
    seconds: float = 0.0
    cpu_s: float = 0.0


def steps(full: bool) -> list[Step]:
    """All steps in their order: what is quick and what explains later failures comes first; of those that run beside
    each other the longest, so that none is left over at the end beside a core that has nothing to do."""
    python = sys.executable
    right = [] if full else ["-m", "not figures"]
    short = [] if full else ["--benchmark-max-time=0.2", "--benchmark-min-rounds=3"]

    def gate(name: str, *command: str) -> Step:
        return Step(name, "gate", (python, *command), beside=RIGHT)

    def ctest(variant: str) -> Step:
        return Step(f"c-{variant}", "ctest", (python, "tools/ctest.py", "--variant", variant), beside=RIGHT)

    def pytest(name: str, *words: str, beside: str = "") -> Step:
        return Step(name, "pytest", (python, "-m", "pytest", "-q", "--durations=3", *words), beside)

    return [
        Step("build", "gate", ("bash", "-euc", ". tools/lib.sh && build_project")),
        gate("floors", "tools/check_floors.py"),
        gate("lint", "-m", "ruff", "check", "."),
        gate("pyformat", "-m", "ruff", "format", "--check", "."),
        gate("types", "-m", "mypy"),
        gate("headers", "tools/check_c.py", "headers"),
        gate("format", "tools/check_c.py", "format"),
        ctest("plain"),
        pytest("sim", "tests/sim", beside=RIGHT),
        pytest("prop", "tests/prop", "tests/wire", beside=RIGHT),
        pytest("py", "tests/py", beside=RIGHT),
        pytest("bench", "benchmarks", *right, *short, beside="" if full else RIGHT),  # figures want a machine alone
        pytest("proof", "tests/proof", beside=RIGHT),
        *(ctest(variant) for variant in C_SANITIZERS),
        pytest("fuzz", "tests/fuzz", beside=RIGHT),
        pytest("interop", "tests/interop", beside=RIGHT),
        # Last of these: who runs beside it only ends, so that no delay grows for want of a core.
        pytest("soak", "tests/soak", beside="" if full else RIGHT),
        pytest("net", "tests/net", *right, *(f"--ignore={path}" for path in MEDIA)),
        pytest("media", *MEDIA),
    ]


def counted(step: Step, status: int, output: str, *, filtered: bool = False) -> Count:
    """What a step's exit status and output add up to. A runner that died without saying so counts as one failure."""
    if step.kind == "gate":
        if status == SKIPPED:
            return Count(skipped=1)
        return Count(passed=1) if status == 0 else Count(failed=1)
    count = _ctest_summary(output) if step.kind == "ctest" else _pytest_summary(output)
    if step.kind == "pytest" and filtered and status == NOTHING_COLLECTED:
        return count
    if status != 0 and count.failed == 0:
        count.failed = 1
    if status == 0 and count == Count():
        count.failed = 1  # green without a single test is not green
    return count


def _ctest_summary(output: str) -> Count:
    found = re.findall(r"C tests: (\d+) passed, (\d+) failed", output)
    return Count(int(found[-1][0]), int(found[-1][1])) if found else Count()


def _pytest_summary(output: str) -> Count:
    lines = re.findall(r"^=*\s*((?:\d+ [a-z]+(?:, )?)+) in [\d.]+s", output, re.M)
    words = {word: int(number) for number, word in re.findall(r"(\d+) ([a-z]+)", lines[-1])} if lines else {}
    return Count(
        passed=words.get("passed", 0),
        failed=words.get("failed", 0) + words.get("error", 0) + words.get("errors", 0) + words.get("xpassed", 0),
        skipped=words.get("skipped", 0) + words.get("xfailed", 0),
    )


def run_all(chosen: list[Step], seconds_max: int, name_filter: str | None) -> list[Result]:
    """Every step, in order; neighbours with the same `beside` two at a time."""
    results: list[Result] = []
    rest = list(chosen)
    while rest:
        together = [rest.pop(0)]
        while rest and together[0].beside and together[0].beside == rest[0].beside:
            together.append(rest.pop(0))
        if len(together) == 1 or TOGETHER == 1:
            results += [run(step, seconds_max, name_filter) for step in together]
            continue
        with ThreadPoolExecutor(TOGETHER) as pool:
            results += pool.map(lambda step: run(step, seconds_max, name_filter, quiet=True), together)
    return results


def run(step: Step, seconds_max: int, name_filter: str | None, *, quiet: bool = False) -> Result:
    """Runs one step, its output in its log and on the terminal: at once, or, `quiet`, when it has ended."""
    command = [*step.command, *(["-k", name_filter] if name_filter and step.kind == "pytest" else [])]
    title = f"\n== {step.name}: {' '.join(_short(word) for word in command)}"
    print(f"{title} ..." if quiet else title, flush=True)
    LOGS.mkdir(parents=True, exist_ok=True)
    log = LOGS / f"{step.name}.log"
    began = time.monotonic()
    # Its own session: when it must be ended, its children go with it.
    child = subprocess.Popen(
        [*_TIMED, str(seconds_max), *command],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    pump = threading.Thread(target=_pump, args=(child, log, quiet), daemon=True)
    pump.start()
    _running.add(child.pid)
    try:
        _, code, usage = os.wait4(child.pid, 0)
        status = child.returncode = os.waitstatus_to_exitcode(code)
    finally:
        _running.discard(child.pid)
    pump.join(ORPHAN_SECONDS)
    output = log.read_text(errors="replace")
    count = counted(step, status, output, filtered=name_filter is not None)
    if quiet:
        print(f"{title}\n{output}", end="", flush=True)
    if status == 124:
        print(f"{step.name}: ended after {seconds_max} s", flush=True)
    if pump.is_alive():
        print(f"{step.name}: processes it started are still running", flush=True)
        count.failed += 1
    result = Result(step, count, time.monotonic() - began, usage.ru_utime + usage.ru_stime)
    print(f"-- {step.name}: {_verdict(count)}, {result.seconds:.1f} s", flush=True)
    return result


_running: set[int] = set()  # process groups


def _pump(child: subprocess.Popen[str], log: Path, quiet: bool) -> None:
    assert child.stdout is not None
    with log.open("w", errors="replace") as record:
        for line in child.stdout:
            if not quiet:
                sys.stdout.write(line)
                sys.stdout.flush()
            record.write(line)
            record.flush()


# coreutils' timeout: TERM at the limit, KILL when that is not heard.
_TIMED = ["timeout", "--kill-after=10"]


def _short(word: str) -> str:
    return "python" if word == sys.executable else word


def _verdict(count: Count) -> str:
    return "FAILED" if count.failed else "ok" if count.passed else "skipped"


def summary(results: list[Result], seconds: float) -> str:
    """A row per step; `seconds` is what all took."""
    rows = [f"{'step':<10} {'passed':>7} {'failed':>7} {'skipped':>8} {'seconds':>8} {'CPU':>8}"]
    for result in results:
        count = result.count
        rows.append(
            f"{result.step.name:<10} {count.passed:>7} {count.failed:>7} {count.skipped:>8} {result.seconds:>8.1f}"
            f" {result.cpu_s:>8.1f}  {_verdict(count)}"
        )
    rows.append(f"{'all':<10} {'':>24} {seconds:>8.1f} {sum(result.cpu_s for result in results):>8.1f}")
    return "\n".join(rows)


def main() -> int:
    parser = argparse.ArgumentParser(prog="./tools/test", description="Sets up what is missing, then runs every check.")
    parser.add_argument("--full", action="store_true", help=f"long settings (ZR_FULL=1), up to {FULL_MINUTES} minutes")
    parser.add_argument("-k", metavar="NAME", help="only tests with this in their names; runs the pytest steps alone")
    parser.add_argument("--no-apt", action="store_true", help="install no system package; say which lack and stop")
    parser.add_argument("steps", nargs="*", metavar="STEP", help=", ".join(step.name for step in steps(full=False)))
    options = parser.parse_args()

    every = steps(options.full)
    unknown = set(options.steps) - {step.name for step in every}
    if unknown:
        parser.error(f"no step {', '.join(sorted(unknown))}; there are {', '.join(step.name for step in every)}")
    chosen = [step for step in every if not options.steps or step.name in options.steps]
    if options.k and not options.steps:
        chosen = [step for step in chosen if step.kind == "pytest"]
    if every[0] not in chosen and any(step.kind == "pytest" for step in chosen):
        chosen.insert(0, every[0])  # Python tests of an old build would say nothing
    if options.full:
        os.environ["ZR_FULL"] = "1"
        print(f"--full: the long settings; this takes up to {FULL_MINUTES} minutes on two cores")

    seconds_max = STEP_SECONDS_MAX_FULL if options.full else STEP_SECONDS_MAX
    began = time.monotonic()
    results = run_all(chosen, seconds_max, options.k)
    total = sum((result.count for result in results), Count())
    print(f"\n{summary(results, time.monotonic() - began)}\n\n{total}", flush=True)
    return 1 if total.failed or not total.passed else 0


def _end(*_: object) -> None:
    for group in list(_running):
        os.killpg(group, signal.SIGTERM)
    raise KeyboardInterrupt


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _end)
    signal.signal(signal.SIGINT, _end)
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
