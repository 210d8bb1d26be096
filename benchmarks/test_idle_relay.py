"""What a relay costs that nobody uses: memory at start, CPU time and wake-ups of each of its processes."""

from __future__ import annotations

import asyncio

import pytest

from benchmarks.machine import cpu_ns, rss_kib, wakeups
from relay.dev import DevMesh

pytestmark = pytest.mark.figures

SECONDS = 8.0
QUIET = 0.01  # of a core, all processes; far above what it needs, far below a loop that spins


def test_an_idle_relay() -> None:
    print(f"\none idle relay with two known peers over {SECONDS:g} s:")
    total = asyncio.run(measure())
    assert 0 < total <= QUIET


async def measure() -> float:
    """Share of a core, all processes of the relay in the middle of three: its sessions are up and beat."""
    async with DevMesh(3) as mesh, mesh.client("sh-1") as relay:
        status = await relay.get("/v1/status")
        supervisor = mesh["sh-1"].process
        assert supervisor is not None
        pids = {"supervisor": supervisor.pid, "agent": status["pid"], "worker": status["workers"][0]["pid"]}
        memory = {name: rss_kib(pid) for name, pid in pids.items()}
        await asyncio.sleep(2)  # what a start leaves behind: sessions, timers
        before = {name: (cpu_ns(pid), wakeups(pid)) for name, pid in pids.items()}
        await asyncio.sleep(SECONDS)
        total = 0.0
        for name, pid in pids.items():
            share = (cpu_ns(pid) - before[name][0]) / (SECONDS * 1e9)
            woken = (wakeups(pid) - before[name][1]) / SECONDS
            rss, anonymous = memory[name]
            total += share
            print(
                f"  {name:10} {share * 100:6.3f} % of a core, {woken:5.1f} wake-ups/s, "
                f"at start {rss / 1024:.1f} MiB resident, {anonymous / 1024:.1f} MiB of it its own"
            )
        return total
