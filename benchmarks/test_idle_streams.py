"""What 1 000 streams cost that nobody sends on any more: CPU time of the worker and of the agent."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from benchmarks.machine import cpu_ns, open_files
from relay.client import Client, stream_path
from relay.dev import DevMesh
from tests.net.rtp import packet, publish_body

pytestmark = pytest.mark.figures

STREAMS, SECONDS = 1000, 5.0
SILENCE_S = 3.0  # after 2 s the worker gives a learned source up
BAR = 0.05


def test_a_thousand_idle_streams_on_one_worker() -> None:
    worker, agent = asyncio.run(measure())
    print(
        f"\n{STREAMS} idle streams over {SECONDS:g} s: worker {worker * 100:.2f} %, agent {agent * 100:.2f} % of a core"
    )
    assert 0 < worker <= BAR


async def measure() -> tuple[float, float]:
    """Share of a core: worker, agent. Every stream has had a packet and has a subscriber, as in a real relay."""
    ports = STREAMS + 24
    with open_files(ports + 64):  # to look for free ports, not for the relay: it gets the limit of whoever runs this
        mesh = DevMesh(1, ingress_ports=ports)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sink:
        sink.bind(("127.0.0.1", 0))
        async with mesh, mesh.client("bj-1") as relay:
            await publish(relay, f"127.0.0.1:{sink.getsockname()[1]}")
            await asyncio.sleep(SILENCE_S)
            status = await relay.get("/v1/status")
            worker = status["workers"][0]
            assert worker["stats"]["media_accepted"] == STREAMS
            pids = (worker["pid"], status["pid"])
            before = [cpu_ns(pid) for pid in pids]
            await asyncio.sleep(SECONDS)
            used = [(cpu_ns(pid) - start) / (SECONDS * 1e9) for pid, start in zip(pids, before, strict=True)]
    return used[0], used[1]


async def publish(relay: Client, to: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for number in range(STREAMS):
            path = stream_path(f"idle/{number}")
            answer: dict[str, Any] = await relay.put(path, publish_body())
            await relay.put(f"{path}/subscribers/one", {"kind": "rtp", "address": to})
            port = int(answer["ingress"]["address"].rpartition(":")[2])
            sender.sendto(packet(number + 1, 0), ("127.0.0.1", port))
