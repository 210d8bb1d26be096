"""Streams and subscribers that come and go at a mesh, every packet of them known: what `zrelay bench aging` ages on.

    slot 0  publish s/0 ── packets ───────────────────────── unpublish   publish s/7 ── ...
              └ subscriber: subscribe ─ confirmed ─ [counted] ─ unsubscribe   subscribe ─ ...

Of what is sent between a subscriber's confirmation and its leaving, each packet must come exactly once.
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
import time
from array import array
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from relay.client import Client, stream_path
from relay.passage import confirmed

_SO_TIMESTAMPNS = 35  # asm-generic/socket.h; Python's socket module does not name it
_PAYLOAD_TYPE = 97
_TRACK = {
    "id": "a0", "kind": "audio", "codec": "opus", "payload_type": _PAYLOAD_TYPE, "clock_rate": 48000, "channels": 2,
}  # fmt: skip
_HEAD = struct.Struct(">BBHIIIQ")  # RTP, then the whole number and the time of sending
_SETTLE_S = 0.4  # between the last counted packet and the leaving: on its way no longer than that
_RCVBUF = 1 << 20


@dataclass(frozen=True)
class Shape:
    """What is kept up, and how fast it turns over."""

    streams: int = 20
    subscribers: int = 2  # of each stream
    pps: int = 10  # of each stream
    size: int = 300  # of an RTP packet, bytes
    life_s: float = 5.0  # of a stream, on average; a subscriber's is a third of it
    seed: int = 1


@dataclass
class Counts:
    """What came of it so far. `delays_us`: since somebody took them last."""

    published: int = 0
    subscribed: int = 0
    sent: int = 0
    expected: int = 0
    delivered: int = 0
    lost: int = 0
    repeated: int = 0
    foreign: int = 0  # packets of a stream that was not subscribed to here
    errors: list[str] = field(default_factory=list)  # the first ones; the API refused, or something did not come up
    failed: int = 0
    delays_us: array[int] = field(default_factory=lambda: array("q"))

    def take_delays(self) -> array[int]:
        taken, self.delays_us = self.delays_us, array("q")
        return taken


class Source:
    """Sends the packets of one stream; `number`: of the next one."""

    def __init__(self, sock: socket.socket, port: int, ssrc: int, size: int) -> None:
        self._sock, self._to, self._ssrc = sock, ("127.0.0.1", port), ssrc
        self._fill = bytes(max(0, size - _HEAD.size))
        self.number = 0

    def send(self) -> None:
        number = self.number
        head = _HEAD.pack(
            0x80, _PAYLOAD_TYPE, number & 0xFFFF, number * 960 & 0xFFFFFFFF, self._ssrc, number, time.time_ns()
        )
        self._sock.sendto(head + self._fill, self._to)
        self.number += 1


class Sink:
    """One subscriber's socket. Delays are by the kernel's arrival stamp: reading late costs no accuracy."""

    def __init__(self, ssrc: int, counts: Counts) -> None:
        self._ssrc, self._counts = ssrc, counts
        self.seen: dict[int, int] = {}
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RCVBUF)
        self._sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        self._sock.setblocking(False)
        self._sock.bind(("127.0.0.1", 0))
        self.port = int(self._sock.getsockname()[1])
        asyncio.get_running_loop().add_reader(self._sock, self._read)

    def _read(self) -> None:
        with suppress(BlockingIOError):
            while True:
                data, ancillary, _, _ = self._sock.recvmsg(2048, 64)
                self._take(data, ancillary)

    def _take(self, data: bytes, ancillary: list[tuple[int, int, bytes]]) -> None:
        if len(data) > 1 and 192 <= data[1] <= 223:  # RTCP
            return
        if len(data) < _HEAD.size or (head := _HEAD.unpack_from(data))[4] != self._ssrc:
            self._counts.foreign += 1
            return
        self.seen[head[5]] = self.seen.get(head[5], 0) + 1
        if ancillary:
            seconds, nanoseconds = struct.unpack("qq", ancillary[0][2][:16])
            self._counts.delays_us.append((seconds * 1_000_000_000 + nanoseconds - head[6]) // 1000)

    def settle(self, first: int, end: int) -> None:
        """Counts what was to come: numbers `first` to below `end`."""
        self._read()
        counts = self._counts
        missing = sum(number not in self.seen for number in range(first, end))
        counts.expected += end - first
        counts.lost += missing
        counts.delivered += end - first - missing
        counts.repeated += sum(times - 1 for times in self.seen.values())

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._sock)
        self._sock.close()


class Churn:
    """`async with Churn(...)` runs it in the background until the end of the block; everything is taken down then."""

    def __init__(self, origin: Client, edges: list[Client], shape: Shape) -> None:
        self._origin, self._edges, self._shape = origin, edges, shape
        self._rng = random.Random(shape.seed)
        self._sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._tasks: list[asyncio.Task[None]] = []
        self._ending = asyncio.Event()
        self._ids = 0
        self._sources: dict[int, Source] = {}
        self.counts = Counts()

    async def __aenter__(self) -> Churn:
        self._sender.bind(("127.0.0.1", 0))
        self._tasks = [asyncio.create_task(self._slot()) for _ in range(self._shape.streams)]
        self._pace = asyncio.create_task(self._send())
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._ending.set()
        try:
            await asyncio.gather(*self._tasks)
        finally:
            for task in (*self._tasks, self._pace):
                task.cancel()
            await asyncio.gather(*self._tasks, self._pace, return_exceptions=True)
            self._sender.close()

    async def _send(self) -> None:
        """All streams by turns, evenly over each interval."""
        shape = self._shape
        step = 1 / (shape.pps * shape.streams)
        start, due = time.monotonic(), 0
        while True:
            late = int((time.monotonic() - start) / step) - due
            for _ in range(min(late, 4 * shape.streams)):  # who was held up does not send it all at once
                source = self._sources.get(due % shape.streams)
                if source is not None:
                    source.send()
                    self.counts.sent += 1
                due += 1
            due += max(0, late - 4 * shape.streams)
            await asyncio.sleep(max(step, 0.005))

    async def _slot(self) -> None:
        slot = self._ids
        self._ids += 1
        while not self._ending.is_set():
            number = self._ids
            self._ids += 1
            await self._guarded(self._stream, slot, number)

    async def _stream(self, slot: int, number: int) -> None:
        """One stream's life."""
        name, ssrc = f"aging/{number}", 0x10000 + number
        body = {"epoch": 1, "tracks": [_TRACK], "ingress": {"kind": "rtp", "source": "learn"}}
        answer = await self._origin.put(stream_path(name), body)
        port = int(answer["ingress"]["address"].rpartition(":")[2])
        source = Source(self._sender, port, ssrc, self._shape.size)
        self._sources[slot] = source
        self.counts.published += 1
        gone = asyncio.Event()
        subscribers = [
            asyncio.create_task(self._subscribers(name, which, ssrc, source, gone))
            for which in range(self._shape.subscribers)
        ]
        try:
            await self._pause(self._life(self._shape.life_s), self._ending)
        finally:
            gone.set()
            await asyncio.gather(*subscribers)
            self._sources.pop(slot, None)
            await self._origin.delete(f"{stream_path(name)}?epoch=1")

    async def _subscribers(self, name: str, which: int, ssrc: int, source: Source, gone: asyncio.Event) -> None:
        """One place for a subscriber: one after the other while the stream lives."""
        life = 0
        while not gone.is_set():
            await self._guarded(self._subscriber, name, f"v{which}-{life}", ssrc, source, gone)
            life += 1

    async def _subscriber(self, name: str, sid: str, ssrc: int, source: Source, gone: asyncio.Event) -> None:
        edge = self._edges[self._rng.randrange(len(self._edges))]
        sink = Sink(ssrc, self.counts)
        try:
            body = {"kind": "rtp", "address": f"127.0.0.1:{sink.port}"}
            await confirmed(edge, name, sid, body)
            self.counts.subscribed += 1
            first = source.number
            await self._pause(self._life(self._shape.life_s / 3), gone)
            end = source.number
            await asyncio.sleep(_SETTLE_S)
            sink.settle(first, end)
            await edge.delete(f"{stream_path(name)}/subscribers/{sid}")
        finally:
            sink.close()

    def _life(self, mean_s: float) -> float:
        return min(self._rng.expovariate(1 / mean_s), 5 * mean_s)

    async def _guarded(self, work: Callable[..., Any], *arguments: Any) -> None:
        """What fails is counted and goes on: a bench that dies of the first error ages nothing."""
        try:
            await work(*arguments)
        except Exception as error:
            self.counts.failed += 1
            if len(self.counts.errors) < 10:
                self.counts.errors.append(f"{type(error).__name__}: {error}")
            await asyncio.sleep(0.2)

    @staticmethod
    async def _pause(seconds: float, until: asyncio.Event) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(until.wait(), seconds)
