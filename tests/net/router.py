"""Two relays in network namespaces of their own, with a router between them: what happens on the way happens there.

    a  10.231.1.1 ──── 10.231.1.254  router  10.231.2.254 ──── 10.231.2.1  b          needs root

The API is reached by Unix socket, which no namespace hides.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import pytest

from relay.bench.veth import OFF, Veth, switch_off
from relay.client import Client
from relay.dev import DevMesh, DevRelay
from relay.units import Address

NETS = (("a", "10.231.1"), ("b", "10.231.2"))


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@dataclass
class Router:
    """`a`, `b`, `middle`: namespaces; what is done `inside` one of them opens its sockets there."""

    name: str

    def space(self, which: str) -> Veth:
        return Veth(self.name + which)

    def set_mtu(self, way: str, side: str, mtu: int) -> None:
        """Of the cable to relay `way`, at its end on `side`: "router" or "relay"."""
        space = "m" if side == "router" else way
        _ip(
            "-n",
            self.name + space,
            "link",
            "set",
            f"{self.name}{way}{'m' if side == 'router' else ''}",
            "mtu",
            str(mtu),
        )


@contextmanager
def router() -> Iterator[Router]:
    """For as long as the block lasts; skips the test where it cannot be made."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("a router between two namespaces needs root and iproute2")
    name = f"zrp{os.getpid() % 100000}"
    try:
        for space in ("a", "b", "m"):
            _ip("netns", "add", name + space)
            _ip("-n", name + space, "link", "set", "lo", "up")
        for way, net in NETS:
            near, far = f"{name}{way}", f"{name}{way}m"
            _ip("link", "add", near, "netns", name + way, "type", "veth", "peer", "name", far, "netns", name + "m")
            _ip("-n", name + way, "address", "add", f"{net}.1/24", "dev", near)
            _ip("-n", name + "m", "address", "add", f"{net}.254/24", "dev", far)
            _ip("-n", name + way, "link", "set", near, "up")
            _ip("-n", name + "m", "link", "set", far, "up")
            _ip("-n", name + way, "route", "add", "default", "via", f"{net}.254")
            # A run of segments passes a veth whatever its MTU, a card would cut it up and look at each.
            for space, device in ((name + way, near), (name + "m", far)):
                Veth(space).inside(partial(switch_off, device, OFF))
        forward = "echo 1 > /proc/sys/net/ipv4/ip_forward"
        subprocess.run(["ip", "netns", "exec", name + "m", "sh", "-c", forward], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        _remove(name)
        pytest.skip(f"no router between two namespaces here: {error}")
    try:
        yield Router(name)
    finally:
        _remove(name)


def _remove(name: str) -> None:
    for space in ("a", "b", "m"):
        subprocess.run(["ip", "netns", "delete", name + space], check=False, capture_output=True)


class RoutedMesh:
    """Relay `a` and relay `b` of a DevMesh, each behind its end of the router. `b` pulls from `a`."""

    def __init__(self, way: Router) -> None:
        self.mesh = DevMesh(2)
        self.a, self.b = self.mesh.relays
        for relay, (space, net) in zip(self.mesh.relays, NETS, strict=True):
            relay.data = Address(f"{net}.1", relay.data.port)
            relay.before = ["ip", "netns", "exec", way.name + space]
        self.a.peers[self.b.name], self.b.peers[self.a.name] = self.b.data, self.a.data

    def client(self, relay: DevRelay) -> Client:
        return Client(socket=str(relay.folder / relay.name / "api.sock"))

    async def __aenter__(self) -> RoutedMesh:
        for relay in self.mesh.relays:
            await self.mesh.start(relay)
        for relay in self.mesh.relays:
            async with asyncio.timeout(30):
                while not (relay.folder / relay.name / "api.sock").exists():
                    await asyncio.sleep(0.05)
            async with self.client(relay) as client:
                await client.wait_ready(20)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.mesh.stop()
