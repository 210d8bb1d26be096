"""What a router on the way can do to a sealed link: forged ICMP (T07, U37), fragments (U34), a smaller path (d15)."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest

from relay import _core
from relay.client import Client, stream_path
from relay.units import Address
from tests.net.router import RoutedMesh, Router, router
from tests.net.rtp import Sender, Sink, publish_body

pytestmark = pytest.mark.net

FULL = bool(os.environ.get("ZR_FULL"))
full = pytest.mark.skipif(not FULL, reason="takes long: ZR_FULL=1")
SSRC = 7
STATIC_MTU = 1500
STALL_S, ATTEMPTS = 0.1, 3


class PlacedSink(Sink):
    """A sink whose socket was opened elsewhere."""

    @classmethod
    async def on(cls, sock: socket.socket) -> PlacedSink:
        _, sink = await asyncio.get_running_loop().create_datagram_endpoint(cls, sock=sock)
        sink.port = sock.getsockname()[1]
        return sink


def bound() -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    sock.setblocking(False)
    return sock


def checksum(data: bytes) -> int:
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def forged(to: str, quoted_to: str, sport: int, dport: int, code: int, mtu: int) -> bytes:
    """ICMP type 3, about a datagram of `to`'s own: code 3 (port unreachable) or 4 (frag-needed with this mtu)."""
    quoted = struct.pack(
        ">BBHHHBBH4s4sHHHH", 0x45, 0, 1228, 1, 0x4000, 63, 17, 0, socket.inet_aton(to), socket.inet_aton(quoted_to),
        sport, dport, 1208, 0,
    )  # fmt: skip
    head = struct.pack(">BBHHH", 3, code, 0, 0, mtu)
    return struct.pack(">BBHHH", 3, code, checksum(head + quoted), 0, mtu) + quoted


async def link_of(client: Client) -> dict[str, Any]:
    (link,) = (await client.get("/v1/links"))["items"]
    return dict(link)


async def link_at(client: Client, mtu: int, within_s: float) -> dict[str, Any]:
    async with asyncio.timeout(within_s):
        while True:
            link = await link_of(client)
            if link["state"] == "up" and link.get("mtu") == mtu:
                return link
            await asyncio.sleep(0.01)


class Media:
    """A stream published at `a`, with a subscriber at `b`."""

    def __init__(self, way: Router, mesh: RoutedMesh) -> None:
        self.way, self.mesh, self.seq = way, mesh, 0
        self.stall_s = 0.0  # the longest that this machine has not let us send

    async def begin(self, a: Client, b: Client) -> None:
        self.sink = await PlacedSink.on(self.way.space("b").inside(bound))
        self.sender = self.way.space("a").inside(Sender)
        answer = await a.put(stream_path("cam"), publish_body())
        self.port = int(answer["ingress"]["address"].rpartition(":")[2])
        await b.put(f"{stream_path('cam')}/subscribers/one", {"kind": "rtp", "address": f"127.0.0.1:{self.sink.port}"})
        async with asyncio.timeout(20):
            while not self.sink.numbers[SSRC]:
                await self.send(0.05)

    async def send(self, seconds: float) -> None:
        """About 200 packets a second."""
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            self.sender.send(self.port, SSRC, self.seq)
            self.seq += 1
            sent = time.monotonic()
            await asyncio.sleep(0.005)
            self.stall_s = max(self.stall_s, time.monotonic() - sent)

    async def share(self, seconds: float) -> float:
        """Of what is sent from now on, what comes within a second of the last of it."""
        first = self.seq
        await self.send(seconds)
        await asyncio.sleep(1)
        return len([number for number in self.sink.numbers[SSRC] if number >= first]) / (self.seq - first)

    @property
    def calm(self) -> bool:
        """No relay of ours can have been silent for so long that its peer takes it for dead: that is 150 ms."""
        return self.stall_s < STALL_S

    def end(self) -> None:
        self.sink.close()
        self.sender.close()


async def hints(client: Client) -> int:
    text = await client.get("/metrics")
    return int(sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith("zrelay_tx_hints")))


async def in_calm(attempt: Callable[[], Awaitable[bool]]) -> None:
    """Makes the attempt again while the machine stalled in it; it asserts only when it was calm, and says whether."""
    for _ in range(ATTEMPTS):
        if await attempt():
            return
    pytest.skip(f"this machine stalled for {STALL_S:g} s in each of {ATTEMPTS} runs: run it alone")


async def test_t07_forged_icmp_changes_neither_the_link_nor_its_size_nor_what_arrives() -> None:
    await in_calm(forged_icmp)


