"""What a figure needs to know of its machine: CPU time from the kernel, and how busy it is."""

from __future__ import annotations

import os
from pathlib import Path

BUSY_LOAD = 2.0
BUSY_SLACK = 3.0


def cpu_ns(pid: int) -> int:
    """CPU time of all threads of a process, nanoseconds."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks)


def slack() -> float:
    """What a timing bar is multiplied with: 1, or 3 on a busy machine. Prints the load that decided."""
    load = os.getloadavg()[0]
    factor = BUSY_SLACK if load > BUSY_LOAD else 1.0
    print(f"load average {load:.2f}: timing bars x {factor:g}")
    return factor


def percentile(values: list[float], share: float) -> float:
    """Nearest rank."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
