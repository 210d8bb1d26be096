"""The two ends of a run: ours between relays, ours as a plain KCP peer, and the engine of a wheel driven like that."""

from __future__ import annotations

import struct
from typing import Any, Protocol

from relay._bench import KcpEnd, LaneEnd, Path, Tally
from relay.bench.case import Case, Wheel
from relay.bench.stock import StockEngine
from relay.units import Address

_CONV = 0x2A2A2A2A
_MTU = 1420
_WINDOW = 1024
_GRID_MS = 10
_TURBO = (1, _GRID_MS, 2, 1)
_NS_PER_MS = 1_000_000
# The media header: flags, track, hops and class, layer, number, hop time, age; then the head of an RTP packet.
_HEAD = struct.Struct("<4B3I")
_RTP = struct.Struct(">BBHII")


class End(Protocol):
    """Sans-IO; relay/_bench.pyi says what each call means."""

    def send(self, count: int, now: int) -> None: ...
    def input(self, data: bytes, now: int) -> None: ...
    def receive(self, now: int) -> None: ...
    def on_deadline(self, now: int) -> None: ...
    def deadline(self) -> int: ...
    def output(self, now: int) -> list[bytes]: ...
    def turn(self, inbound: Path, outbound: Path, count: int, now: int) -> None: ...
    def counts(self) -> dict[str, Any]: ...


class StockEnd:
    """A stock engine at turbo settings: updated on its grid of 10 ms, and flushed after each send and each input."""

    def __init__(self, wheel: Wheel, tally: Tally, now: int) -> None:
        self._tally = tally
        self._out: list[bytes] = []
        self._engine = StockEngine(wheel, _CONV, self._out.append)
        self._engine.nodelay(*_TURBO)
        self._engine.wndsize(_WINDOW, _WINDOW)
        self._engine.setmtu(_MTU)
        self._body = bytes(tally.size - _RTP.size)
        self._update_at = now
        self._broken = 0
        self._flush = False

    def send(self, count: int, now: int) -> None:
        self._clock(now)
        for _ in range(count):
            number = self._tally.leaves(now)
            head = _HEAD.pack(0, 0, 0, 0, number, now // 1000 & 0xFFFFFFFF, 0)
            self._engine.send(head + _RTP.pack(0x80, 96, number & 0xFFFF, number, 1) + self._body)
        self._flush = True

    def input(self, data: bytes, now: int) -> None:
        self._clock(now)
        self._engine.input(data)
        self._flush = True

    def receive(self, now: int) -> None:
        while (message := self._engine.recv()) is not None:
            number = _HEAD.unpack_from(message)[4]
            if len(message) == _HEAD.size + self._tally.size and _RTP.unpack_from(message, _HEAD.size)[3] == number:
                self._tally.arrives(number, now)
            else:
                self._broken += 1

    def on_deadline(self, now: int) -> None:
        if now >= self._update_at:
            self._clock(now)

    def deadline(self) -> int:
        return self._update_at

    def output(self, now: int) -> list[bytes]:
        if self._flush:
            self._clock(now)
            self._engine.flush()
            self._flush = False
        made = self._out[:]
        self._out.clear()
        return made

    def turn(self, inbound: Path, outbound: Path, count: int, now: int) -> None:
        while (data := inbound.get(now)) is not None:
            self.input(data, now)
        self.receive(now)
        self.on_deadline(now)
        if count:
            self.send(count, now)
        for data in self.output(now):
            outbound.put(data, now)

    def counts(self) -> dict[str, Any]:
        return {
            "resent_by_timeout": self._engine.word("xmit"),
            "waiting": self._engine.waitsnd(),
            "broken": self._broken,
        }

    def _clock(self, now: int) -> None:
        """The engine knows no time but that of its last update; the grid is its own."""
        ms = now // _NS_PER_MS
        self._engine.update(ms)
        self._update_at = (ms + _GRID_MS - ms % _GRID_MS) * _NS_PER_MS


def pair(case: Case, tally: Tally, a_sees_b: Address, b_sees_a: Address, now: int) -> tuple[End, End]:
    """A sends, B receives. The addresses are those each end finds the other's lane 0 at.

    StockMissingError when the wheel of a stock engine is not installed.
    """
    if case.engine == "media":
        a, b = (
            LaneEnd(
                tally,
                number,
                peer.shifted(-1).pack(),
                peer.pack(),
                now,
                deadline_ms=-(-case.deadline_ns // _NS_PER_MS),
                residual=case.residual,
                max_overhead=case.max_overhead,
            )
            for number, peer in enumerate((a_sees_b, b_sees_a))
        )
        return a, b
    if case.engine == "compat":
        return KcpEnd(tally, now), KcpEnd(tally, now)
    return StockEnd(case.wheel, tally, now), StockEnd(case.wheel, tally, now)
