"""What each peer was sent and what of its was received, over all lanes of this relay and all its sessions so far.

The lanes count by session slot, in their pages (struct zr_link_row), and never back: a slot's next session counts on.
Here that becomes counts by peer. A slot rests before it is given again (relay/placement.py), so what a session's last
second added is still there to be read when the peer's next session is seen. Forgotten with the agent, as all of
relay/links.py. Handshakes are no session's and not in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

RATE_NS = 900_000_000  # over at least so long; the agent looks once a second


class Counts(NamedTuple):
    """Datagrams by their UDP payload; `payload`: messages, each once, without headers and repetition."""

    received_datagrams: int = 0
    received_bytes: int = 0
    received_payload_bytes: int = 0
    sent_datagrams: int = 0
    sent_bytes: int = 0
    sent_payload_bytes: int = 0

    def plus(self, other: Counts) -> Counts:
        return Counts(*(mine + theirs for mine, theirs in zip(self, other, strict=True)))

    def minus(self, other: Counts) -> Counts:
        return Counts(*(mine - theirs for mine, theirs in zip(self, other, strict=True)))


@dataclass
class _Peer:
    slot: int | None = None
    counts: Counts = field(default_factory=Counts)
    rated: Counts = field(default_factory=Counts)  # when the rates were made
    rated_at: int | None = None
    receiving_bps: int | None = None
    sending_bps: int | None = None


class Traffic:
    """`read(slot)`: the rows of a slot in all lanes' pages, each as relay._core.StatPage.session gives it."""

    def __init__(self, read: Callable[[int], Iterable[tuple[int, ...]]]) -> None:
        self._read = read
        self._seen: dict[int, Counts] = {}  # by slot, what is already counted
        self._peers: dict[str, _Peer] = {}

    def begin(self, slot: int) -> None:
        """A session takes this slot: what was counted there until now is another's."""
        for peer in self._peers.values():
            if peer.slot == slot:
                self._take(peer, slot)
                peer.slot = None
        self._seen[slot] = self._row(slot)

    def look(self, peer_id: str, slot: int | None, now: int) -> None:
        """At the peer's counters, about once a second and before they are shown. `slot`: of its session, if any."""
        peer = self._peers.setdefault(peer_id, _Peer())
        for each in dict.fromkeys((peer.slot, slot)):  # a lane may drop a session a little later than we do
            if each is not None:
                self._take(peer, each)
        peer.slot = peer.slot if slot is None else slot
        if peer.rated_at is not None and now - peer.rated_at < RATE_NS:
            return
        if peer.rated_at is not None:
            took_ns, moved = now - peer.rated_at, peer.counts.minus(peer.rated)
            peer.receiving_bps = moved.received_bytes * 8_000_000_000 // took_ns
            peer.sending_bps = moved.sent_bytes * 8_000_000_000 // took_ns
        peer.rated, peer.rated_at = peer.counts, now

    def keep(self, peer_ids: Iterable[str]) -> None:
        """Only these are listed any more."""
        listed = set(peer_ids)
        for peer_id in self._peers.keys() - listed:
            del self._peers[peer_id]

    def of(self, peer_id: str) -> Counts:
        peer = self._peers.get(peer_id)
        return Counts() if peer is None else peer.counts

    def row(self, peer_id: str) -> dict[str, int]:
        """For the API: counts since the agent began, rates (bits a second) of about the last second, once known."""
        peer = self._peers.get(peer_id) or _Peer()
        rates = {"receiving_bps": peer.receiving_bps, "sending_bps": peer.sending_bps}
        return {**peer.counts._asdict(), **{name: rate for name, rate in rates.items() if rate is not None}}

    def _row(self, slot: int) -> Counts:
        return Counts(*(sum(column) for column in zip(*self._read(slot), strict=True)))

    def _take(self, peer: _Peer, slot: int) -> None:
        found = self._row(slot)
        peer.counts = peer.counts.plus(found.minus(self._seen.get(slot, found)))
        self._seen[slot] = found
