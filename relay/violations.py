"""How often a peer may break the protocol: 16 times in 10 s, then its link is closed for a while. Pure.

The first time 1 s, then twice as long each time, up to 60 s; ten minutes without a closing, and it begins at 1 s again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, field

SECOND = 1_000_000_000
VIOLATIONS_MAX, WITHIN_NS = 16, 10 * SECOND
CLOSED_MIN_NS, CLOSED_MAX_NS = SECOND, 60 * SECOND
FORGIVEN_NS = 600 * SECOND


@dataclass
class _Record:
    times: deque[int] = field(default_factory=lambda: deque(maxlen=VIOLATIONS_MAX))
    closed_ns: int = 0  # how long, the last time
    closed_at: int = 0


class Violations:
    """Of all peers, by id."""

    def __init__(self) -> None:
        self._peers: dict[str, _Record] = {}

    def add(self, peer: str, count: int, now: int) -> int:
        """`count` more of them; for how long its link must be closed now, 0: it need not."""
        if count <= 0:
            return 0
        record = self._peers.setdefault(peer, _Record())
        record.times.extend([now] * min(count, VIOLATIONS_MAX))
        if len(record.times) < VIOLATIONS_MAX or now - record.times[0] >= WITHIN_NS:
            return 0
        record.times.clear()
        forgiven = now - record.closed_at >= FORGIVEN_NS
        record.closed_ns = CLOSED_MIN_NS if forgiven else min(max(record.closed_ns * 2, CLOSED_MIN_NS), CLOSED_MAX_NS)
        record.closed_at = now
        return record.closed_ns

    def forget_all_but(self, peers: Collection[str]) -> None:
        for peer in self._peers.keys() - set(peers):
            del self._peers[peer]
