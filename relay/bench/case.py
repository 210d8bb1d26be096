"""What one run of the link benchmark does: the stream, the link it crosses, the engine that carries it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from relay.units import NS_PER_S, parse_duration_ns, parse_rate_bps

Engine = Literal["media", "compat", "stock"]
Wheel = Literal["kcp", "siokcp"]

TAIL_NS = NS_PER_S  # on top of the deadline, so that every packet has its chance
PACKETS_MAX = 20_000_000


class Span(NamedTuple):
    """From and until, nanoseconds since the first packet."""

    start_ns: int
    end_ns: int

    @classmethod
    def parse(cls, text: str) -> Span:
        """ "5s-7s"; ValueError otherwise."""
        first, dash, last = text.partition("-")
        if not dash:
            raise ValueError(f"{text!r} is not FROM-UNTIL: write '5s-7s'")
        span = cls(parse_duration_ns(first), parse_duration_ns(last))
        if span.end_ns <= span.start_ns:
            raise ValueError(f"{text!r} ends before it begins")
        return span


class Cross(NamedTuple):
    """A second sender at a constant rate, UDP payload bits per second."""

    rate_bps: int
    span: Span

    @classmethod
    def parse(cls, text: str) -> Cross:
        """ "1Mbit/s@5s-15s"; ValueError otherwise."""
        rate, at, span = text.partition("@")
        if not at:
            raise ValueError(f"{text!r} is not RATE@FROM-UNTIL: write '1Mbit/s@5s-15s'")
        cross = cls(parse_rate_bps(rate), Span.parse(span))
        if not 1000 <= cross.rate_bps <= 10**9:
            raise ValueError(f"{text!r}: 1kbit/s to 1Gbit/s")
        return cross


@dataclass(frozen=True)
class Case:
    """One run. Losses 0 to 1; `burst`: mean losses in a row, <= 1 independent; `delay_ns` one way."""

    engine: Engine = "media"
    wheel: Wheel = "kcp"  # whose engine is the stock one
    delay_ns: int = 50_000_000
    loss: float = 0.0  # forward: with the packets
    rloss: float = 0.0  # reverse: with the acknowledgements
    burst: float = 0.0
    rate_bps: int = 0  # of the forward bottleneck; 0: none
    queue_bytes: int = 65536
    cross: Cross | None = None
    blackout: Span | None = None
    pps: int = 200
    size: int = 1200  # of an RTP packet
    frame: int = 8  # packets that leave at one instant
    seconds: float = 60.0
    deadline_ns: int = 400_000_000
    residual: float = 0.0  # the media engine's; 0: the usual
    max_overhead: float = 0.0
    seed: int = 1

    @property
    def packets(self) -> int:
        return max(1, round(self.seconds * self.pps))

    def frame_at_ns(self, frame: int) -> int:
        """When the frame leaves, counted from the first."""
        return frame * self.frame * NS_PER_S // self.pps

    @property
    def span_ns(self) -> int:
        """From the first packet to the end of the run."""
        return self.frame_at_ns((self.packets - 1) // self.frame) + self.deadline_ns + TAIL_NS

    @property
    def span_s(self) -> int:
        """The seconds the run touches."""
        return self.span_ns // NS_PER_S + 1

    @property
    def link_packets(self) -> int:
        """Datagrams that may be on their way at once in one direction."""
        wanted = int(self.pps * 16 * (self.delay_ns / NS_PER_S + 1))
        return min(1 << 18, max(4096, wanted))

    def seeds(self, which: int) -> tuple[int, int]:
        """Of the links of run `which`: forward, reverse."""
        return 2 * (self.seed + which), 2 * (self.seed + which) + 1
