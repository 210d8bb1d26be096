"""A running relay with sealed links, and a listed peer of it with the right keys that may say anything at all.

The peer's agent is the product's own (sessions and lane 63), so the link stays up; what its worker lanes send is made
by hand. Every case takes a lane of its own: none inherits the window, the epoch or the counters of another.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import socket
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from relay import _core
from relay.actions import SendControl, SendDatagram, SessionAdd, SessionDrop, SessionKeys, SessionRekey
from relay.dev import DevMesh, DevRelay, free_ports
from relay.handshake import Handshakes
from relay.handshake_wire import ZRELAY, Macs, Params
from relay.identity import Identity, encode_public
from relay.keys import Keyring
from relay.messages import AnyMessage, decode_message, encode_message
from relay.noise import KeyPair
from relay.sealed import SealedSessions
from relay.secret import Secret
from relay.stamp import Stamps
from relay.units import Address
from tests.py.running_relay import PEER_ID, TURN_S, Hand, RunningRelay, port_of
from tests.py.sealer import Sealer

LANES = 60


class HandLane:
    """One worker lane of the peer's, sending to one lane of the relay from where that lane is listed."""

    def __init__(self, peer: SealedPeer, number: int, to: int) -> None:
        self.number, self.to = number, to
        self.sock = socket.socket(fileno=_core.udp_open(peer.data.shifted(1 + number).pack()))
        assert peer.keys is not None
        self._keys, self._index = peer.keys, peer.peer_index
        self.sealer = self.epoch(0)

    def epoch(self, epoch: int) -> Sealer:
        return Sealer(self._keys, self._index, lane=self.number, to_lane=self.to, epoch=epoch)

    def of_number(self, number: int) -> Sealer:
        """As if from another of our lanes, by the keys of that one."""
        return Sealer(self._keys, self._index, lane=number, to_lane=self.to)

    def close(self) -> None:
        self.sock.close()


class SealedPeer(Hand):
    """Relay PEER_ID, listed by `relay`; make it before the relay starts."""

    def __init__(self, relay: DevRelay, cipher: int) -> None:
        super().__init__()
        assert relay.keyring is not None
        self.data = Address("127.0.0.1", free_ports(1 + LANES))
        self.relay = relay.data
        self.agent = socket.socket(fileno=_core.udp_open(self.data.pack()))
        private, ring = Secret(os.urandom(32)), Keyring(str(relay.keyring))
        self.mesh_key = ring.read("mesh")
        self.static, theirs = KeyPair(private.reveal()), KeyPair(ring.read("identity").reveal()).public
        relay.peers[PEER_ID] = self.data
        relay.public_keys[PEER_ID] = encode_public(self.static.public)
        now = _core.clock_now()
        self._name, self.theirs = relay.name, theirs
        self.identity = Identity(private, self.mesh_key, {relay.name: theirs}, cipher)
        self.macs = Macs(ZRELAY, theirs, self.mesh_key.reveal())
        self.sessions = SealedSessions(
            PEER_ID, 1, LANES, {relay.name: [relay.data]}, random.Random(1),
            identity=self.identity, stamps=Stamps(now, now),
        )  # fmt: skip
        self.lane = _core.ControlLane(now)
        self.lane.gate_keys(self.static.public, self.mesh_key.reveal())
        self.sent: list[bytes] = []  # handshake messages, ours and theirs
        self.got: list[bytes] = []
        self.keys: SessionKeys | None = None
        self.index = self.peer_index = -1
        self.joined = 0
        self._slots: set[int] = set()
        self._numbers: Iterator[int] = iter(())
        self._turning: asyncio.Task[None] | None = None

    async def join(self) -> None:
        """Waits for the relay's initiation, answers it, and keeps the session alive while the loop runs."""
        self._turning = self._turning or asyncio.create_task(self._turns())
        await self.another(0)

    async def another(self, than: int) -> None:
        """Until there is one more session than that many, and it is used."""
        async with asyncio.timeout(20):
            while self.joined <= than or not any(self.lane.heard(slot) for slot in self._slots):
                await asyncio.sleep(TURN_S)

    async def _turns(self) -> None:
        while True:
            self.turn()
            await asyncio.sleep(TURN_S)

    def turn(self) -> None:
        now = _core.clock_now()
        for data, addr in self.lane.receive(self.agent.fileno(), now):
            self.got.append(data)
            word = self.sessions.on_datagram(data, Address.unpack(addr) or self.relay, now)
            if word is not None:
                self.lane.refuse(word)
        self._heard += [decode_message(payload) for _, payload in self.lane.messages()]
        for slot in list(self._slots):
            if self.lane.heard(slot):
                self.sessions.on_heard(slot, now)
                self.sessions.on_confirmed(slot, self.lane.index(slot), now)
        self.sessions.on_timer(now)
        actions, self.sessions.actions = self.sessions.actions, []
        for action in actions:
            self._act(action, now)
        self.lane.flush(self.agent.fileno(), now)

    def _act(self, action: Any, now: int) -> None:
        match action:
            case SendDatagram(address, data):
                self.sent.append(data)
                self.agent.sendto(data, (address.ip, address.port))
            case SendControl(slot, payload):
                self.lane.send(slot, payload, now)
            case SessionAdd():
                self._slots.add(action.slot)
                self._use(action)
                self.lane.session_add(
                    action.slot, action.index, action.peer_index, action.lanes, action.rate_mhz, action.mtu,
                    action.address.pack(), now, action.keys.row(now),
                )  # fmt: skip
            case SessionRekey():
                self.lane.session_rekey(action.slot, action.index, action.peer_index, action.keys.row(now), now)
                if action.index != self.index:
                    self._use(action)
            case SessionDrop(slot):
                self._slots.discard(slot)
                self.lane.session_drop(slot)

    def _use(self, action: SessionAdd | SessionRekey) -> None:
        self.keys, self.index, self.peer_index = action.keys, action.index, action.peer_index
        self.joined += 1
        self._numbers = iter(range(LANES))

    # -- what a test does -------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def hand(self, to: int) -> Iterator[HandLane]:
        """A lane that has sent nothing under these keys."""
        lane = HandLane(self, next(self._numbers), to)
        try:
            yield lane
        finally:
            lane.close()

    def say(self, payload: bytes | AnyMessage) -> None:
        """A control message on the session that is in use."""
        raw = payload if isinstance(payload, bytes) else encode_message(payload)
        (slot,) = (peer.session.slot for peer in self.sessions.peers.values() if peer.session is not None)
        self.lane.send(slot, raw, _core.clock_now())

    def initiation(self, *, private: bytes | None = None, psk: bytes | None = None) -> bytes:
        """A new one, with both MACs right for the relay; by another static key or with another secret of the mesh."""
        identity = self.identity
        if private is not None:
            identity = Identity(Secret(private), self.mesh_key, {self._name: self.theirs})
        now = _core.clock_now()
        machine = Handshakes(
            identity, {self._name: [self.relay]}, Params(lanes=LANES), Stamps(now, now), random.Random(now)
        )
        if psk is not None:
            machine._psk = psk
        machine.begin(self._name, now)
        machine.on_timer(now)
        return machine.out[0].data

    def close(self) -> None:
        if self._turning is not None:
            self._turning.cancel()
        self.agent.close()


