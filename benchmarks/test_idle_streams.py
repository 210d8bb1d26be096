"""What 1 000 streams cost that nobody sends on: CPU time of the worker and of the agent."""

from __future__ import annotations

import asyncio

from benchmarks.machine import cpu_ns
from relay.client import stream_path
from relay.dev import DevMesh
from tests.net.rtp import publish_body

STREAMS, SECONDS = 1000, 10.0
BAR = 0.05


def test_a_thousand_idle_streams_on_one_worker() -> None:
    worker, agent = asyncio.run(measure())
    print(
        f"\n{STREAMS} idle streams over {SECONDS:g} s: worker {worker * 100:.2f} %, agent {agent * 100:.2f} % of a core"
    )
    assert worker <= BAR


async def measure() -> tuple[float, float]:
    """Share of a core: worker, agent. Each stream has a subscriber, as an idle stream of a real relay has."""
    async with DevMesh(1, ingress_ports=STREAMS + 24) as mesh, mesh.client("bj-1") as relay:
        for number in range(STREAMS):
            path = stream_path(f"idle/{number}")
            await relay.put(path, publish_body())
            await relay.put(f"{path}/subscribers/one", {"kind": "rtp", "address": "127.0.0.1:9"})
        status = await relay.get("/v1/status")
        worker = status["workers"][0]
        assert worker["streams"] == STREAMS
        pids = (worker["pid"], status["pid"])
        await asyncio.sleep(1)
        before = [cpu_ns(pid) for pid in pids]
        await asyncio.sleep(SECONDS)
        used = [(cpu_ns(pid) - start) / (SECONDS * 1e9) for pid, start in zip(pids, before, strict=True)]
        return used[0], used[1]
