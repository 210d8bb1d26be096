"""Whether this machine lets us sample; what a skipped test says to install or to set."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from pathlib import Path

import pytest


@functools.cache
def why_not() -> str:
    """ "" when perf works here."""
    perf = shutil.which("perf")
    if perf is None:
        return "perf is not installed: apt install linux-perf"
    done = subprocess.run(
        [perf, "record", "-q", "-e", "cpu-clock", "-o", "/dev/null", "--", "true"],
        stdin=subprocess.DEVNULL, capture_output=True, timeout=20, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        paranoid = Path("/proc/sys/kernel/perf_event_paranoid")
        level = paranoid.read_text().strip() if paranoid.exists() else "absent"
        return f"perf is not permitted (perf_event_paranoid {level}, uid {os.getuid()}): sysctl -w {paranoid.name}=1"
    return ""


needs_perf = pytest.mark.skipif(bool(why_not()), reason=why_not())
