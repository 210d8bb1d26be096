"""Delay of a packet through three relays on loopback without loss: kernel arrival stamp minus time of sending."""

from __future__ import annotations

import asyncio
import socket
import statistics
import struct
import time
from typing import Any

import pytest

from benchmarks.machine import Meter, percentile, slack
from relay.client import stream_path
from relay.dev import DevMesh
from relay.passage import confirmed
from tests.net.rtp import packet, publish_body

pytestmark = pytest.mark.figures

PPS, SECONDS = 200, 5
P50_MS, P99_MS = 0.3, 3.0
ROUNDS = 3
SO_TIMESTAMPNS = 35  # asm-generic/socket.h; Python's socket module does not name it


def test_delay_through_three_relays() -> None:
    """The median round of three decides: one round that neighbours disturbed does not, two would."""
    print()
    meter = Meter()
    rounds = [one_round() for _ in range(ROUNDS)]
    allowed = slack(meter.busy_cores())
    assert statistics.median(p50 for p50, _ in rounds) <= P50_MS * allowed
    assert statistics.median(p99 for _, p99 in rounds) <= P99_MS * allowed


def one_round() -> tuple[float, float]:
    """(p50, p99), ms; every packet arrived."""
    delays = asyncio.run(measure())
    p50, p99 = percentile(delays, 0.5), percentile(delays, 0.99)
    print(
        f"three relays, {PPS} pps x {SECONDS} s, n {len(delays)}: p50 {p50:.3f} ms, p99 {p99:.3f} ms, "
        f"max {max(delays):.3f} ms"
    )
    assert len(delays) == PPS * SECONDS
    return p50, p99


async def measure() -> list[float]:
    """Milliseconds per packet, in order of arrival."""
    async with DevMesh(3) as mesh, mesh.client("bj-1") as origin, mesh.client("gz-1") as edge:
        sink = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sink.bind(("127.0.0.1", 0))
        sink.setblocking(False)
        sink.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        answer = await origin.put(stream_path("delay"), publish_body())
        port = int(answer["ingress"]["address"].rpartition(":")[2])
        await confirmed(edge, "delay", "one", {"kind": "rtp", "address": f"127.0.0.1:{sink.getsockname()[1]}"})
        delays = await asyncio.to_thread(send_and_receive, sink, port)
        sink.close()
        return delays


def send_and_receive(sink: socket.socket, port: int) -> list[float]:
    """One thread sends on time, and reads what the kernel has stamped in the pauses: reading late costs no accuracy."""
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sent, delays = {}, []
    start = time.monotonic()
    for seq in range(PPS * SECONDS):
        time.sleep(max(0.0, start + seq / PPS - time.monotonic()))
        data = packet(1, seq, payload=bytes(1100))
        sent[seq] = time.time_ns()
        sender.sendto(data, ("127.0.0.1", port))
        delays += drain(sink, sent)
    time.sleep(0.3)
    delays += drain(sink, sent)
    sender.close()
    return delays


def drain(sink: socket.socket, sent: dict[int, int]) -> list[float]:
    got: list[Any] = []
    while True:
        try:
            data, ancillary, _, _ = sink.recvmsg(2048, 64)
        except BlockingIOError:
            return got
        seconds, nanoseconds = struct.unpack("qq", ancillary[0][2][:16])
        (seq,) = struct.unpack_from(">I", data, 12)
        got.append((seconds * 1_000_000_000 + nanoseconds - sent[seq]) / 1e6)
