"""A running relay to throw bad input at, and a listed peer of it that the test plays by hand."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

from relay import _core
from relay.client import Client
from relay.dev import DevMesh, DevRelay, free_ports
from relay.messages import AnyMessage, Hello, Unknown, decode_hello, decode_message, encode_hello, encode_message
from relay.units import Address
from tests.py.badinput import AGENT, WORKER, envelope, moved

PEER_ID = "hk-1"
MY_INDEX = 0x3333333
SEND_BURST = 50
T = TypeVar("T")


class HandPeer:
    """Relay PEER_ID: its agent's lane is the core's, its worker 0 is a plain socket."""

    def __init__(self, relay: DevRelay) -> None:
        self.data = Address("127.0.0.1", free_ports(2))
        self._relay = relay.data
        self._agent = socket.socket(fileno=_core.udp_open(self.data.pack()))
        self._worker = socket.socket(fileno=_core.udp_open(self.data.shifted(1).pack()))
        self._lane = _core.ControlLane(_core.clock_now())
        self._said = Hello(relay=PEER_ID, boot_id=1, index=MY_INDEX, lanes=1)
        self._counter = 0
        self._heard: list[AnyMessage | Unknown] = []
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

    async def message(self, kind: type[T]) -> T:
        """The next control message of that kind; others before it are left out."""
        async with asyncio.timeout(20):
            while True:
                while self._heard:
                    message = self._heard.pop(0)
                    if isinstance(message, kind):
                        return message
                await asyncio.sleep(0.005)

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


class LiveRelay:
    """The first relay of a mesh of two, with a HandPeer as one more peer and upstream of it.

    `run` drives the one loop that everything here belongs to; between calls nothing of ours moves.
    """

    def __init__(self) -> None:
        self._runner = asyncio.Runner()
        self.mesh = DevMesh(2, sealed=False)  # a peer made by hand has no keys
        self.relay = self.mesh.relays[0]
        self.peer = HandPeer(self.relay)
        self.relay.peers[PEER_ID] = self.peer.data
        self.relay.upstreams.append(PEER_ID)
        self.client = Client(self.relay.api_url)
        self.stranger = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.stranger.bind(("127.0.0.1", 0))

    def run(self, what: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(what)

    def start(self) -> None:
        async def begin() -> None:
            await self.mesh.__aenter__()
            await self.client.__aenter__()
            await self.peer.join()

        self.run(begin())

    def stop(self) -> None:
        async def end() -> None:
            self.peer.close()
            await self.client.__aexit__(None, None, None)
            await self.mesh.stop()

        self.run(end())
        self.stranger.close()
        self._runner.close()

    async def status(self) -> dict[str, Any]:
        answer: dict[str, Any] = await self.client.get("/v1/status")
        return answer

    async def whole_status(self) -> dict[str, Any]:
        """At a moment when every ledger is 0: a turn that is under way has counted only half of what it does."""
        async with asyncio.timeout(20):
            while set((status := await self.status())["ledgers"].values()) != {0}:
                await asyncio.sleep(0.005)
        return status

    async def drops(self) -> dict[str, int]:
        """By id, at such a moment."""
        counts: dict[str, int] = (await self.whole_status())["drops"]
        return counts

    async def throw(self, lane: int, datagrams: Sequence[bytes]) -> dict[str, int]:
        """A stranger sends these to a lane: the drops that follow, once there are as many as datagrams."""

        async def send() -> None:
            for number, data in enumerate(datagrams):
                self.stranger.sendto(data, port_of(self.relay.data, lane))
                if number % SEND_BURST == 0:
                    await asyncio.sleep(0.002)

        return await self.drops_after(send, len(datagrams))

    async def drops_after(self, act: Callable[[], Coroutine[Any, Any, None]], count: int) -> dict[str, int]:
        """The drops that `act` leads to: waits for `count` of them, and a moment for one too many."""
        before = await self.drops()
        await act()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(20):
                while sum(moved(before, (await self.status())["drops"]).values()) < count:
                    await asyncio.sleep(0.01)
        await asyncio.sleep(0.02)
        return moved(before, await self.drops())


def port_of(relay: Address, lane: int) -> tuple[str, int]:
    """Where a lane of that relay listens."""
    return relay.ip, relay.port if lane == AGENT else relay.port + 1 + lane


__all__ = ["AGENT", "PEER_ID", "WORKER", "HandPeer", "LiveRelay", "port_of"]
