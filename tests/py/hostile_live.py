"""A peer with the right keys, played by the test over sockets: the handshake is the product's, all else by hand."""

from __future__ import annotations

import asyncio
import os
import random
import socket

from relay import _core
from relay.actions import SendDatagram, SessionAdd
from relay.dev import DevRelay, free_ports
from relay.identity import Identity, encode_public
from relay.keys import Keyring
from relay.noise import KeyPair
from relay.sealed import SealedSessions
from relay.secret import Secret
from relay.stamp import Stamps
from relay.units import Address
from tests.py.badinput import AGENT, WORKER
from tests.py.sealer import Sealer

PEER_ID = "hk-1"


class KeyedPeer:
    """Relay PEER_ID, listed by `relay`; make it before the relay starts. It says no more than the test lets it."""

    def __init__(self, relay: DevRelay) -> None:
        assert relay.keyring is not None
        self.data = Address("127.0.0.1", free_ports(2))
        self._relay = relay.data
        self._agent, self._worker = (
            socket.socket(fileno=_core.udp_open(self.data.shifted(n).pack())) for n in range(2)
        )
        private, ring = Secret(os.urandom(32)), Keyring(str(relay.keyring))
        relay.peers[PEER_ID] = self.data
        relay.public_keys[PEER_ID] = encode_public(KeyPair(private.reveal()).public)
        theirs = KeyPair(ring.read("identity").reveal()).public
        now = _core.clock_now()
        self.sessions = SealedSessions(
            PEER_ID, 1, 1, {relay.name: [relay.data]}, random.Random(1),
            identity=Identity(private, ring.read("mesh"), {relay.name: theirs}), stamps=Stamps(now, now),
        )  # fmt: skip
        self._sealers: dict[int, Sealer] = {}
        self.joined = 0

    async def join(self) -> None:
        """Shakes hands until there is one more session; until then it is nobody's."""
        wanted = self.joined + 1
        asyncio.get_running_loop().add_reader(self._agent, self._on_readable)
        try:
            async with asyncio.timeout(15):
                if self.joined == 0:
                    self.sessions.start(_core.clock_now())
                while self.joined < wanted:
                    self.sessions.on_timer(_core.clock_now())
                    self._act()
                    await asyncio.sleep(0.005)
        finally:
            asyncio.get_running_loop().remove_reader(self._agent)

    def leave(self) -> None:
        """Forgets its session and will begin another."""
        for slot in [peer.session.slot for peer in self.sessions.peers.values() if peer.session is not None]:
            self.sessions.reset(slot, _core.clock_now())

    def _on_readable(self) -> None:
        while True:
            try:
                data, source = self._agent.recvfrom(2048)
            except BlockingIOError:
                return
            if data[:1] in (b"\x08", b"\x09", b"\x0a"):
                self.sessions.on_datagram(data, Address(*source), _core.clock_now())
                self._act()

    def _act(self) -> None:
        actions, self.sessions.actions = self.sessions.actions, []
        for action in actions:
            if isinstance(action, SendDatagram):
                self._agent.sendto(action.data, (action.address.ip, action.address.port))
            elif isinstance(action, SessionAdd):
                assert action.keys is not None
                self.joined += 1
                for to in (AGENT, WORKER):
                    self._sealers[to] = Sealer(action.keys, action.peer_index, lane=WORKER, to_lane=to)

    def say(self, lane: int, body: bytes) -> None:
        """A sealed datagram of our worker's to that lane."""
        port = self._relay.port if lane == AGENT else self._relay.port + 1 + lane
        self._worker.sendto(self._sealers[lane].seal(body), (self._relay.ip, port))

    def close(self) -> None:
        self._agent.close()
        self._worker.close()
