"""See _bench.pyx. Times: int ns of the caller's clock, never going back. Addresses: struct zr_addr, 20 bytes."""

from array import array
from typing import Any, final

NEVER: int

@final
class Path:
    """One one-way link that counts what it is given: datagrams, bytes (UDP payload), bytes per second from `start`.

    Everything put in from `dark_from` until `dark_until` is lost. `loss` 0 to 1, `burst` a mean length (<= 1:
    independent losses), `queue_bytes` 0 with a rate: 64 KiB. CoreError "inval" out of range.
    """

    put_datagrams: int
    put_bytes: int
    dark: int

    def __new__(
        cls,
        start: int,
        seconds: int,
        *,
        delay_ns: int = 0,
        loss: float = 0.0,
        burst: float = 0.0,
        rate_bps: int = 0,
        queue_bytes: int = 0,
        packets_max: int = 4096,
        seed: int = 0,
        dark_from: int = ...,
        dark_until: int = ...,
    ) -> Path: ...
    def put(self, data: bytes, now: int) -> None: ...
    def get(self, now: int) -> bytes | None:
        """The next datagram due."""

    def cross(self, data: bytes, now: int) -> None:
        """A stranger's datagram: shares the link, is neither counted nor handed out."""

    def deadline(self) -> int:
        """When the next datagram is due; NEVER."""

    def by_second(self) -> list[int]: ...
    def counts(self) -> dict[str, int]:
        """lost, queue_dropped, overflow, dark."""

@final
class Tally:
    """Which packets left and arrived when, by number: 0 to `packets` - 1. `size`: RTP bytes; `frame`: packets."""

    packets: int
    size: int
    frame: int
    sent: int
    delivered: int  # within the deadline
    late: int  # behind it, by the true delay or the receiver's own estimate
    duplicates: int  # again
    foreign: int  # never sent

    def __new__(cls, packets: int, *, size: int, frame: int, deadline_ns: int) -> Tally: ...
    def leaves(self, now: int) -> int:
        """The number of the packet that is sent now."""

    def arrives(self, number: int, now: int) -> None: ...
    def delays_us(self) -> array[int]:
        """One way, of those delivered in time."""

    def by_second(self, start: int, seconds: int) -> list[tuple[int, int]]:
        """(sent, of these missing) by the second of sending."""

    def first_after(self, at: int) -> int | None:
        """When the first packet sent at `at` or later arrived."""

class End:
    """One end of the link. Order within a turn: input, receive, on_deadline, send, output; `turn` does it all."""

    def send(self, count: int, now: int) -> None:
        """The next packets of the tally. What the engine refuses is missing."""

    def input(self, data: bytes, now: int) -> None: ...
    def receive(self, now: int) -> None:
        """Hands complete messages to the tally."""

    def on_deadline(self, now: int) -> None: ...
    def deadline(self) -> int: ...
    def output(self, now: int) -> list[bytes]: ...
    def turn(self, inbound: Path, outbound: Path, count: int, now: int) -> None:
        """One turn with all that is due on `inbound` as one batch, sending `count` packets."""

    def counts(self) -> dict[str, Any]:
        """The engine's own, and: refused by it on sending, broken on arrival, held: packets out of the pool."""

@final
class LaneEnd(End):
    """The product's lane with its pool and page, one session and one media conversation. `number`: 0 or 1.

    `deadline_ms`, `residual`, `max_overhead`: of struct zr_lane_conf; 0: the usual.
    """

    def __new__(
        cls,
        tally: Tally,
        number: int,
        peer_agent: bytes,
        peer: bytes,
        now: int,
        *,
        deadline_ms: int = 0,
        residual: float = 0,
        max_overhead: float = 0,
    ) -> LaneEnd: ...
    def check(self) -> bool:
        """Slow: every invariant."""

@final
class KcpEnd(End):
    """Our engine in its compat profile, datagrams without envelope, flushed after each send and each input."""

    def __new__(cls, tally: Tally, now: int) -> KcpEnd: ...
