"""Which process to sample: a worker of a running relay, any process, or a command to start."""

from __future__ import annotations

import os
import shlex
import shutil
from typing import Any

from relay.flame.record import FlameError, Target

TITLE_MAX = 90


def of_worker(worker: int, status: dict[str, Any]) -> Target:
    """The process of worker `worker` (from 0) of the relay whose status it is, which runs here.

    FlameError: it has no such worker, or the worker is down, or elsewhere.
    """
    rows = {row["worker"]: row for row in status.get("workers", [])}
    if worker not in rows:
        raise FlameError(f"the relay has no worker {worker}: it has {', '.join(map(str, sorted(rows))) or 'none'}")
    if not rows[worker]["up"]:
        raise FlameError(f"worker {worker} is down")
    pid = int(rows[worker]["pid"])
    if not os.path.exists(f"/proc/{pid}"):
        raise FlameError(f"worker {worker} is pid {pid}, which is not on this machine: run this where the relay runs")
    return Target(pid=pid, title=f"{status['relay']} worker {worker} (pid {pid})")


def of_pid(pid: int) -> Target:
    """FlameError when there is no such process."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = file.read().split(b"\0")
    except OSError:
        raise FlameError(f"there is no process {pid}") from None
    return Target(pid=pid, title=f"{_short(b' '.join(words).decode(errors='replace').strip())} (pid {pid})")


def of_command(text: str) -> Target:
    """A command line, split as a shell would, but run without one. FlameError when it cannot be found."""
    try:
        words = tuple(shlex.split(text))
    except ValueError as error:
        raise FlameError(f"--cmd {text!r}: {error}") from None
    if not words or shutil.which(words[0]) is None:
        raise FlameError(f"--cmd: {words[0] if words else 'nothing'!r} is no program")
    return Target(command=words, title=_short(text))


def _short(text: str) -> str:
    return text if len(text) <= TITLE_MAX else text[: TITLE_MAX - 2] + ".."
