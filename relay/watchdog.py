"""Finds workers that hang: alive, and yet their heartbeat stands still.

A worker's heartbeat moves at least every 100 ms. Older than 250 ms, it hangs - unless it was not let run: a worker that
is runnable and has had less than 100 ms of CPU time since is starved by its neighbours; killing it would not help.
One that sleeps has 450 ms: a guest's CPU may be taken away whole, timer and all, while the supervisor runs on another.
Nobody is judged by a supervisor that was itself not let run, nor while a debugger holds it. Looked at every 50 ms, and
every 10 from 125 ms on, so that of 300 ms for all of it there are 40 left for the successor.
"""

from __future__ import annotations

import contextlib

CHECK_NS = 50_000_000
SUSPECT_NS = 10_000_000  # while there is a suspect
LIMIT_NS = 250_000_000
ASLEEP_NS = 450_000_000
BUSY_NS = 100_000_000
LATE_NS = 100_000_000  # this much later than asked for: we were not let run, so perhaps nobody was


class Watchdog:
    """`hangs` is asked for every worker that is up, whenever `look` says so."""

    def __init__(self) -> None:
        self._suspects: dict[int, tuple[int, int]] = {}  # by worker: a heartbeat that is old, CPU time at first sight
        self._looked_ns = self._not_before_ns = 0

    def look(self, now_ns: int) -> bool:
        """Is it time to look? Every CHECK_NS, or SUSPECT_NS."""
        since_ns = now_ns - self._looked_ns
        if since_ns < self._every_ns():
            return False
        if since_ns > CHECK_NS + LATE_NS:
            self._not_before_ns = now_ns
        self._looked_ns = now_ns
        return True

    def wait_s(self, now_ns: int) -> float:
        """Until the next look."""
        return max(0.0, (self._every_ns() - (now_ns - self._looked_ns)) / 1e9)

    def _every_ns(self) -> int:
        return SUSPECT_NS if self._suspects else CHECK_NS

    def hangs(self, index: int, pid: int, heartbeat_ns: int, now_ns: int) -> bool:
        """Worker `index` shall be killed and replaced."""
        age_ns = now_ns - max(heartbeat_ns, self._not_before_ns)
        if age_ns < LIMIT_NS // 2:
            self._suspects.pop(index, None)
            return False
        known_ns, had_ns = self._suspects.get(index, (0, 0))
        if known_ns != heartbeat_ns:
            had_ns = cpu_ns(pid)
            self._suspects[index] = heartbeat_ns, had_ns
        state = state_of(pid) if age_ns >= LIMIT_NS else "t"
        if state == "S":
            return age_ns >= ASLEEP_NS
        return state not in "t?" and (state != "R" or cpu_ns(pid) - had_ns >= BUSY_NS)

    def forget(self, index: int) -> None:
        """Another process is worker `index` now."""
        self._suspects.pop(index, None)


def cpu_ns(pid: int) -> int:
    """CPU time it has had; 0 where the kernel does not say."""
    with contextlib.suppress(OSError, ValueError, IndexError), open(f"/proc/{pid}/schedstat") as file:
        return int(file.read().split()[0])
    return 0


def state_of(pid: int) -> str:
    """R, S, D, T (stopped), t (held by a debugger) ... ; "?" when it is gone, or when /proc cannot be read."""
    with contextlib.suppress(OSError, IndexError), open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(") ")[2][0]
    return "?"


def snapshot(pid: int) -> str:
    """Where it hangs, for the log, as far as /proc lets us see."""
    parts = [f"state {state_of(pid)}"]
    for name in ("wchan", "stack"):
        with contextlib.suppress(OSError), open(f"/proc/{pid}/{name}") as file:
            parts.append(f"{name} {' < '.join(file.read().split()) or '-'}")
    return ", ".join(parts)
