"""Whole relays on a virtual clock: the product's C objects and its pure control plane, joined by link models.

    SimRelay = Control (Python, pure) + ControlLane (C, lane 63) + one Forwarder a worker (C)
    World    = relays + one SimLink per direction and pair + publishers and subscribers + a clock

A run is a pure function of (scenario, seed): every datagram that arrives is hashed with its time and addresses, and the
same seed gives the same hash. Conservation is checked for every object whenever it ends.
"""

from __future__ import annotations

import hashlib
import heapq
import itertools
import random
import struct
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from relay import _core
from relay import actions as act
from relay.control import Control, ControlConf, Peer, Upstream
from relay.identity import Identity
from relay.noise import KeyPair
from relay.outbox import Outbox
from relay.requests import Ingress, PublishRequest, SubscribeRequest
from relay.secret import Secret
from relay.stamp import Stamps
from relay.step import step
from relay.tracks import Track
from relay.units import Address

MS = 1_000_000
SECOND = 1_000_000_000
DATA_PORT = 29900
SOCK_LINK, SOCK_EGRESS, SOCK_INGRESS = 0, 1, 2
LANE_AGENT = 63
KEY_EVERY = 50  # packets
BATCH_ENTRIES = 16  # few, so that fan-out and replay often stop in the middle and go on with the next batch

VIDEO = Track(id="v0", kind="video", codec="h264", payload_type=96, clock_rate=90000)
AUDIO = Track(id="a0", kind="audio", codec="opus", payload_type=97, clock_rate=48000, channels=2)


@dataclass(frozen=True)
class LinkConf:
    """One direction of one pair of relays."""

    delay_ns: int = 5 * MS
    jitter_ns: int = 2 * MS
    loss: float = 0.0
    burst: float = 1.0
    dup: float = 0.0
    reorder: float = 0.0


@dataclass
class Sink:
    """A subscriber's address: the numbers that came, per SSRC and all together, in order of arrival."""

    numbers: dict[int, list[int]] = field(default_factory=lambda: defaultdict(list))
    order: list[tuple[int, int]] = field(default_factory=list)  # (ssrc, number)
    times: list[int] = field(default_factory=list)  # of arrival


