"""Two relays' sessions over a network that loses, delays, doubles and replays, with a model of what the lanes do.

The lane model is the contract of relay/actions.py: three generations a session, the initiator's used at once, the
other side's after the first datagram under it; control messages repeated until acknowledged; heartbeats; 2 s of silence
are death, and the next datagram ends it.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Iterator
from dataclasses import dataclass, field

from relay.actions import SendControl, SendDatagram, SessionAdd, SessionDrop, SessionKeys, SessionRekey
from relay.identity import Identity
from relay.noise import KeyPair
from relay.pace import MS, SECOND
from relay.sealed import SealedSessions
from relay.secret import Secret
from relay.sessions import SessionUp
from relay.stamp import Stamps
from relay.units import Address

WALL = 1_800_000_000 * SECOND  # the wall clock at virtual time 0
DAY = 86400 * SECOND
TICK = 5 * MS
REPEAT_NS, BEAT_NS, DEAD_NS = 100 * MS, 250 * MS, 2 * SECOND


@dataclass(frozen=True)
class Data:
    """A sealed datagram: for this receive index, under this key."""

    index: int
    key: bytes
    what: str
    number: int = 0


@dataclass
class Held:
    """One session in a lane."""

    previous: tuple[int, int, SessionKeys] | None = None
    current: tuple[int, int, SessionKeys] | None = None
    next: tuple[int, int, SessionKeys] | None = None
    unsaid: dict[int, int] = field(default_factory=dict)  # control messages not acknowledged: number -> sent at
    said: int = 0
    beat_at: int = 0
    heard_at: int = 0  # 0: never, its silence means nothing
    alive: bool = True

    def install(self, index: int, peer_index: int, keys: SessionKeys) -> None:
        held = (index, peer_index, keys)
        if self.next is not None and self.next[0] == index:
            self.step(held)
        elif self.current is not None and self.current[0] == index:
            pass
        elif keys.initiator:
            self.step(held)
        else:
            self.next = held

    def step(self, held: tuple[int, int, SessionKeys]) -> None:
        self.previous, self.current, self.next = self.current, held, None


class End:
    """One relay: its sessions, its lane, its address."""

    def __init__(self, net: Net, name: str, identity: Identity, boot: int, wall: int, saved: int = 0) -> None:
        self.net, self.name = net, name
        self.address = net.addresses[name]
        self.stamps = Stamps(WALL + net.now + wall, net.now, saved)
        listed = {peer: [net.addresses[peer]] for peer in identity.peers}
        rng = random.Random(net.rng.getrandbits(64))
        self.sessions = SealedSessions(
            name, boot, 2, listed, rng, identity=identity, stamps=self.stamps, entropy=rng.randbytes
        )
        self.slots: dict[int, Held] = {}
        self.words: list[str] = []
        self.told: list[SessionRekey] = []  # to every lane
        self.ups = self.heard = self.shut_out = self.due = 0
        self.sessions.start(net.now)
        self.turn()

    def turn(self) -> None:
        """Timers, then what the sessions want done."""
        now = self.net.now
        self.judge(now)
        self.sessions.on_timer(now)
        self.ups += sum(isinstance(event, SessionUp) for event in self.sessions.events)
        self.sessions.events.clear()
        actions, self.sessions.actions = self.sessions.actions, []
        for action in actions:
            match action:
                case SendDatagram(address, data):
                    self.net.send(self.address, address, data)
                case SessionAdd():
                    assert action.keys is not None
                    assert action.slot not in self.slots
                    self.slots[action.slot] = Held()
                    self.slots[action.slot].install(action.index, action.peer_index, action.keys)
                    if action.keys.initiator:
                        self.slots[action.slot].current = (action.index, action.peer_index, action.keys)
                case SessionRekey():
                    self.told.append(action)
                    self.slots[action.slot].install(action.index, action.peer_index, action.keys)
                case SessionDrop(slot):
                    del self.slots[slot]
                case SendControl(slot, _):
                    held = self.slots[slot]
                    held.said += 1
                    held.unsaid[held.said] = now - REPEAT_NS
        for held in self.slots.values():
            if held.current is None:
                continue
            for number, sent in held.unsaid.items():
                if now - sent >= REPEAT_NS:
                    held.unsaid[number] = now
                    self.say(held, "control", number)
            if now >= held.beat_at:
                held.beat_at = now + BEAT_NS
                self.say(held, "beat")
        self.due = min(self._deadlines(), default=now + SECOND)

    def judge(self, now: int) -> None:
        for slot, held in self.slots.items():
            if held.alive and held.heard_at and now - held.heard_at >= DEAD_NS:
                held.alive = False
                self.sessions.on_alive(slot, False, now)

    def _deadlines(self) -> Iterator[int]:
        """When `turn` has something to do again: the sessions must say so themselves."""
        deadline = self.sessions.deadline()
        if deadline is not None:
            yield deadline
        for held in self.slots.values():
            if held.alive and held.heard_at:
                yield held.heard_at + DEAD_NS
            if held.current is not None:
                yield held.beat_at
                yield from (sent + REPEAT_NS for sent in held.unsaid.values())

    def say(self, held: Held, what: str, number: int = 0) -> None:
        assert held.current is not None
        _, peer_index, keys = held.current
        self.net.send(self.address, self.net.others[self.name], Data(peer_index, keys.send.reveal(), what, number))

    def receive(self, datagram: bytes | Data, source: Address) -> None:
        now = self.net.now
        if isinstance(datagram, bytes):
            word = self.sessions.on_datagram(datagram, source, now)
        else:
            word = self.open(datagram, now)
            self.shut_out += word is not None
        if word is not None:
            self.words.append(word)
        self.turn()

    def open(self, data: Data, now: int) -> str | None:
        for slot, held in self.slots.items():
            for generation in (held.previous, held.current, held.next):
                if generation is not None and generation[0] == data.index:
                    if generation[2].recv.reveal() != data.key:
                        return "auth"
                    if generation is held.next:
                        held.step(generation)
                    self.heard += 1
                    held.heard_at = now
                    if not held.alive:
                        held.alive = True
                        self.sessions.on_alive(slot, True, now)
                    self.sessions.on_confirmed(slot, data.index, now)
                    if data.what == "control" and held.current is not None:
                        self.say(held, "ack", data.number)
                    held.unsaid.pop(data.number, None) if data.what == "ack" else None
                    return None
        return "noindex"

    @property
    def up(self) -> bool:
        return [peer.state for peer in self.sessions.peers.values()] == ["up"]

    def keys(self) -> list[tuple[bytes, bytes]]:
        """(send, recv) in use, of every session there is."""
        return [(h.current[2].send.reveal(), h.current[2].recv.reveal()) for h in self.slots.values() if h.current]


class Net:
    """The path between "a" and "b", both ways."""

    def __init__(self, seed: int, *, loss: float = 0.0, delay_ns: int = 20 * MS, jitter_ns: int = 0) -> None:
        self.rng = random.Random(seed)
        self.now = SECOND
        self.loss, self.delay_ns, self.jitter_ns = loss, delay_ns, jitter_ns
        self.dup = 0.0
        self.mute: Address | None = None  # nothing from there gets through
        self.addresses = {"a": Address("127.0.0.1", 100), "b": Address("127.0.0.2", 200)}
        self.others = {"a": self.addresses["b"], "b": self.addresses["a"]}
        self.ends: dict[str, End] = {}
        self.private = {name: self.rng.randbytes(32) for name in "ab"}
        self.mesh = self.rng.randbytes(32)
        self.boots = 0
        self.tape: list[tuple[Address, Address, bytes | Data]] = []  # all that was ever sent
        self._flying: list[tuple[int, int, Address, Address, bytes | Data]] = []
        self._order = 0

    def identity(self, name: str, mesh: bytes | None = None) -> Identity:
        other = "ab".replace(name, "")
        public = KeyPair(self.private[other]).public
        return Identity(Secret(self.private[name]), Secret(self.mesh if mesh is None else mesh), {other: public})

    def boot(self, name: str, *, wall: int = 0, saved: int = 0, mesh: bytes | None = None) -> End:
        """A relay starts, or starts anew: everything it knew is gone, but for what `saved` says."""
        self.boots += 1
        end = End.__new__(End)
        self.ends[name] = end
        end.__init__(self, name, self.identity(name, mesh), self.boots, wall, saved)  # type: ignore[misc]
        return end

    def send(self, source: Address, to: Address, datagram: bytes | Data) -> None:
        self.tape.append((source, to, datagram))
        for _ in range(1 + (self.rng.random() < self.dup)):
            if self.rng.random() >= self.loss and source != self.mute:
                self.inject(source, to, datagram, self.delay_ns + int(self.rng.random() * self.jitter_ns))

    def inject(self, source: Address, to: Address, datagram: bytes | Data, delay_ns: int = 0) -> None:
        """Somebody on the path sends this, now or later."""
        self._order += 1
        heapq.heappush(self._flying, (self.now + delay_ns, self._order, source, to, datagram))

    def run(self, for_ns: int, *, until_up: bool = False) -> bool:
        """Goes on for so long, or until both are up."""
        end = self.now + for_ns
        while self.now < end:
            if until_up and len(self.ends) == 2 and all(e.up for e in self.ends.values()):
                return True
            self.now += TICK
            while self._flying and self._flying[0][0] <= self.now:
                _, _, source, to, datagram = heapq.heappop(self._flying)
                for e in self.ends.values():
                    if e.address == to:
                        e.receive(datagram, source)
            for e in self.ends.values():
                if e.due <= self.now:
                    e.turn()
        return all(e.up for e in self.ends.values())

    def agree(self) -> None:
        """One session at each end, under the same keys, and datagrams get through it."""
        keys = {name: end.keys() for name, end in self.ends.items()}
        assert [len(end.slots) for end in self.ends.values()] == [1, 1]
        ((send_a, recv_a),), ((send_b, recv_b),) = keys["a"], keys["b"]
        assert (send_a, recv_a) == (recv_b, send_b)
        before = [end.heard for end in self.ends.values()]
        self.run(SECOND)
        assert all(end.heard > was for end, was in zip(self.ends.values(), before, strict=True))


def met(seed: int, **how: float) -> Net:
    """Two relays that have started within 100 ms of each other."""
    net = Net(seed, **how)
    net.boot("a")
    net.run(int(net.rng.random() * 100) * MS)
    net.boot("b")
    return net
