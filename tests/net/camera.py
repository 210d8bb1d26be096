"""A stream through a mesh of two, from bj-1 to sh-1 and on to a sink, sent until a test that does something else to
them has seen enough."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass

from relay.client import Client, stream_path
from relay.dev import DevMesh, DevRelay
from relay.passage import confirmed
from tests.net.rtp import Sender, Sink, publish_body
from tests.net.test_streams import no_ledger_is_off, port_of, until

SSRC = 77
EVERY_S = 0.002


async def send_until(
    stop: asyncio.Event, sender: Sender, port: int, ssrc: int = SSRC, *, every_s: float = EVERY_S
) -> int:
    """Packets from 0 on, as many as are due; how many."""
    seq, began = 0, time.monotonic()
    while not stop.is_set():
        while seq * every_s < time.monotonic() - began:
            sender.send(port, ssrc, seq)
            seq += 1
        await asyncio.sleep(every_s)
    return seq


@dataclass
class Camera:
    """The stream while it is sent."""

    mesh: DevMesh
    edge: Client  # of sh-1
    came: list[int]  # numbers, in order of arrival
    stop: asyncio.Event
    sending: asyncio.Task[int]

    @property
    def target(self) -> DevRelay:
        return self.mesh["sh-1"]

    @property
    def ports(self) -> list[int]:
        """Of the target's agent and of its worker."""
        return [self.target.data.port, self.target.data.port + 1]

    async def ended(self) -> None:
        """Stops it: each packet has come once, and no ledger is off. What a link repairs comes out of order."""
        self.stop.set()
        sent = await self.sending
        await until(lambda: len(self.came) >= sent)
        due, came = Counter(range(sent)), Counter(self.came)
        assert came == due, f"missing: {due - came}, too many: {came - due}"
        await no_ledger_is_off(self.mesh)


@contextlib.asynccontextmanager
async def camera(every_s: float = EVERY_S) -> AsyncIterator[Camera]:
    """Begins the stream; the block begins when more than 20 packets came."""
    async with DevMesh(2) as mesh, mesh.client("bj-1") as origin, mesh.client("sh-1") as edge:
        with contextlib.closing(await Sink.open()) as sink, contextlib.closing(Sender()) as sender:
            port = port_of(await origin.put(stream_path("cam"), publish_body()))
            await confirmed(edge, "cam", "one", {"kind": "rtp", "address": f"127.0.0.1:{sink.port}"})
            stop, came = asyncio.Event(), sink.numbers[SSRC]
            sending = asyncio.create_task(send_until(stop, sender, port, every_s=every_s))
            try:
                await until(lambda: len(came) > 20)
                yield Camera(mesh, edge, came, stop, sending)
            finally:
                sending.cancel()
