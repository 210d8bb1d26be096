"""A running relay, a listed peer of it that the test plays by hand, and a stranger: with keys (sealed_live.py) or
without (badinput_live.py)."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Generic, TypeVar

from relay.client import Client
from relay.dev import DevMesh
from relay.messages import AnyMessage, Unknown
from relay.units import Address
from tests.py.badinput import AGENT, moved

PEER_ID = "hk-1"
SEND_BURST = 50
TURN_S = 0.005
T = TypeVar("T")


class Hand(ABC):
    """Relay PEER_ID; make it before the relay starts."""

    def __init__(self) -> None:
        self._heard: list[AnyMessage | Unknown] = []

    @abstractmethod
    async def join(self) -> None:
        """Until there is a session, which is kept alive while the loop runs."""

    @abstractmethod
    def close(self) -> None: ...

    async def message(self, kind: type[Any] | tuple[type[Any], ...]) -> Any:
        """The next control message of that kind, or of one of these; others before it are left out."""
        async with asyncio.timeout(20):
            while True:
                while self._heard:
                    message = self._heard.pop(0)
                    if isinstance(message, kind):
                        return message
                await asyncio.sleep(TURN_S)


H = TypeVar("H", bound=Hand)


class RunningRelay(Generic[H]):
    """The first relay of a mesh, with a hand that it lists.

    `run` drives the one loop that everything here belongs to; between calls nothing of ours moves.
    """

    def __init__(self, mesh: DevMesh, hand: H) -> None:
        self._runner = asyncio.Runner()
        self.mesh, self.relay, self.hand = mesh, mesh.relays[0], hand
        self.client = Client(self.relay.api_url)
        self.stranger = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.stranger.bind(("127.0.0.1", 0))

    def run(self, what: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(what)

    def start(self) -> None:
        async def begin() -> None:
            await self.mesh.__aenter__()
            await self.client.__aenter__()
            await self.hand.join()

        self.run(begin())

    def stop(self) -> None:
        async def end() -> None:
            self.hand.close()
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

    async def from_socket(self, sock: socket.socket, datagrams: Sequence[bytes], to: int) -> dict[str, int]:
        """The drops that follow when that socket sends these to a lane, once there are as many as datagrams."""

        async def send() -> None:
            for number, data in enumerate(datagrams):
                sock.sendto(data, port_of(self.relay.data, to))
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
