"""Runs the samplers: Debian's perf, and py-spy where Python's own frames are asked for."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from relay.flame.inlined import names_at
from relay.flame.stacks import Stacks, from_folded, from_perf, places_in

HZ = 997  # off the beat of anything that happens every millisecond
DWARF_STACK_BYTES = 16384
FIELDS = "comm,pid,tid,time,event,ip,sym,dso"
GRACE_S = 30.0  # for a sampler to end and write its file, beyond the time asked for
SCRIPT_TIMEOUT_S = 120.0
_ENDED = ("timeout", "--signal=TERM", "--kill-after=2")  # coreutils; the seconds follow
_PMUS = "/sys/bus/event_source/devices"


class FlameError(Exception):
    """Cannot be done; the message is for the operator and says what to do."""


@dataclass(frozen=True)
class Target:
    """A running process, or a command to start: one of the two."""

    pid: int | None = None
    command: tuple[str, ...] = ()
    title: str = ""


@dataclass
class Recording:
    """What came out, and what the reader must know about it."""

    stacks: Stacks
    hz: int
    seconds: float
    notes: list[str] = field(default_factory=list)


def has_hardware_counters(devices: str = _PMUS) -> bool:
    """Whether the processor's own counters are there; in most virtual machines they are not."""
    names = [path.name for path in Path(devices).glob("*")]
    return any(name in ("cpu", "cpu_core", "cpu_atom") or name.startswith("armv") for name in names)


def perf_path() -> str:
    found = shutil.which("perf")
    if found is None:
        raise FlameError("perf is not installed: apt install linux-perf (linux-tools-$(uname -r) on Ubuntu)")
    return found


def py_spy_path() -> str:
    beside = Path(sys.executable).with_name("py-spy")
    found = str(beside) if beside.exists() else shutil.which("py-spy")
    if found is None:
        raise FlameError("--python needs py-spy, which is not installed: pip install py-spy")
    return found


def record_perf(target: Target, seconds: float, hz: int = HZ, unwind: str = "fp", inline: bool = False) -> Recording:
    """Samples on-CPU stacks. `unwind`: "fp" or "dwarf"; `inline`: name inlined functions too.

    Raises:
        FlameError: perf is missing or not permitted, the process is gone, or it did nothing.
    """
    perf = perf_path()
    paranoid, notes = _sysctl("perf_event_paranoid"), list[str]()
    privileged = os.geteuid() == 0
    if paranoid > 2 and not privileged:
        raise FlameError(
            f"kernel.perf_event_paranoid is {paranoid}, so only root may sample: "
            "sudo sysctl -w kernel.perf_event_paranoid=1"
        )
    if paranoid > 1 and not privileged:
        notes.append(
            f"kernel frames are left out (kernel.perf_event_paranoid is {paranoid}): "
            "sudo sysctl -w kernel.perf_event_paranoid=1"
        )
    if (privileged or paranoid <= 1) and not _kernel_names_readable(privileged):
        notes.append("kernel functions have no names here: sudo sysctl -w kernel.kptr_restrict=0, or run as root")
    event = "cycles" if has_hardware_counters() else "cpu-clock"
    if event == "cpu-clock":
        notes.append("no hardware counters here: sampled by cpu-clock, a timer")
    with tempfile.TemporaryDirectory(prefix="zrelay-flame-") as folder:
        data = os.path.join(folder, "perf.data")
        call_graph = "fp" if unwind == "fp" else f"dwarf,{DWARF_STACK_BYTES}"
        words = [perf, "record", "-q", "-F", str(hz), "--call-graph", call_graph, "-o", data]
        said = _perf_record([*words, "-e", event], target, seconds)
        if event == "cycles" and not _has_data(data):
            event = "cpu-clock"
            notes.append("the hardware counters cannot be had: sampled by cpu-clock, a timer")
            said = _perf_record([*words, "-e", event], target, seconds)
        if not _has_data(data):
            raise FlameError(_why(said, target))
        stacks = _perf_script(perf, data, inline)
    if target.command:
        stacks.drop_thread(_ENDED[0])
    if not stacks.counts:
        raise FlameError(f"no samples in {seconds:g} s: {target.title} used no CPU; flame it while it is loaded")
    stacks.event = stacks.event or event
    return Recording(stacks, hz, seconds, notes)


