"""A media stream from one of our ends to another over a seeded link, on a virtual clock."""

from __future__ import annotations

import heapq
import random
from typing import Any

from tests.prop.kcp_wire import Counted, conf_of
from tests.whitebox import lib


def message_of(number: int, size: int) -> bytes:
    """Its number in the first four bytes, and the rest follows from it."""
    return (number.to_bytes(4, "little") + bytes((number * 7 + i) & 0xFF for i in range(max(size - 4, 0))))[:size]


class Pair:
    """Two ends and a seeded link of 50 ms one way, ticked by what is due next."""

    DELAY_MS = 50

    def __init__(self, loss: tuple[float, float], seed: int, jitter_ms: int = 0, dup: float = 0, **words: Any) -> None:
        conf = conf_of("media", **words)
        self.loss, self.jitter_ms, self.dup, self.random = loss, jitter_ms, dup, random.Random(seed)
        self.now = self.random.choice([0, 2**31 - 1000, 2**32 - 1000])
        self.ends = [Counted(conf, self.now, packets=2048, blocks=64) for _ in range(2)]
        self.link: list[tuple[int, int, int, bytes]] = []  # arrival, order, to, datagram
        self.order = 0
        self.sent: dict[bytes, int] = {}  # by the first end: when
        self.delivered: dict[bytes, int] = {}  # how long it took
        self.up = [True, True]  # towards each end

    def send(self, size: int) -> None:
        message = message_of(len(self.sent) + 1, size)
        rc = self.ends[0].send(message, self.now)
        assert rc in (lib.ZR_OK, lib.ZR_E_full)
        if rc == lib.ZR_OK:
            self.sent[message] = self.now

    def _carry(self, to: int, data: bytes) -> None:
        for _ in range(1 + (self.random.random() < self.dup)):
            if self.up[to] and self.random.random() >= self.loss[to]:
                late = self.random.randint(0, self.jitter_ms)
                heapq.heappush(self.link, (self.now + self.DELAY_MS + late, self.order, to, data))
                self.order += 1

    def turn(self) -> None:
        while self.link and self.link[0][0] <= self.now:
            _, _, to, data = heapq.heappop(self.link)
            assert self.ends[to].input(data, self.now) == lib.ZR_OK
        while (got := self.ends[1].recv()) is not None:
            assert got in self.sent
            assert got not in self.delivered, "delivered twice"
            self.delivered[got] = self.now - self.sent[got]
        for number, end in enumerate(self.ends):
            if (at := end.deadline()) is not None and at <= self.now:
                end.on_deadline(self.now)
                for data in end.output(self.now, runs=True):
                    self._carry(1 - number, data)
                assert not end.due(self.now), "due for nothing: a worker would spin"

    def run(self, until: int) -> None:
        while True:
            self.turn()
            wakes = [at for end in self.ends if (at := end.deadline()) is not None]
            wakes += [self.link[0][0]] if self.link else []
            at = min(wakes, default=until)
            if at >= until:
                self.now = until
                return
            self.now = max(at, self.now + 1)

    def stream(self, messages: int, every_ms: int, size: int) -> None:
        for _ in range(messages):
            self.send(size)
            self.run(self.now + every_ms)

    def close(self) -> None:
        for end in self.ends:
            end.assert_conserved(self.now)
            assert end.deadline() is None
            assert end.waiting() == 0
            assert (end.packets(), end.blocks()) == (0, 0)
            assert end.received_span() == end.taken + end.counts().holes
            assert end.close() == 0