class SealedRelay(RunningRelay[SealedPeer]):
    """One relay with keys, and PEER_ID as its only peer, with rights over `live/` alone.

    `cipher`: what the relay's file says; `ours`: what the peer says its CPU is good at, 1 or 2.
    """

    def __init__(self, cipher: str = "auto", ours: int = 1) -> None:
        mesh = DevMesh(1)
        super().__init__(mesh, SealedPeer(mesh.relays[0], ours))
        toml = self.relay.toml().replace("[security]\n", f'[security]\ncipher = "{cipher}"\n')
        self.relay.toml = lambda: toml + '[peers.rights]\npublish = ["live/"]\npull = ["live/"]\n'  # type: ignore[method-assign]
        self.stranger.setblocking(False)

    def start(self) -> None:
        super().start()
        self.run(self.linked())

    async def link(self) -> dict[str, Any]:
        (found,) = (await self.client.get("/v1/links"))["items"]
        return dict(found)

    async def linked(self) -> None:
        async with asyncio.timeout(20):
            while (await self.link())["state"] != "up":
                await asyncio.sleep(0.01)

    async def from_lane(self, lane: HandLane, datagrams: Sequence[bytes]) -> dict[str, int]:
        """The drops that follow when our lane says these."""
        return await self.from_socket(lane.sock, datagrams, lane.to)

    async def accepted(self, lane: HandLane, sealer: Sealer, count: int = 1) -> None:
        """Our lane says an empty datagram: it is heard, and nothing is dropped."""
        before = await self.status()
        for _ in range(count):
            lane.sock.sendto(sealer.seal(), port_of(self.relay.data, lane.to))
        async with asyncio.timeout(10):
            while (await self.status())["totals"]["link_empty"] < before["totals"]["link_empty"] + count:
                await asyncio.sleep(0.002)
        assert (await self.status())["drops"] == before["drops"]

    def whole(self, sock: socket.socket | None = None) -> None:
        """The link is up, its peer is heard, and nobody was answered."""
        assert self.run(self.link())["state"] == "up"
        for each in (self.stranger, *([] if sock is None else [sock])):
            each.setblocking(False)
            with pytest.raises(BlockingIOError):
                each.recv(2048)
