"""Who the peers are, and what each of them may do: those of the configuration file, then those of the peer map."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from relay.units import Address


@dataclass(frozen=True)
class Peer:
    """A listed relay. `pull`: prefixes of the streams it may pull; `publish`: of those it may give us. `public_key`:
    32 bytes; empty on plaintext links."""

    id: str
    addresses: Sequence[Address]
    pull: Sequence[str] = ("",)
    publish: Sequence[str] = ("",)
    public_key: bytes = b""
    max_rate_bps: int = 0  # what it may be sent; 0: no bound

    @classmethod
    def of(cls, peer: Any) -> Peer:
        """From a `relay.settings.Peer`."""
        return cls(
            peer.id, tuple(peer.addresses), tuple(peer.rights.pull), tuple(peer.rights.publish), peer.key,
            peer.max_rate_bps,
        )  # fmt: skip


class Rights:
    """Prefixes by peer. A peer that is not listed has none."""

    def __init__(self, peers: Iterable[Peer]) -> None:
        self._pull: dict[str, tuple[str, ...]] = {}
        self._publish: dict[str, tuple[str, ...]] = {}
        self._max_rate: dict[str, int] = {}
        self.set(peers)

    def set(self, peers: Iterable[Peer]) -> None:
        """All of them anew."""
        peers = list(peers)
        self._pull = {peer.id: tuple(peer.pull) for peer in peers}
        self._publish = {peer.id: tuple(peer.publish) for peer in peers}
        self._max_rate = {peer.id: peer.max_rate_bps for peer in peers}

    def may_pull(self, peer: str, stream_id: str) -> bool:
        return stream_id.startswith(self._pull.get(peer, ()))

    def max_rate_bps(self, peer: str | None) -> int:
        return self._max_rate.get(peer or "", 0)

    def may_publish(self, peer: str, stream_id: str) -> bool:
        """May it give us this stream?"""
        return stream_id.startswith(self._publish.get(peer, ()))


def merged(listed: Sequence[Peer], mapped: Sequence[Peer], own_id: str, own_key: bytes) -> tuple[list[Peer], list[str]]:
    """The peers in force, and what is odd about them. The file wins over the map; this relay's own entry is skipped."""
    peers, odd = list(listed), []
    ids = {peer.id for peer in listed}
    names = {peer.public_key: peer.id for peer in listed} | {own_key: own_id}
    for peer in mapped:
        if peer.id == own_id:
            if peer.public_key != own_key:
                odd.append(f"it has another public key for this relay, {own_id}: peers will not know us")
        elif peer.id in ids:
            odd.append(f"{peer.id} is listed in the configuration file, which is what counts")
        elif peer.public_key in names:
            odd.append(f"{peer.id} has the public key of {names[peer.public_key]}: left out")
        else:
            peers.append(peer)
    return peers, odd
