"""Sessions with peers: hello, answer, liveness. Pure: datagrams and `now` in, actions and session events out.

             start           hello or answer            2 s silence              8 s more
    idle ───────────▶ greeting ───────────▶ up ───────────────────▶ silent ──────────────▶ down
                                            ▲ ▲  same peer answers   │  │                    │
                                            │ └──────────────────────┘  │ new boot id        │
                                            └── drop and add ───────────┴────────────────────┘

Both sides greet. A side keeps one receive index per session and says it in its hello; whoever hears a hello answers
with its own, so two hellos that cross name the same pair of indices: one session. Who made a session from a hello goes
on greeting until it hears something on it: when both replace a session at once, each answer names an index that is
gone, and only the next hello, at its random time, brings the two together. The pair (boot id, index) of a replaced
session is remembered, so that a late datagram does not bring it back.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from relay.actions import Action, Log, SendDatagram, SessionAdd, SessionDrop, SessionRekey
from relay.identity import Identity
from relay.messages import Hello, Violation, decode_hello, encode_hello
from relay.pace import MS, SECOND, retry_ns
from relay.placement import Slots
from relay.units import Address

__all__ = ["MS", "SECOND", "Peer", "Session", "SessionDown", "SessionUp", "Sessions"]

SILENT_NS = 2 * SECOND
DOWN_NS = 10 * SECOND
SESSIONS_MAX = 1024  # of a lane
PATHS_MAX = 8  # addresses of a session that a lane keeps
REKEY_SHUT = 3

State = Literal["idle", "greeting", "up", "silent", "down"]
_EDGES: dict[State, tuple[State, ...]] = {
    "idle": ("greeting", "up"),
    "greeting": ("up",),
    "up": ("silent", "down"),
    "silent": ("up", "down"),
    "down": ("up",),
}


@dataclass
class Session:
    """An association with one boot of a peer; `slot` names it in the lanes."""

    slot: int
    index: int
    peer_index: int
    boot_id: int
    lanes: int
    address: Address
    heard_at: int
    alive: bool = True  # as the lane's probes say: each side hears the other


@dataclass
class Peer:
    """One listed relay and where its session stands."""

    id: str
    addresses: Sequence[Address]
    state: State = "idle"
    index: int = 0
    session: Session | None = None
    greeting_since: int = 0
    greet_at: int | None = None
    tries: int = 0
    replaced: deque[tuple[int, int]] = field(default_factory=lambda: deque(maxlen=32))
    closed_until: int = 0  # no session before that: it broke the protocol too often


@dataclass(frozen=True)
class SessionUp:
    peer: str
    slot: int


@dataclass(frozen=True)
class SessionSilent:
    """The peer does not hear us, or we not it. The session and its keys stay."""

    peer: str
    slot: int


@dataclass(frozen=True)
class SessionHeard:
    """And again it does."""

    peer: str
    slot: int


@dataclass(frozen=True)
class SessionDown:
    peer: str
    slot: int


class Sessions:
    """All peers of one relay. `actions` and `events` are emptied by the owner after every call."""

    def __init__(
        self,
        relay_id: str,
        boot_id: int,
        lanes: int,
        peers: Mapping[str, Sequence[Address]],
        rng: random.Random,
        *,
        rate: int = 4,
        mtu: int = 1420,
    ) -> None:
        self._hello = Hello(relay=relay_id, boot_id=boot_id, index=0, lanes=lanes, rate_idle=rate, rate_active=rate)
        self._rng = rng
        self._rate_mhz = rate * 1000
        self._mtu = mtu
        self._slots = Slots(SESSIONS_MAX)
        self._by_slot: dict[int, Peer] = {}
        self._indices: set[int] = set()
        self.peers = {id: Peer(id, list(addresses)) for id, addresses in peers.items()}
        self.actions: list[Action] = []
        self.events: list[SessionUp | SessionSilent | SessionHeard | SessionDown] = []

    # -- inputs -----------------------------------------------------------------------------------------------------

    def start(self, now: int) -> None:
        for peer in self.peers.values():
            self._start(peer, now)

    def on_datagram(self, data: bytes, source: Address, now: int) -> str | None:
        """A hello or an answer; returns the drop word when it is refused."""
        try:
            hello = decode_hello(data)
        except Violation:
            return "length" if len(data) < 5 else "msg"
        if hello.relay == self._hello.relay:
            return "self"
        peer = self.peers.get(hello.relay)
        if peer is None or source not in peer.addresses:
            return "unknown_peer"
        if now < peer.closed_until:
            return "closed"
        if (hello.boot_id, hello.index) in peer.replaced:
            return "old"
        if hello.to is not None and hello.to != peer.index:
            return "noindex"
        session = peer.session
        if session is None or (session.boot_id, session.peer_index) != (hello.boot_id, hello.index):
            if session is not None:
                self._drop(peer, keep_index=hello.to is not None)
            if not self._add(peer, hello, source, now):
                return "link_pool"
            if hello.to is None:  # does it know our index? until something says so, we go on greeting
                peer.tries, peer.greeting_since = 0, now
                peer.greet_at = now + self._retry_ns(0)
        else:
            self.on_heard(session.slot, now)
        if hello.to is None:
            self._send(peer, source, to=hello.index)
        return None

    def on_heard(self, slot: int, now: int) -> None:
        """Something valid of this session was heard at `now`."""
        peer = self._by_slot.get(slot)
        if peer is None or peer.session is None or now < peer.session.heard_at:
            return
        peer.session.heard_at = now
        peer.greet_at = None
        if peer.state == "silent" and peer.session.alive:
            self._set_state(peer, "up")

    def on_alive(self, slot: int, alive: bool, now: int) -> None:
        """The lane's verdict changed: each side hears the other, or one does not."""
        peer = self._by_slot.get(slot)
        if peer is None or peer.session is None or peer.session.alive == alive:
            return
        peer.session.alive = alive
        if alive:
            self.on_heard(slot, now)
            if peer.state == "silent":  # it was heard at this very moment before
                self._set_state(peer, "up")
            self.events.append(SessionHeard(peer.id, slot))
        else:
            if peer.state == "up":
                self._set_state(peer, "silent")
                self._greet(peer, now)
            self.events.append(SessionSilent(peer.id, slot))

    def on_confirmed(self, slot: int, index: int, now: int) -> None:
        """The agent's lane sends under the keys of this receive index: the peer has them, any lane may."""

    def handshake_counts(self) -> tuple[dict[str, int], dict[str, int]]:
        """Of all handshakes so far: what happened (relay/handshake.py), and datagrams refused by drop word."""
        return {}, {}

    def discard_all(self, now: int) -> None:
        """This machine was forked, cloned or resumed: nothing from before is used again."""
        for slot in list(self._by_slot):
            self.reset(slot, now)

    def reset(self, slot: int, now: int) -> None:
        """Ends the session and greets with a new index: the peer hears that and ends its own."""
        peer = self._by_slot.get(slot)
        if peer is not None:
            self._drop(peer, keep_index=False)
            self._greet(peer, now)

    def close(self, slot: int, now: int, for_ns: int) -> None:
        """Ends the session; the peer gets no other one for `for_ns`."""
        peer = self._by_slot.get(slot)
        if peer is not None:
            self._drop(peer, keep_index=False)
            self._greet(peer, now)
            peer.closed_until = peer.greet_at = now + for_ns

    def set_peers(self, peers: Mapping[str, Sequence[Address]], keys: Mapping[str, bytes], now: int) -> None:
        """The listed relays from now on. Whose key changed, or whose address is no longer listed, begins anew."""
        for id in list(self.peers):
            if id not in peers or self._has_other_key(id, keys.get(id)):
                self.revoke(id)
        for id, addresses in peers.items():
            if id not in self.peers:
                self._add_peer(id, list(addresses), keys.get(id), now)
                continue
            peer = self.peers[id]
            peer.addresses = list(addresses)
            if peer.session is not None and peer.session.address not in addresses:
                self.reset(peer.session.slot, now)

    def set_identity(self, identity: Identity) -> None:
        """The keys of handshakes that begin from now on; sessions go on with theirs."""

    def revoke(self, peer_id: str) -> None:
        """Its session ends now, and nothing of it is remembered: to us it is a stranger."""
        peer = self.peers.pop(peer_id)
        if peer.session is not None:
            self._drop(peer, keep_index=False)
        self._indices.discard(peer.index)

    def on_rekey(self, slot: int, why: int, now: int) -> None:
        """A lane wants new keys: 1 soon, 2 it sends no more, 3 it takes no more. In plaintext none does."""
        if why == REKEY_SHUT:
            self.reset(slot, now)

    def on_timer(self, now: int) -> None:
        for peer in self.peers.values():
            session = peer.session
            if session is not None and peer.state == "up" and now - session.heard_at >= SILENT_NS:
                self._set_state(peer, "silent")
                peer.tries, peer.greeting_since, peer.greet_at = 0, now, now
            if session is not None and peer.state == "silent" and now - session.heard_at >= DOWN_NS:
                self._drop(peer, keep_index=False)
            if peer.greet_at is not None and now >= peer.greet_at:
                self._send(peer, peer.addresses[peer.tries % len(peer.addresses)], to=None)
                peer.tries += 1
                peer.greet_at = now + self._retry_ns(now - peer.greeting_since)

    def deadline(self) -> int | None:
        times = [peer.greet_at for peer in self.peers.values() if peer.greet_at is not None]
        for peer in self.peers.values():
            if peer.session is not None:
                times.append(peer.session.heard_at + (SILENT_NS if peer.state == "up" else DOWN_NS))
        return min(times, default=None)

    # -- questions --------------------------------------------------------------------------------------------------

    def slot_of(self, peer_id: str) -> int | None:
        """The slot of the session with this peer, when it is up."""
        peer = self.peers.get(peer_id)
        return peer.session.slot if peer is not None and peer.session is not None and peer.state == "up" else None

    def session_at(self, slot: int) -> Session | None:
        peer = self._by_slot.get(slot)
        return None if peer is None else peer.session

    def peer_of(self, slot: int) -> str | None:
        peer = self._by_slot.get(slot)
        return None if peer is None else peer.id

    def paths_of(self, slot: int) -> tuple[Address, ...]:
        """Where the peer is listed, the session's own address always among them; the lanes know 8 at most."""
        peer, session = self._by_slot.get(slot), self._session_of(slot)
        if peer is None or session is None:
            return ()
        listed = dict.fromkeys(peer.addresses)  # each once
        others = [address for address in listed if address != session.address]
        kept = {session.address, *others[: PATHS_MAX - 1]}
        return tuple(address for address in dict.fromkeys([*listed, session.address]) if address in kept)

    def on_address(self, slot: int, address: Address, now: int) -> bool:
        """The lane sends to another of the listed addresses. True: that is news."""
        peer, session = self._by_slot.get(slot), self._session_of(slot)
        if peer is None or session is None or session.address == address:
            return False
        if address not in peer.addresses:  # taken from the list at this very moment
            self.reset(slot, now)
            return False
        session.address = address
        self.actions.append(Log("info", "path changed", {"peer": self.peer_of(slot), "address": str(address)}))
        return True

    def adds(self) -> list[SessionAdd]:
        """One for every session there is: what a new worker must be told."""
        return [self._session_add(peer.session) for peer in self.peers.values() if peer.session is not None]

    def rekeys(self) -> list[SessionRekey]:
        """After `adds`: the generations of keys that are agreed and not yet in use."""
        return []

    # -- inside -----------------------------------------------------------------------------------------------------

    def _session_of(self, slot: int) -> Session | None:
        """The one in this slot."""
        session = self.session_at(slot)
        return session if session is not None and session.slot == slot else None

    def _has_other_key(self, peer_id: str, key: bytes | None) -> bool:
        return False  # in plaintext nobody has one

    def _add_peer(self, id: str, addresses: list[Address], key: bytes | None, now: int) -> None:
        self.peers[id] = Peer(id, addresses)
        self._start(self.peers[id], now)

    def _start(self, peer: Peer, now: int) -> None:
        peer.index = self._new_index()
        self._set_state(peer, "greeting")
        self._greet(peer, now)

    def _add(self, peer: Peer, hello: Hello, source: Address, now: int) -> bool:
        slot = self._slots.take()
        if slot is None:
            return False
        session = Session(slot, peer.index, hello.index, hello.boot_id, hello.lanes, source, now)
        peer.session = session
        self._by_slot[slot] = peer
        self._set_state(peer, "up")
        peer.greet_at = None
        self.actions.append(self._session_add(session))
        self.actions.append(Log("info", "session up", {"peer": peer.id, "address": str(source)}))
        self.events.append(SessionUp(peer.id, slot))
        return True

    def _drop(self, peer: Peer, *, keep_index: bool) -> None:
        session = peer.session
        assert session is not None
        peer.session = None
        peer.replaced.append((session.boot_id, session.peer_index))
        del self._by_slot[session.slot]
        self._slots.give(session.slot)
        if not keep_index:
            self._indices.discard(peer.index)
            peer.index = self._new_index()
        self._set_state(peer, "down")
        # Events first: what still speaks to the old session stops before its slot is closed.
        self.events.append(SessionDown(peer.id, session.slot))
        self.actions.append(SessionDrop(session.slot))
        self.actions.append(Log("warning", "session down", {"peer": peer.id}))

    def _session_add(self, session: Session) -> SessionAdd:
        return SessionAdd(
            session.slot, session.index, session.peer_index, session.lanes, self._rate_mhz, self._mtu, session.address
        )

    def _greet(self, peer: Peer, now: int) -> None:
        peer.tries, peer.greeting_since, peer.greet_at = 0, now, now

    def _send(self, peer: Peer, address: Address, *, to: int | None) -> None:
        said = self._hello
        hello = Hello(
            relay=said.relay, boot_id=said.boot_id, index=peer.index, lanes=said.lanes,
            rate_idle=said.rate_idle, rate_active=said.rate_active, to=to,
        )  # fmt: skip
        self.actions.append(SendDatagram(address, encode_hello(hello)))

    def _retry_ns(self, since: int) -> int:
        return retry_ns(self._rng, since)

    def _new_index(self) -> int:
        while True:
            index = self._rng.getrandbits(26)
            if index not in self._indices:
                self._indices.add(index)
                return index

    def _set_state(self, peer: Peer, state: State) -> None:
        if state not in _EDGES[peer.state]:
            raise AssertionError(f"{peer.id}: {peer.state} -> {state}")
        peer.state = state
