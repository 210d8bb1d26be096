"""Who is measured side by side: our relays, bare forwarders, and what people would use instead. Each in processes of
its own, so that the kernel tells what each costs.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from types import TracebackType

from relay.bench.accounts import is_bound
from relay.bench.traffic import PAYLOAD_TYPE
from relay.client import Client, Unreachable, stream_path
from relay.dev import DevMesh, Impaired, die_with_parent, free_ports
from relay.errors import Problem
from relay.passage import confirmed
from relay.units import Address

_START_S = 10.0
_BUFFER = 4 << 20
TRACK = {"id": "v0", "kind": "audio", "codec": "opus", "payload_type": PAYLOAD_TYPE, "clock_rate": 48000, "channels": 2}


@dataclass
class Contender:
    """`async with contender: ingress = await contender.start(subscribers)`, by stream each."""

    name: str
    pids: dict[str, int] = field(default_factory=dict)  # whose CPU time counts
    ports: list[int] = field(default_factory=list)  # its sockets that can overflow
    stack: AsyncExitStack = field(default_factory=AsyncExitStack)

    def lacking(self) -> str:
        """What has to be installed first, or nothing."""
        return ""

    async def start(self, subscribers: list[list[Address]]) -> list[Address]:
        raise NotImplementedError

    async def counters(self) -> dict[str, int] | None:
        """Its own, where it has some: they only grow."""
        return None

    async def inside_us(self) -> dict[str, float] | None:
        """Percentiles of a packet's time inside, from its arrival to the return of its send, since the start."""
        return None

    async def __aenter__(self) -> Contender:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stack.aclose()

    async def spawn(self, label: str, *command: str, read_line: bool = False) -> str:
        """Starts a process that ends with this one; its first line of output when asked for."""
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE if read_line else asyncio.subprocess.DEVNULL,
            stderr=None if read_line else asyncio.subprocess.DEVNULL,
            preexec_fn=die_with_parent(),
        )

        async def end() -> None:
            if process.returncode is None:
                process.kill()
            await process.wait()

        self.stack.push_async_callback(end)
        self.pids[label] = process.pid
        if not read_line:
            return ""
        assert process.stdout is not None
        async with asyncio.timeout(_START_S):
            line = await process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name}: {label} did not start")
        return line.decode().strip()

    async def bound(self, port: int) -> None:
        """Until somebody listens there."""
        for _ in range(int(_START_S / 0.02)):
            if is_bound(port):
                return
            await asyncio.sleep(0.02)
        raise RuntimeError(f"{self.name}: nobody listens on port {port}")


@dataclass
class Relays(Contender):
    """A chain of our relays; published at the first, subscribed at the last. CPU: their workers'."""

    relays: int = 1
    workers: int = 1
    impaired: list[Impaired] = field(default_factory=list)
    sealed: bool = True
    mesh: DevMesh | None = None

    async def start(self, subscribers: list[list[Address]]) -> list[Address]:
        ports = max(256, 2 * len(subscribers))
        self.mesh = await self.stack.enter_async_context(
            DevMesh(self.relays, workers=self.workers, impaired=self.impaired, ingress_ports=ports, sealed=self.sealed)
        )
        first, last = self.mesh.relays[0].name, self.mesh.relays[-1].name
        async with self.mesh.client(first) as origin, self.mesh.client(last) as edge:
            ingress = await publish(origin, len(subscribers))
            await subscribe(edge, subscribers)
        for relay in self.mesh.relays:
            async with self.mesh.client(relay.name) as client:
                for worker in (await client.get("/v1/status"))["workers"]:
                    self.pids[f"{relay.name} worker {worker['worker']}"] = worker["pid"]
            self.ports += [relay.data.port + 1 + lane for lane in range(self.workers)]
        self.ports += [address.port for address in ingress]
        return ingress

    async def counters(self) -> dict[str, int] | None:
        assert self.mesh is not None
        return await counters_of([relay.api_url for relay in self.mesh.relays])

    async def inside_us(self) -> dict[str, float] | None:
        assert self.mesh is not None
        return await inside_of([relay.api_url for relay in self.mesh.relays])


@dataclass
class Remote(Contender):
    """A relay that runs already, by its API; subscribed at `edge_url`, or there too. Its CPU time we cannot read."""

    url: str = ""
    edge_url: str = ""
    prefix: str = "bench"

    async def start(self, subscribers: list[list[Address]]) -> list[Address]:
        origin = await self.stack.enter_async_context(Client(self.url))
        edge = await self.stack.enter_async_context(Client(self.edge_url or self.url))

        async def clear() -> None:
            for number in range(len(subscribers)):
                with suppress(Problem, Unreachable):
                    await origin.delete(stream_path(f"{self.prefix}/{number}"))

        self.stack.push_async_callback(clear)
        ingress = await publish(origin, len(subscribers), self.prefix)
        await subscribe(edge, subscribers, self.prefix)
        return ingress

    async def counters(self) -> dict[str, int] | None:
        return await counters_of(sorted({self.url, self.edge_url or self.url}))

    async def inside_us(self) -> dict[str, float] | None:
        return await inside_of(sorted({self.url, self.edge_url or self.url}))


