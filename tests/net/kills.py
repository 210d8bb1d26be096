"""Kills workers under a flow of RTP and says what each death cost: packets, and time to the successor's first one.

Publisher and player are processes of their own, so that neither waits for the other nor for the test.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import socket
import struct
import subprocess
import sys
import time
from bisect import bisect_left, bisect_right
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from operator import itemgetter

from relay.client import Client
from relay.dev import DevRelay
from relay.passage import confirmed
from tests.net.rtp import packet, publish_body
from tests.net.test_streams import port_of

PUBLISHER = """
import os, socket, struct, sys, time
parent = os.getppid()
port, pps, head = int(sys.argv[1]), int(sys.argv[2]), bytes.fromhex(sys.argv[3])
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.connect(("127.0.0.1", port))
start, seq = time.monotonic(), 0
tail = bytes(1000)
print("on", flush=True)
while os.getppid() == parent:
    time.sleep(0.001)
    due = int((time.monotonic() - start) * pps)
    while seq < due:
        try:
            sock.send(head[:2] + (seq & 0xFFFF).to_bytes(2, "big") + head[4:12] + seq.to_bytes(4, "big") + tail)
        except OSError:
            continue
        seq += 1
"""
PLAYER = """
import select, socket, struct, sys, time
sock = socket.socket(fileno=int(sys.argv[1]))
sock.settimeout(0.2)
pack, out = struct.Struct("<IQ").pack, []
while True:
    try:
        data = sock.recv(2000)
    except TimeoutError:
        if select.select([sys.stdin], [], [], 0)[0]:
            break
        continue
    if len(data) > 16 and data[1] < 192:
        out.append(pack(int.from_bytes(data[12:16], "big"), time.monotonic_ns()))
sys.stdout.buffer.write(b"".join(out))
"""
_ARRIVAL = struct.Struct("<IQ")
_when = itemgetter(1)
SETTLE_S = 0.25  # after a death, before the next one


@dataclass
class Flow:
    """One stream's publisher and player; once it has ended, `arrivals` in their order: (number, when in ns)."""

    publisher: subprocess.Popen[bytes]
    player: subprocess.Popen[bytes]
    arrivals: list[tuple[int, int]] = field(default_factory=list)
    seqs: set[int] = field(default_factory=set)  # of these

    @classmethod
    def start(cls, ingress_port: int, sink: socket.socket, pps: int) -> Flow:
        sink.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        player = subprocess.Popen(
            [sys.executable, "-c", PLAYER, str(sink.fileno())],
            pass_fds=[sink.fileno()], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        head = packet(5, 0)[:12].hex()
        publisher = subprocess.Popen(
            [sys.executable, "-c", PUBLISHER, str(ingress_port), str(pps), head], stdout=subprocess.PIPE
        )
        assert publisher.stdout is not None
        publisher.stdout.readline()
        return cls(publisher, player)

    def end(self) -> None:
        self.publisher.kill()
        self.publisher.communicate()
        data, _ = self.player.communicate(timeout=30)
        self.arrivals = list(_ARRIVAL.iter_unpack(data))
        self.seqs = {number for number, _ in self.arrivals}

    def missing(self, since: int = 0, until: int = 1 << 62) -> list[int]:
        """Numbers that never came, of those that should have come between these times."""
        first = bisect_left(self.arrivals, since, key=_when)
        inside = [number for number, _ in self.arrivals[first : bisect_right(self.arrivals, until, key=_when)]]
        return [number for number in range(min(inside), max(inside)) if number not in self.seqs] if inside else []

    def twice(self) -> int:
        return len(self.arrivals) - len(self.seqs)


@dataclass(frozen=True)
class Kill:
    """When a worker was killed, and when its successor began, in ns."""

    at_ns: int
    successor_ns: int


@dataclass(frozen=True)
class Death:
    """What it cost: packets, and the time from the signal to the successor's first one."""

    lost: int
    first_ms: float


def deaths(flow: Flow, kills: list[Kill], settle_s: float = SETTLE_S) -> list[Death]:
    """What each kill cost this flow."""
    found = []
    for kill in kills:
        at = bisect_left(flow.arrivals, kill.successor_ns, key=_when)
        first = flow.arrivals[at][1] if at < len(flow.arrivals) else 1 << 62
        lost = flow.missing(kill.at_ns - 50_000_000, kill.at_ns + int(settle_s * 0.9e9))
        found.append(Death(len(lost), (first - kill.at_ns) / 1e6))
    return found


async def who(client: Client, worker: int) -> tuple[int, int]:
    """Its process, and when that became the worker, in ns."""
    row = (await client.get("/v1/status"))["workers"][worker]
    return row["pid"], row["started_ns"]


async def kill_again_and_again(
    relay: DevRelay, worker: int, numbers: Sequence[signal.Signals], *, settle_s: float = SETTLE_S
) -> list[Kill]:
    """By these signals, one after the other, the worker that is there then, at a random moment."""
    kills = []
    async with Client(relay.api_url, timeout_s=10) as client:
        pid, _ = await who(client, worker)
        for number in numbers:
            await asyncio.sleep(random.uniform(0, 0.02))
            at, dead = time.monotonic_ns(), pid
            os.kill(pid, number)
            await asyncio.sleep(settle_s)
            async with asyncio.timeout(20):
                while True:
                    pid, since = await who(client, worker)
                    if pid != dead:
                        break
                    await asyncio.sleep(0.01)
            kills.append(Kill(at, since))
    return kills


@contextlib.asynccontextmanager
async def streaming(client: Client, rates: Sequence[int]) -> AsyncIterator[list[Flow]]:
    """Worker 0, 1, ... has a stream of so many packets a second each; no publisher outlives the block."""
    flows: list[Flow] = []
    with contextlib.ExitStack() as stack:
        for worker, pps in enumerate(rates):
            sock = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            sock.bind(("127.0.0.1", 0))
            answer = await client.put(f"/v1/streams/s{worker}", publish_body())
            assert answer["worker"] == worker
            where = {"kind": "rtp", "address": f"127.0.0.1:{sock.getsockname()[1]}"}
            await confirmed(client, f"s{worker}", "me", where)
            flows.append(Flow.start(port_of(answer), sock, pps))
            stack.callback(flows[-1].publisher.kill)
            stack.callback(flows[-1].player.kill)
        yield flows


def held(pid: int) -> int:
    """Descriptors of a process."""
    return len(os.listdir(f"/proc/{pid}/fd"))
