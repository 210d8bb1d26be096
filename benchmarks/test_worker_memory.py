"""Memory of a worker with 10 000 streams at one packet a second and 50 000 subscribers."""

from __future__ import annotations

import json
import subprocess
import sys

RESIDENT_KIB = 256 << 10


def test_ten_thousand_streams_and_fifty_thousand_subscribers_fit_in_256_mib() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.worker_memory"], capture_output=True, text=True, timeout=110
    )
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout)
    print(
        f"\n{made['streams']} streams, {made['subscribers']} subscribers: {made['resident_kib'] >> 10} MiB resident "
        f"({made['started_kib'] >> 10} MiB of it at start, {made['joined_kib'] >> 10} with all of them joined)"
    )
    assert made["subscribers"] == 50_000
    assert made["sent"] == 5 * made["packets"]
    assert made["resident_kib"] <= RESIDENT_KIB