async def counters_of(urls: list[str]) -> dict[str, int]:
    """Counters of all workers of the relays, and drops as drop_WORD, summed."""
    summed: dict[str, int] = {}
    for url in urls:
        async with Client(url) as client:
            status = await client.get("/v1/status")
        for worker in status["workers"]:
            for word, count in worker["stats"].items():
                summed[word] = summed.get(word, 0) + count
        for word, count in status["drops"].items():
            summed[f"drop_{word}"] = summed.get(f"drop_{word}", 0) + count
    return summed


async def inside_of(urls: list[str]) -> dict[str, float] | None:
    """The slowest relay's percentiles, microseconds; None while it has forwarded nothing."""
    found = []
    for url in urls:
        async with Client(url) as client:
            told = (await client.get("/v1/status"))["forward_ms"]
        if told["p50"] is not None:
            found.append({word: round(ms * 1000, 1) for word, ms in told.items()})
    return max(found, key=lambda row: row["p99"], default=None)


async def publish(origin: Client, streams: int, prefix: str = "bench") -> list[Address]:
    """Registers the streams; where each is to be sent."""
    body = {"epoch": 1, "tracks": [TRACK], "ingress": {"kind": "rtp", "source": "learn"}}
    answers = [await origin.put(stream_path(f"{prefix}/{number}"), body) for number in range(streams)]
    return [Address.parse(answer["ingress"]["address"]) for answer in answers]


async def subscribe(edge: Client, subscribers: list[list[Address]], prefix: str = "bench") -> None:
    """Every subscriber of every stream, until its way stands."""
    for stream, addresses in enumerate(subscribers):
        for number, address in enumerate(addresses):
            body = {"kind": "rtp", "address": str(address)}
            await confirmed(edge, f"{prefix}/{stream}", f"s{number}", body)


@dataclass
class Bare(Contender):
    """`hops` bare forwarders in a row; the last one sends to all subscribers."""

    hops: int = 1
    segment: bool = True

    async def start(self, subscribers: list[list[Address]]) -> list[Address]:
        targets = subscribers[0]
        for hop in reversed(range(self.hops)):
            words = [str(target) for target in targets]
            how = "runs" if self.segment else "singles"
            command = [sys.executable, "-m", "relay.bench.bare", "0.0.0.0:0", how, *words]
            port = int(await self.spawn(f"hop {hop}", *command, read_line=True))
            targets = [Address("127.0.0.1", port)]
            self.ports.append(port)
        return targets


@dataclass
class Gstreamer(Contender):
    """udpsrc ! multiudpsink."""

    def lacking(self) -> str:
        if shutil.which("gst-launch-1.0") is None:
            return "gst-launch-1.0 is not installed (Debian: gstreamer1.0-tools, gstreamer1.0-plugins-good)"
        return ""

    async def start(self, subscribers: list[list[Address]]) -> list[Address]:
        port = free_ports(1)
        clients = ",".join(str(address) for address in subscribers[0])
        await self.spawn(
            "gst-launch-1.0",
            *("gst-launch-1.0", "-q", "udpsrc", "address=127.0.0.1", f"port={port}", f"buffer-size={_BUFFER}"),
            *("!", "multiudpsink", f"clients={clients}", "sync=false", "async=false", f"buffer-size={_BUFFER}"),
        )
        await self.bound(port)
        self.ports.append(port)
        return [Address("127.0.0.1", port)]


@dataclass
class Srt(Contender):
    """srt-live-transmit at both ends: UDP in, one hop of SRT, UDP out, at its default latency."""

    def lacking(self) -> str:
        return "" if shutil.which("srt-live-transmit") else "srt-live-transmit is not installed (Debian: srt-tools)"

    async def start(self, subscribers: list[list[Address]]) -> list[Address]:
        feed, link = free_ports(2), free_ports(2)
        target = subscribers[0][0]
        tool = ("srt-live-transmit", "-q")
        await self.spawn("receiver", *tool, f"srt://127.0.0.1:{link}?mode=listener", f"udp://{target}")
        await self.bound(link)
        await self.spawn(
            "sender", *tool, f"udp://127.0.0.1:{feed}?rcvbuf={_BUFFER}", f"srt://127.0.0.1:{link}?mode=caller"
        )
        await self.bound(feed)
        self.ports += [feed, link]
        return [Address("127.0.0.1", feed)]
