"""A running relay to throw bad input at, and a listed peer of it that the test plays by hand."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence

from relay import _core
from relay.dev import DevMesh, DevRelay, free_ports
from relay.messages import AnyMessage, Hello, decode_hello, decode_message, encode_hello, encode_message
from relay.units import Address
from tests.py.badinput import envelope
from tests.py.running_relay import PEER_ID, Hand, RunningRelay, port_of

MY_INDEX = 0x3333333


class HandPeer(Hand):
    """Relay PEER_ID: its agent's lane is the core's, its worker 0 is a plain socket."""

    def __init__(self, relay: DevRelay) -> None:
        super().__init__()
        self.data = Address("127.0.0.1", free_ports(2))
        self._relay = relay.data
        self._agent = socket.socket(fileno=_core.udp_open(self.data.pack()))
        self._worker = socket.socket(fileno=_core.udp_open(self.data.shifted(1).pack()))
        self._lane = _core.ControlLane(_core.clock_now())
        self._said = Hello(relay=PEER_ID, boot_id=1, index=MY_INDEX, lanes=1)
        self._counter = 0
        self.index = -1  # the relay's, once it is known
        self._beat: asyncio.Task[None] | None = None

    async def join(self) -> None:
        """Greets until the session stands, then keeps it alive while the loop runs."""
        asyncio.get_running_loop().add_reader(self._agent, self._on_readable)
        while self.index < 0:
            self._agent.sendto(encode_hello(self._said), (self._relay.ip, self._relay.port))
            await asyncio.sleep(0.05)
        self._beat = asyncio.create_task(self._keep_alive())

    async def _keep_alive(self) -> None:
        while True:
            self._lane.flush(self._agent.fileno(), _core.clock_now())
            await asyncio.sleep(0.01)

    def _on_readable(self) -> None:
        for data, source in self._lane.receive(self._agent.fileno(), _core.clock_now()):
            hello = decode_hello(data)
            if hello.to is None:
                said = Hello(relay=PEER_ID, boot_id=1, index=MY_INDEX, lanes=1, to=hello.index)
                self._agent.sendto(encode_hello(said), (self._relay.ip, self._relay.port))
            if self.index < 0:
                self.index = hello.index
                self._lane.session_add(0, MY_INDEX, hello.index, hello.lanes, 4000, 1420, source, _core.clock_now())
        self._heard += [decode_message(payload) for _, payload in self._lane.messages()]

    def say(self, message: AnyMessage) -> None:
        self._lane.send(0, encode_message(message), _core.clock_now())

    def send(self, lane: int, body: bytes = b"") -> None:
        """A valid datagram from our worker to that lane of the relay."""
        data = envelope(body, lane=lane, index=self.index, counter=self._counter)
        self._counter += 1
        self._worker.sendto(data, port_of(self._relay, lane))

    def close(self) -> None:
        if self._beat is not None:
            self._beat.cancel()
        asyncio.get_running_loop().remove_reader(self._agent)
        self._agent.close()
        self._worker.close()


class LiveRelay(RunningRelay[HandPeer]):
    """The first relay of a mesh of two, with a HandPeer as one more peer and upstream of it."""

    def __init__(self) -> None:
        mesh = DevMesh(2, sealed=False)  # a peer made by hand has no keys
        super().__init__(mesh, HandPeer(mesh.relays[0]))
        self.relay.peers[PEER_ID] = self.hand.data
        self.relay.upstreams.append(PEER_ID)

    async def throw(self, lane: int, datagrams: Sequence[bytes]) -> dict[str, int]:
        """The drops that follow when a stranger sends these to a lane."""
        return await self.from_socket(self.stranger, datagrams, lane)
