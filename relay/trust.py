"""What peers may do, and what becomes of those that do more: rights, violations, and who is listed at all."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from relay.desk import Desk
from relay.peers import Peer
from relay.sessions import MS
from relay.violations import Violations


class Trust:
    """Of one relay's peers. Sessions that it ends are taken by Control."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._violations = Violations()

    def set_peers(self, peers: Sequence[Peer], now: int) -> None:
        """All of them anew."""
        self._desk.rights.set(peers)
        self._violations.forget_all_but({peer.id for peer in peers})
        keys = {peer.id: peer.public_key for peer in peers}
        self._desk.sessions.set_peers({peer.id: list(peer.addresses) for peer in peers}, keys, now)

    def check_have(self, slot: int, streams: Iterable[str], now: int) -> str | None:
        """The drop word when the peer announces a stream that it may not publish."""
        peer = self._desk.sessions.peer_of(slot) or ""
        for stream in streams:
            if not self._desk.rights.may_publish(peer, stream):
                self._desk.alarm("have refused: rights", now, peer=peer, stream=stream, code="ZR1008")
                return "rights"
        return None

    def on_violations(self, slot: int, count: int, now: int) -> None:
        peer = self._desk.sessions.peer_of(slot)
        if peer is None or self._desk.conf.identity is None:  # in plaintext anybody can speak in a peer's name
            return
        closed_ns = self._violations.add(peer, count, now)
        if closed_ns:
            self._desk.log("error", "link closed: violations", peer=peer, closed_ms=closed_ns // MS, code="ZR1009")
            self._desk.sessions.close(slot, now, closed_ns)
