"""Publisher and subscribers of a measurement, each a thread in C, and what one round of traffic came to."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

from relay._load import Generator, Sinks
from relay.bench.delays import percentiles_us
from relay.units import NS_PER_S, Address

Mode = Literal["segmented", "burst", "singles"]

PAYLOAD_TYPE = 97
_RCVBUF = 4 << 20  # of a sink: seconds of a stream
_DRAIN_S = 3.0
_QUIET_S = 0.5
_STEP_S = 0.02
_WARM_UP_NS = 100_000_000
_WARM_UP_TRIES = 100


@dataclass(frozen=True)
class Shape:
    """What is sent: `streams` streams to `subscribers` each. `segmented`: a frame is one UDP_SEGMENT message."""

    streams: int = 1
    subscribers: int = 1  # of each stream
    pps: int = 1000  # of each stream
    size: int = 1200
    frame: int = 8
    mode: Mode = "segmented"
    gro: bool = True  # of the sinks
    ssrc: int = 0x5EED0000
    ramp_ns: int = 0

    @property
    def frame_sent(self) -> int:
        """Packets that leave together."""
        return 1 if self.mode == "singles" else self.frame


@dataclass
class Counted:
    """One round, or several added up. Packets: `due` to be sent, `sent`; all else counted at the sinks."""

    due: int = 0
    sent: int = 0
    wanted: int = 0  # of what was due, times subscribers
    good: int = 0
    duplicates: int = 0
    old: int = 0
    corrupt: int = 0
    rtcp: int = 0
    sink_drops: int = 0  # at full sockets of ours
    frames: int = 0
    late_frames: int = 0
    generator_busy_ns: int = 0
    sinks_busy_ns: int = 0
    run_ns: int = 0
    delays: list[int] = field(default_factory=list)

    def plus(self, other: Counted) -> Counted:
        added = {name: getattr(self, name) + getattr(other, name) for name in _SUMS}
        if not self.delays or not other.delays:
            return Counted(**added, delays=self.delays or other.delays)
        return Counted(**added, delays=[a + b for a, b in zip(self.delays, other.delays, strict=True)])

    @property
    def missing(self) -> int:
        return self.wanted - self.good

    @property
    def delivered_pct(self) -> float:
        """Of what should have been sent and arrived; exact, and never rounded up to 100."""
        return 100 * self.good / self.wanted if self.wanted else 0.0

    @property
    def generator_busy_pct(self) -> float:
        return 100 * self.generator_busy_ns / self.run_ns if self.run_ns else 0.0

    @property
    def sinks_busy_pct(self) -> float:
        return 100 * self.sinks_busy_ns / self.run_ns if self.run_ns else 0.0

    def delays_us(self) -> dict[str, float | None]:
        """From the moment a packet was due to when its sink read it."""
        return percentiles_us(self.delays)


_SUMS = (
    *("due", "sent", "wanted", "good", "duplicates", "old", "corrupt", "rtcp", "sink_drops", "frames", "late_frames"),
    *("generator_busy_ns", "sinks_busy_ns", "run_ns"),
)


class Traffic:
    """Opens the sinks; `aim` at where streams are published; then rounds, one after the other."""

    def __init__(self, shape: Shape, sinks_ip: str = "127.0.0.1") -> None:
        self.shape = shape
        self._ip = sinks_ip
        self._sinks = Sinks(
            Address(sinks_ip, 0).pack(),
            shape.streams * shape.subscribers,
            per_stream=shape.subscribers,
            ssrc=shape.ssrc,
            size=shape.size,
            rcvbuf=_RCVBUF,
            gro=shape.gro,
        )
        self._generator: Generator | None = None
        self._stopped = False

    def subscribers(self) -> list[list[Address]]:
        """Where each stream's subscribers are."""
        ports, per = self._sinks.ports(), self.shape.subscribers
        return [[Address(self._ip, port) for port in ports[at : at + per]] for at in range(0, len(ports), per)]

    def aim(self, ingress: list[Address]) -> None:
        """Where each stream goes to; from now on, by one socket."""
        shape = self.shape
        self._generator = Generator(
            Address("127.0.0.1" if ingress[0].ip == "127.0.0.1" else "0.0.0.0", 0).pack(),
            b"".join(address.pack() for address in ingress),
            ssrc=shape.ssrc,
            frame=shape.frame_sent,
            size=shape.size,
            pps=shape.pps,
            payload_type=PAYLOAD_TYPE,
            segment=shape.mode == "segmented",
            ramp_ns=shape.ramp_ns,
        )

    def stop(self) -> None:
        """From any thread: the round in progress ends early, and none follows."""
        self._stopped = True
        if self._generator is not None:
            self._generator.stop()

    def warm_up(self, steady_s: float = 0.0) -> None:
        """Sends until every sink has had something, then `steady_s` more; TimeoutError after 10 s.

        A relay's replay cache reaches back two seconds: until then each packet takes fresh memory.
        """
        for _ in range(_WARM_UP_TRIES):
            self.round(_WARM_UP_NS / NS_PER_S)
            if all(self._sinks.good()) or self._stopped:
                if steady_s > 0 and not self._stopped:
                    self.round(steady_s)
                return
        raise TimeoutError(f"{sum(not good for good in self._sinks.good())} subscribers got nothing")

    def round(self, seconds: float) -> Counted:
        """Sends for so long, waits for the last packet; blocks, so call it in a thread."""
        assert self._generator is not None, "aim first"
        self._sinks.clear_delays()
        before = self.counted()
        with self._receiving():
            self._generator.run(round(seconds * NS_PER_S))
            sent_until = self.counted().sent
            self._drain((sent_until - before.sent) * self.shape.subscribers + before.good)
        after = self.counted()
        made = Counted(**{name: getattr(after, name) - getattr(before, name) for name in _SUMS})
        made.delays = self._sinks.delays()
        return made

    def counted(self) -> Counted:
        """Since the beginning, without delays; any thread."""
        assert self._generator is not None, "aim first"
        out, back = self._generator.counts(), self._sinks.counts()
        return Counted(
            due=out["due"],
            sent=out["sent"],
            wanted=out["due"] * self.shape.subscribers,
            good=back["good"],
            duplicates=back["duplicates"],
            old=back["old"],
            corrupt=back["corrupt"],
            rtcp=back["rtcp"],
            sink_drops=sum(self._sinks.dropped()),
            frames=out["frames"],
            late_frames=out["late"],
            generator_busy_ns=out["busy_ns"],
            sinks_busy_ns=back["busy_ns"],
            run_ns=out["run_ns"],
        )

    @contextmanager
    def _receiving(self) -> Iterator[None]:
        thread = threading.Thread(target=self._sinks.run, name="sinks")
        thread.start()
        try:
            yield
        finally:
            self._sinks.stop()
            thread.join()

    def _drain(self, wanted: int) -> None:
        """Until all is there, or nothing more comes."""
        end, quiet_at, last = time.monotonic() + _DRAIN_S, time.monotonic() + _QUIET_S, -1
        while (good := self._sinks.counts()["good"]) < wanted and time.monotonic() < min(end, quiet_at):
            if good > last:
                last, quiet_at = good, time.monotonic() + _QUIET_S
            time.sleep(_STEP_S)