def record_python(target: Target, seconds: float, hz: int = 199) -> Recording:
    """Samples with py-spy: Python's frames with the native ones below them. FlameError as `record_perf`."""
    py_spy = py_spy_path()
    with tempfile.TemporaryDirectory(prefix="zrelay-flame-") as folder:
        raw = os.path.join(folder, "raw")
        words = [py_spy, "record", "--format", "raw", "--output", raw, "--rate", str(hz), "--native", "--threads"]
        words += ["--duration", str(max(1, round(seconds)))]
        words += ["--", *target.command] if target.command else ["--pid", str(target.pid)]
        said = _run(words, seconds + GRACE_S, seconds + 2 if target.command else None)
        if not _has_data(raw):
            detail = " ".join(said.split()[-30:])
            if "permission" in said.lower() or "ptrace" in said.lower():
                detail = "not permitted: run as root, or sudo sysctl -w kernel.yama.ptrace_scope=0"
            raise FlameError(f"py-spy got nothing from {target.title}: {detail or 'it used no CPU'}")
        with open(raw, encoding="utf-8", errors="replace") as lines:
            stacks = from_folded(lines)
    stacks.event = "py-spy"
    return Recording(stacks, hz, seconds, ["sampled by py-spy: the kernel's frames are not seen"])


def _perf_record(words: list[str], target: Target, seconds: float) -> str:
    """Returns what perf said."""
    if target.command:  # its time begins when it does, not when perf does, which may take a second to get there
        return _run([*words, "--", *_ENDED, f"{seconds:g}", *target.command], seconds + GRACE_S, None)
    return _run([*words, "-p", str(target.pid), "--", "sleep", f"{seconds:g}"], seconds + GRACE_S, None)


def _perf_script(perf: str, data: str, inline: bool) -> Stacks:
    words = [perf, "script", "-i", data, "-F", FIELDS, "--no-inline"]
    try:
        done = subprocess.run(words, capture_output=True, timeout=SCRIPT_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        raise FlameError(f"perf script has not ended after {SCRIPT_TIMEOUT_S:g} s: try fewer --seconds") from None
    if done.returncode != 0 and not done.stdout:
        raise FlameError(f"perf script failed: {done.stderr.decode(errors='replace').strip()[-300:]}")
    lines = done.stdout.decode(errors="replace").splitlines()
    try:
        return from_perf(lines, names_at(places_in(lines)) if inline else None)
    except LookupError as error:
        raise FlameError(str(error)) from None


def _run(words: Sequence[str], timeout_s: float, interrupt_after_s: float | None) -> str:
    """Runs a sampler to its end; interrupts it after that time, upon which it ends the command it has started.

    What that command prints goes to stderr: stdout is for data.
    """
    with subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=2, stderr=subprocess.PIPE) as child:
        try:
            try:
                _, said = child.communicate(timeout=interrupt_after_s or timeout_s)
            except subprocess.TimeoutExpired:
                child.send_signal(signal.SIGINT)
                _, said = child.communicate(timeout=GRACE_S)
        except subprocess.TimeoutExpired:
            child.kill()
            _, said = child.communicate()
            raise FlameError(f"{os.path.basename(words[0])} does not end; killed") from None
        except BaseException:
            child.terminate()
            raise
    return said.decode(errors="replace")


def _has_data(path: str) -> bool:
    return os.path.exists(path) and os.path.getsize(path) > 0


def _why(said: str, target: Target) -> str:
    low = said.lower()
    if target.pid is not None and not os.path.exists(f"/proc/{target.pid}"):
        return f"{target.title} is gone"
    if "perf_event_paranoid" in low or "permission" in low or "not permitted" in low or "eperm" in low:
        return (
            f"perf may not sample {target.title}: run as root or as its user, and "
            "sudo sysctl -w kernel.perf_event_paranoid=1"
        )
    return f"perf recorded nothing: {' '.join(said.split())[-300:] or 'it does not say why'}"


def _sysctl(name: str) -> int:
    try:
        return int(Path(f"/proc/sys/kernel/{name}").read_text())
    except (OSError, ValueError):
        return 0


def _kernel_names_readable(privileged: bool) -> bool:
    """Whether /proc/kallsyms shows addresses: hidden ones read as zero."""
    restrict = _sysctl("kptr_restrict")
    if restrict == 2 or (restrict == 1 and not privileged):
        return False
    try:
        with open("/proc/kallsyms", encoding="utf-8", errors="replace") as symbols:
            return any(int(line.split()[0], 16) for line, _ in zip(symbols, range(50), strict=False))
    except (OSError, ValueError, IndexError):
        return False