class SimRelay:
    """One relay; its own boot id and random numbers follow from the world's seed."""

    def __init__(self, world: World, name: str, ip: str, peers: dict[str, str], upstreams: list[str], workers: int):
        self.world, self.name, self.ip = world, name, ip
        now = world.now
        conf = ControlConf(
            relay_id=name,
            boot_id=world.random.getrandbits(64),
            workers=workers,
            peers=[Peer(id=peer, addresses=[Address(at, DATA_PORT)]) for peer, at in peers.items()],
            upstreams=[Upstream(peer=peer, prefix="") for peer in upstreams],
            linger_ns=2 * SECOND,
            identity=world.identity(name, peers) if world.private is not None else None,
            stamps=Stamps(now, now) if world.private is not None else None,
            entropy=world.random.randbytes,
        )
        inboxes = [_core.Inbox(workers) for _ in range(workers)] if workers > 1 else None
        self.forwarders = [
            _core.Forwarder(worker, now, batch_entries=BATCH_ENTRIES, inboxes=inboxes, **world.sizes)
            for worker in range(workers)
        ]
        self.awake = set(range(workers))  # who has a reason to turn; the others sleep
        self.lane = _core.ControlLane(now)
        if conf.identity is not None:
            public = KeyPair(conf.identity.private.reveal()).public
            self.lane.gate_keys(public, conf.identity.mesh_key.reveal(), world.random.randbytes(32))
        self.outbox = Outbox(self.lane)
        self.control = Control(conf, random.Random(world.random.getrandbits(64)), progress=self._progress)
        self.sessions: set[int] = set()
        self.heard_next = now
        self.control.start(now)
        for worker in range(workers):
            self.control.on_worker_up(worker, now)
        self.pump()

    def _progress(self, worker: int, slot: int) -> tuple[int, int]:
        row = self.forwarders[worker].stream(slot)
        return row["epoch"], row["resume_number"]

    def address_of_lane(self, lane: int) -> Address:
        return Address(self.ip, DATA_PORT if lane == LANE_AGENT else DATA_PORT + 1 + lane)

    def arrive(self, port: int, data: bytes, source: bytes) -> None:
        """A datagram for the lane with this port."""
        now = self.world.now
        if port != DATA_PORT:
            self.forwarders[port - DATA_PORT - 1].link_input(data, source, now)
            self.awake.add(port - DATA_PORT - 1)
            return
        for hello, addr in self.lane.input(data, source, now):
            peer = Address.unpack(addr)
            assert peer is not None
            word = self.control.on_datagram(hello, peer, now)
            if word is not None:
                self.lane.refuse(word)

    def pump(self) -> None:
        """Until nothing moves any more at this instant."""
        now = self.world.now
        moved = True
        while moved:
            sessions: list[int] = []
            if now >= self.heard_next:
                self.heard_next = now + 200 * MS
                sessions = sorted(self.sessions)
            moved = step(self.control, self.lane, self._turns(), sessions, self._perform, now)
        self.outbox.flush(now)
        for to, data in self.lane.datagrams(now):
            self.world.send(self, LANE_AGENT, SOCK_LINK, to, data)

    def _turns(self) -> Iterator[tuple[int, bytes]]:
        """Turns of the workers that have a reason to; the others sleep: (worker, event) for the agent."""
        now = self.world.now
        self.awake.update(worker for worker, forwarder in enumerate(self.forwarders) if forwarder.deadline() <= now)
        while self.awake:
            worker = min(self.awake)
            self.awake.remove(worker)
            forwarder = self.forwarders[worker]
            for sock, to, data in forwarder.turn(now):
                self.world.send(self, worker, sock, to, data)
            self.awake.update(forwarder.wakes())
            for record in forwarder.events():
                yield worker, record
            if len(self.forwarders) > 1 and not forwarder.sleep(worker):
                self.awake.add(worker)

    def _perform(self, action: act.Action) -> None:
        now = self.world.now
        match action:
            case act.Command(worker, record):
                self.forwarders[worker].command(record)
                self.awake.add(worker)
            case act.SendControl(slot, payload):
                assert self.outbox.send(slot, payload, now)
            case act.SendDatagram(address, data):
                self.world.send(self, LANE_AGENT, SOCK_LINK, address.pack(), data)
            case act.SessionAdd():
                self.sessions.add(action.slot)
                self.lane.session_add(
                    action.slot, action.index, action.peer_index, action.lanes, action.rate_mhz, action.mtu,
                    action.address.pack(), now, None if action.keys is None else action.keys.row(now),
                )  # fmt: skip
            case act.SessionRekey(slot, index, peer_index, keys):
                self.lane.session_rekey(slot, index, peer_index, keys.row(now), now)
            case act.HeardElsewhere(slot, when):
                if slot in self.sessions:
                    self.lane.heard_elsewhere(slot, when, now)
            case act.SessionDrop(slot):
                self.sessions.discard(slot)
                self.outbox.drop(slot)
                self.lane.session_drop(slot)
            case act.OpenIngress(worker, slot, _, port):
                address = Address("127.0.0.1", port or 30000 + slot)
                self.control.on_ingress_open(worker, slot, address, None, now)
            case act.Refuse(word):
                self.lane.refuse(word)

    def deadline(self) -> int:
        deadlines = [forwarder.deadline() for forwarder in self.forwarders]
        control = self.control.deadline()
        return min(*deadlines, self.lane.deadline(), self.heard_next, control if control is not None else 1 << 62)

    def check(self) -> None:
        """Conservation, exact, in every ledger; and every structure's own slow check."""
        for lane, what in [*enumerate(self.forwarders), (LANE_AGENT, self.lane)]:
            off = what.ledgers()
            if lane == LANE_AGENT:
                off = {"link": off["link"]}
            assert set(off.values()) == {0}, (self.name, lane, off, what.stats(), what.drops())
        assert all(forwarder.check() for forwarder in self.forwarders)