async def forged_icmp() -> bool:
    with router() as way:
        async with RoutedMesh(way) as mesh, mesh.client(mesh.a) as a, mesh.client(mesh.b) as b:
            media = Media(way, mesh)
            await media.begin(a, b)
            await link_at(a, STATIC_MTU, 20)
            before, told_before = await media.share(1), await hints(a)
            raw = way.space("m").inside(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP))
            ours, theirs = mesh.a.data, mesh.b.data
            attack = [(3, 0), (4, 68), (4, 296), (4, 1279)]

            async def forge() -> None:
                while True:
                    for lane in range(2):
                        for code, mtu in attack:
                            raw.sendto(
                                forged(ours.ip, theirs.ip, ours.port + lane, theirs.port + lane, code, mtu),
                                (ours.ip, 0),
                            )
                    await asyncio.sleep(0.002)

            forging = asyncio.ensure_future(forge())
            during = await media.share(2)
            forging.cancel()
            raw.close()
            link = await link_of(a)
            told = await hints(a)
            media.end()
            if not media.calm:
                return False
            assert (link["state"], link["mtu"], link["flaps"]) == ("up", STATIC_MTU, 0)
            assert before >= 0.99
            assert during >= before - 0.01
            assert told > told_before  # they came, and were counted
            return True


# Whose end of which cable becomes smaller.
WAYS = {"told": ("b", "router"), "silent": ("a", "router"), "refused": ("a", "relay")}


@pytest.mark.parametrize(
    ("mtu", "how"),
    [pytest.param(1280, "told"), pytest.param(1200, "silent")]
    + [pytest.param(mtu, how, marks=full)
       for mtu, how in ((1400, "told"), (1400, "silent"), (1280, "silent"), (1200, "told"), (1280, "refused"))],
)  # fmt: skip
async def test_d15_a_smaller_path_is_found_in_time(mtu: int, how: str) -> None:
    """Told: the router cannot send more on. Silent: a veth drops what is larger than its far end takes.
    Refused: our own interface answers EMSGSIZE.

    300 ms on a quiet machine, and 100 ms until we have asked; tests/c/probe_test.c has it on a virtual clock.
    """
    await in_calm(partial(smaller_path, mtu, how))


async def smaller_path(mtu: int, how: str) -> bool:
    with router() as way:
        async with RoutedMesh(way) as mesh, mesh.client(mesh.a) as a, mesh.client(mesh.b) as b:
            media = Media(way, mesh)
            await media.begin(a, b)
            await link_at(a, STATIC_MTU, 20)
            sending = asyncio.ensure_future(media.send(20))
            await asyncio.sleep(0.5)
            way.set_mtu(*WAYS[how], mtu)
            began = time.monotonic()
            async with asyncio.timeout(20):
                while (await link_of(a))["mtu"] > mtu:
                    await asyncio.sleep(0.005)
            took_s = time.monotonic() - began
            await link_at(a, mtu, 20)
            sending.cancel()
            flaps, share = (await link_of(a))["flaps"], await media.share(0.5)
            media.end()
            if not media.calm:
                return False
            assert (flaps, share >= 0.99, took_s <= (0.4 if FULL else 1.5)) == (0, True, True), (share, took_s)
            return True


LIMIT = 16 + 1420 + 16  # envelope, KCP mtu, tag


def test_u34_valid_datagrams_in_ip_fragments_are_accepted_up_to_the_limit() -> None:
    """The cable to b takes 600 bytes, and our sockets here, unlike a relay's, let the router fragment."""
    with router() as way:
        way.set_mtu("b", "router", 600)
        lanes, fds = [], []
        secrets = [bytes([1]) * 32, bytes([2]) * 32]
        hosts = [Address("10.231.1.1", 29900), Address("10.231.2.1", 29900)]
        now = _core.clock_now()
        for side in (0, 1):
            open_here = partial(_core.udp_open, hosts[side].pack(), fragment=True)
            fds.append(way.space("ab"[side]).inside(open_here))
            lanes.append(_core.ControlLane(now, sessions_max=4, seed=side + 1))
            keys = (1, side == 0, secrets[side], secrets[1 - side], 0)
            lanes[side].session_add(1, 100 + side, 101 - side, 1, 25_000, 1420, hosts[1 - side].pack(), now, keys)
        ends = time.monotonic() + 20
        while time.monotonic() < ends and lanes[0].probe(1, _core.clock_now())["mtu"] < STATIC_MTU:
            for side in (0, 1):
                now = _core.clock_now()
                lanes[side].receive(fds[side], now)
                lanes[side].flush(fds[side], now)
            time.sleep(0.001)
        assert lanes[0].probe(1, _core.clock_now())["mtu"] == STATIC_MTU  # padded probes came through in pieces
        with socket.socket(fileno=fds[0]) as sock:
            head = struct.pack("<BBHIQ", 0x0B, 63, 0, 101 << 6 | 63, 1 << 40)  # in use, so that length is looked at
            for size in (LIMIT, LIMIT + 1):
                sock.sendto(head + bytes(size - len(head)), (hosts[1].ip, hosts[1].port))
            time.sleep(0.2)
        lanes[1].receive(fds[1], _core.clock_now())
        drops = lanes[1].drops()
        os.close(fds[1])
        assert {word: count for word, count in drops.items() if count} == {"auth": 1, "link_oversize": 1}
