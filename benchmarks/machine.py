"""What a figure needs to know of its machine: CPU time and wake-ups from the kernel, and how busy it is."""

from __future__ import annotations

import os
import re
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

BUSY_LOAD = 2.0
BUSY_SHARE = 0.5
BUSY_SLACK = 3.0


def cpu_ns(pid: int) -> int:
    """CPU time of all threads of a process, nanoseconds."""
    return sum(int((task / "schedstat").read_text().split()[0]) for task in _tasks(pid))


def wakeups(pid: int) -> int:
    """How often a thread of the process went to sleep and was woken: voluntary context switches."""
    return sum(_status(task, "voluntary_ctxt_switches") for task in _tasks(pid))


def rss_kib(pid: int) -> tuple[int, int]:
    """Resident memory now: (all, of this anonymous; the rest is files and shared pages)."""
    process = Path(f"/proc/{pid}")
    return _status(process, "VmRSS"), _status(process, "RssAnon")


@contextmanager
def open_files(count: int) -> Iterator[None]:
    """Lets this process, not those it starts later, have so many descriptors open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(count, hard)), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class Meter:
    """How many cores of this machine were busy since it was made, whoever used them."""

    def __init__(self) -> None:
        self._start = _machine_ticks()

    def busy_cores(self) -> float:
        busy, every = (now - then for now, then in zip(_machine_ticks(), self._start, strict=True))
        return (os.cpu_count() or 1) * busy / max(every, 1)


def slack(busy_cores: float = 0.0) -> float:
    """What a timing bar is multiplied with: 1, or 3 on a busy machine. Prints what decided.

    Busy is a load average above 2, or half of the cores while a measurement ran that itself needs next to nothing.
    """
    load = os.getloadavg()[0]
    busy = load > BUSY_LOAD or busy_cores > BUSY_SHARE * (os.cpu_count() or 1)
    factor = BUSY_SLACK if busy else 1.0
    print(f"load average {load:.2f}: timing bars x {factor:g}")
    return factor


def percentile(values: list[float], share: float) -> float:
    """Nearest rank."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def _machine_ticks() -> tuple[int, int]:
    """Of all cores since boot: not idle (stolen by the host included), and every tick."""
    fields = [int(word) for word in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return sum(fields) - fields[3] - fields[4], sum(fields)


def _tasks(pid: int) -> Iterator[Path]:
    return Path(f"/proc/{pid}/task").iterdir()


def _status(folder: Path, key: str) -> int:
    found = re.search(rf"^{key}:\s+(\d+)", (folder / "status").read_text(), re.M)
    assert found is not None, f"{folder}: no {key}"
    return int(found[1])
