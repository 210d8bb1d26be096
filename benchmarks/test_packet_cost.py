"""What one packet costs a worker at 5 000 packets a second: CPU time, kernel included, and system calls.

One packet at a time, 200 µs apart: the worst case, in which no call carries two packets of a publisher. On loopback
the kernel's whole way to the receiving socket is counted as the sending worker's.
"""

from __future__ import annotations

import asyncio
import socket
import time
from contextlib import ExitStack
from typing import Any

import pytest

from benchmarks.machine import cpu_ns
from relay.client import Client, stream_path
from relay.dev import DevMesh
from relay.passage import confirmed
from tests.net.rtp import packet, publish_body

pytestmark = pytest.mark.figures

PPS, SECONDS = 5000, 3
RELAYS = ("bj-1", "sh-1", "gz-1")
CALLS = ("recvmmsg", "sendmmsg", "epoll")
PAYLOAD = bytes(1100)


@pytest.mark.parametrize(("relays", "subscribers"), [(1, 1), (1, 10), (3, 1)], ids=["1-to-1", "1-to-10", "chain"])
def test_packet_cost(relays: int, subscribers: int) -> None:
    sent, received, workers = asyncio.run(measure(relays, subscribers))
    print(f"\n{relays} relays, 1 -> {subscribers}, {PPS} pps x {SECONDS} s, n {sent}, received {received}:")
    for name, cost, calls in workers:
        each = ", ".join(f"{word} {number:.2f}" for word, number in calls.items())
        print(f"  {name}: {cost / 1e3:.1f} µs CPU, {sum(calls.values()):.2f} system calls ({each}) per packet")
    assert received == sent * subscribers
    assert all(0 < cost < 1e9 / PPS for _, cost, _ in workers), "a worker is busy all the time"


async def measure(relays: int, subscribers: int) -> tuple[int, int, list[tuple[str, float, dict[str, float]]]]:
    """Packets sent and received; of each worker: name, nanoseconds and calls per packet."""
    with ExitStack() as stack:
        sinks = [stack.enter_context(open_sink()) for _ in range(subscribers)]
        async with DevMesh(relays) as mesh, mesh.client(RELAYS[0]) as origin, mesh.client(RELAYS[relays - 1]) as edge:
            answer = await origin.put(stream_path("cost"), publish_body())
            port = int(answer["ingress"]["address"].rpartition(":")[2])
            for number, sink in enumerate(sinks):
                where = f"127.0.0.1:{sink.getsockname()[1]}"
                await confirmed(edge, "cost", str(number), {"kind": "rtp", "address": where})
            names = RELAYS[:relays]
            before = [await worker(mesh, name) for name in names]
            sent, received = await asyncio.to_thread(send_and_receive, sinks, port)
            after = [await worker(mesh, name) for name in names]
    costs = []
    for name, (cpu_0, stats_0), (cpu_1, stats_1) in zip(names, before, after, strict=True):
        calls = {word: (stats_1[f"sys_{word}"] - stats_0[f"sys_{word}"]) / sent for word in CALLS}
        costs.append((name, (cpu_1 - cpu_0) / sent, calls))
    return sent, received, costs


async def worker(mesh: DevMesh, name: str) -> tuple[int, dict[str, int]]:
    """CPU time and counters of a relay's only worker."""
    async with Client(mesh[name].api_url) as client:
        facts: dict[str, Any] = (await client.get("/v1/status"))["workers"][0]
        return cpu_ns(facts["pid"]), facts["stats"]


def open_sink() -> socket.socket:
    sink = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sink.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    sink.bind(("127.0.0.1", 0))
    sink.setblocking(False)
    return sink


def send_and_receive(sinks: list[socket.socket], port: int) -> tuple[int, int]:
    """One thread sends on time and empties one sink after each packet."""
    received, room = 0, bytearray(2048)

    def drain(sink: socket.socket) -> int:
        count = 0
        try:
            while sink.recv_into(room):
                count += 1
        except BlockingIOError:
            pass
        return count

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.connect(("127.0.0.1", port))
        start = time.monotonic()
        for seq in range(PPS * SECONDS):
            time.sleep(max(0.0, start + seq / PPS - time.monotonic()))
            sender.send(packet(1, seq, payload=PAYLOAD))
            received += drain(sinks[seq % len(sinks)])
        time.sleep(0.3)
        received += sum(map(drain, sinks))
    return PPS * SECONDS, received