class World:
    """Relays, links, publishers and subscribers on one virtual clock. `sealed`: with keys and the real handshake;
    `sizes`: of every worker's pools, as _core.Forwarder takes them."""

    def __init__(self, seed: int, *, sealed: bool = False, **sizes: int) -> None:
        self.random = random.Random(seed)
        self.private: dict[str, bytes] | None = {} if sealed else None
        self.sizes = sizes
        self.now = SECOND
        self.relays: dict[str, SimRelay] = {}
        self.links: dict[tuple[str, str], Any] = {}
        self.sinks: dict[bytes, Sink] = {}
        self._by_ip: dict[bytes, str] = {}
        self._plans: dict[str, tuple[str, dict[str, str], list[str], int]] = {}
        self._in_flight: dict[int, tuple[bytes, bytes]] = {}
        self._next_tag = 0
        self._agenda: list[tuple[int, int, Any]] = []  # a heap; by time, then in the order they were put there
        self._put = itertools.count()
        self._hash = hashlib.sha256()
        self.arrived = 0
        self.drop: Callable[[str, str, int, bytes], bool] | None = None  # (from, to, lane, datagram) -> lost?
        self.change: Callable[[bytes], bytes] | None = None  # what the path makes of a datagram

    # -- building ---------------------------------------------------------------------------------------------------

    def chain(self, names: list[str], conf: LinkConf, *, last: LinkConf | None = None, workers: int = 1) -> None:
        """names[i + 1] pulls from names[i]; every neighbouring pair has this link in both directions, or ``last``."""
        ips = {name: f"127.0.1.{i + 1}" for i, name in enumerate(names)}
        for i, name in enumerate(names):
            near = names[max(0, i - 1) : i] + names[i + 1 : i + 2]
            self._plans[name] = (ips[name], {peer: ips[peer] for peer in near}, names[max(0, i - 1) : i], workers)
            self._by_ip[Address(ips[name], 1).pack()[:16]] = name
            for peer in near:
                link = last if last is not None and names[-1] in (name, peer) else conf
                self.links[name, peer] = _core.SimLink(
                    link.delay_ns, link.jitter_ns, link.loss, link.burst, link.dup, link.reorder, 0, 0, 4096,
                    self.random.getrandbits(63),
                )  # fmt: skip
        if self.private is not None:
            self.private.update((name, self.random.randbytes(32)) for name in names)
        for name in names:
            self.boot(name)

    def identity(self, name: str, peers: dict[str, str]) -> Identity:
        """Keys of a relay of a sealed world, and its peers' public ones."""
        assert self.private is not None
        public = {peer: KeyPair(self.private[peer]).public for peer in peers}
        return Identity(Secret(self.private[name]), Secret(bytes(32)), public)

    def boot(self, name: str) -> SimRelay:
        """Starts a relay, or starts it anew: everything it knew is gone, what was on its way to it arrives."""
        if name in self.relays:
            self.relays[name].check()
        self.relays[name] = SimRelay(self, name, *self._plans[name])
        return self.relays[name]

    def at(self, time_ns: int, what: Any) -> None:
        """Runs ``what()`` at that time."""
        heapq.heappush(self._agenda, (time_ns, next(self._put), what))

    def publish(self, relay: str, stream: str, epoch: int = 1) -> None:
        request = PublishRequest(epoch=epoch, tracks=[VIDEO, AUDIO], ingress=Ingress(source="learn"))
        self.relays[relay].control.publish(stream, request, self.now)
        self.relays[relay].pump()

    def ingress_of(self, relay: str, stream: str) -> tuple[int, int]:
        """(worker, ingress slot) of a stream published there."""
        return self.relays[relay].control.ingress_of(stream)

    def subscribe(self, relay: str, stream: str, sid: str = "one") -> Sink:
        """A subscriber with an address of its own; what it gets is in the Sink."""
        address = Address("127.0.9.9", 10000 + len(self.sinks))
        sink = self.sinks[address.pack()] = Sink()  # what is replayed comes at once
        self.relays[relay].control.subscribe(stream, sid, SubscribeRequest(address=str(address)), self.now)
        self.relays[relay].pump()
        return sink

    def overload(self, relay: str, stream: str) -> None:
        """The stream's worker is busy from now on: further subscribers land on others."""
        control = self.relays[relay].control
        worker = control.worker_of(stream)
        control.on_load(worker, 0, 0, self.now - SECOND)
        control.on_load(worker, SECOND, 0, self.now)

    def rtp(
        self, relay: str, worker: int, slot: int, track: Track, number: int, size: int, *, key_every: int = KEY_EVERY
    ) -> None:
        """A publisher's packet; its payload begins with ``number``, every ``key_every``-th is a key frame."""
        ssrc = 1000 + track.payload_type
        head = struct.pack(">BBHII", 0x80, track.payload_type, number & 0xFFFF, number * 960 & 0xFFFFFFFF, ssrc)
        nal = b"\x65\x88" if number % key_every == 0 else b"\x41\x9a"  # an IDR slice now and then
        data = head + nal + struct.pack(">I", number) + bytes(max(0, size - 18))
        source = Address("127.0.8.8", 4000 + track.payload_type).pack()
        self.relays[relay].forwarders[worker].ingress_input(slot, data, source, self.now)
        self.relays[relay].awake.add(worker)
        self.relays[relay].pump()

    # -- running ----------------------------------------------------------------------------------------------------

    def send(self, relay: SimRelay, lane: int, sock: int, to: bytes, data: bytes) -> None:
        """A datagram leaves a relay: to another relay's lane over the link between them, or to a subscriber."""
        if sock == SOCK_EGRESS:
            sink = self.sinks.get(to)
            if sink is not None and not 192 <= data[1] <= 223:
                (ssrc,), (number,) = struct.unpack_from(">I", data, 8), struct.unpack_from(">I", data, 14)
                sink.numbers[ssrc].append(number)
                sink.order.append((ssrc, number))
                sink.times.append(self.now)
                self._trace(b"rtp", to, data)
            return
        if sock != SOCK_LINK:
            return
        peer = self._by_ip.get(to[:16])
        link = self.links.get((relay.name, peer or ""))
        if link is None or (self.drop is not None and self.drop(relay.name, peer or "", lane, data)):
            return
        if self.change is not None:
            data = self.change(data)
        source = relay.address_of_lane(lane).pack()
        self._next_tag += 1
        self._in_flight[self._next_tag] = (source, to)
        link.put(data, self._next_tag, self.now)

    def run(self, until_ns: int) -> None:
        """Moves the clock to ``until_ns``, from event to event."""
        while True:
            due = min(link.deadline() for link in self.links.values())
            due = min(due, *(relay.deadline() for relay in self.relays.values()))
            if self._agenda:
                due = min(due, self._agenda[0][0])
            if due > until_ns:
                self.now = until_ns
                return
            self.now = max(self.now, due)
            touched = {name for name, relay in self.relays.items() if relay.deadline() <= self.now}
            for (_, to_name), link in self.links.items():
                while (got := link.get(self.now)) is not None:
                    data, tag = got
                    source, to = self._in_flight[tag]
                    self._trace(source, to, data)
                    self.relays[to_name].arrive(int.from_bytes(to[16:18], "little"), data, source)
                    touched.add(to_name)
            while self._agenda and self._agenda[0][0] <= self.now:
                heapq.heappop(self._agenda)[2]()
            for name in sorted(touched):
                self.relays[name].pump()

    def _trace(self, source: bytes, to: bytes, data: bytes) -> None:
        self.arrived += 1
        self._hash.update(struct.pack("<q", self.now) + source + to + data)

    def trace(self) -> str:
        """The hash of everything that has arrived anywhere so far."""
        return self._hash.hexdigest()

    def check(self) -> None:
        for relay in self.relays.values():
            relay.check()
