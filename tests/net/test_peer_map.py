"""A mesh that is made of a signed map: relays come and go with it while media flows, and keys are replaced."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from relay.client import Unreachable
from relay.dev import DevMesh, DevRelay
from relay.identity import encode_public, parse_public
from relay.keys import Keyring, public_of
from relay.peermap import PeerMap, sign
from relay.peers import Peer
from tests.net.test_failures import Flow, flowing, status_of

pytestmark = pytest.mark.net
REVOKED_WITHIN_S = 1.0 if os.getloadavg()[0] < 2 else 3.0


class Mapped(DevMesh):
    """A chain of relays that know each other from one map."""

    def __init__(self, relays: int = 3) -> None:
        super().__init__(relays, sealed=True)
        self._ring = Keyring(str(self.folder / "signer"))
        self._key = self._ring.make("map")
        self.map = self.folder / "peers.map"
        self.version = 0
        keys = {name: parse_public(key) for relay in self.relays for name, key in relay.public_keys.items()}
        self.entries = [Peer(relay.name, (relay.data,), public_key=keys[relay.name]) for relay in self.relays]
        for relay in self.relays:
            relay.peers.clear()
            relay.upstreams = relay.upstreams[:1]
        self.push()

    def push(self, *, signal_too: bool = False) -> None:
        """All relays get the map as it is now."""
        self.version += 1
        new = Path(f"{self.map}.new")
        new.write_bytes(sign(PeerMap(self.version, None, tuple(self.entries)), self._key))
        os.replace(new, self.map)
        for relay in self.relays if signal_too else ():
            assert relay.process is not None
            relay.process.send_signal(signal.SIGHUP)

    def security(self) -> str:
        return f'peer_map = "{self.map}"\npeer_map_key = "{encode_public(public_of("map", self._key))}"\n'


@pytest.fixture
def mesh(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Mapped:
    made = Mapped(getattr(request, "param", 3))
    plain = DevRelay.toml
    monkeypatch.setattr(
        DevRelay, "toml", lambda relay: plain(relay).replace("[security]\n", "[security]\n" + made.security())
    )
    return made


async def links(relay: DevRelay) -> dict[str, str]:
    return {link["peer"]: link["state"] for link in (await status_of(relay))["links"]}


async def falls_silent(flow: Flow) -> float:
    """How long after now the last packet came."""
    loop = asyncio.get_running_loop()
    began = last = loop.time()
    count = len(flow.got)
    while loop.time() - max(last, began) < 0.6 and loop.time() - began < 10:
        await asyncio.sleep(0.005)
        if len(flow.got) != count:
            count, last = len(flow.got), loop.time()
    return last - began


@pytest.mark.parametrize("case", ["T20"])
async def test_a_relay_taken_out_of_the_map_gets_nothing_after_a_second(mesh: Mapped, case: str) -> None:
    """And nothing that its rights do not cover once they shrink, though its link stays."""
    async with mesh, flowing(mesh) as flow:
        entry = mesh.entries.pop()
        mesh.push()
        assert await falls_silent(flow) <= REVOKED_WITHIN_S
        assert "gz-1" not in await links(mesh["sh-1"])
        mesh.entries.append(entry)
        mesh.push()
        await flow.more(20)
        mesh.entries[2] = replace(entry, pull=("other/",))
        mesh.push()
        assert await falls_silent(flow) <= REVOKED_WITHIN_S
        assert (await links(mesh["sh-1"]))["gz-1"] == "up"


@pytest.mark.parametrize("mesh", [2], indirect=True)
async def test_an_old_or_foreign_map_changes_nothing_also_over_a_restart(mesh: Mapped) -> None:
    async with mesh:
        old = mesh.map.read_bytes()
        mesh.push()
        relay = mesh["sh-1"]
        async with mesh.client("sh-1") as client:

            async def shows(sample: str) -> None:
                async with asyncio.timeout(20):
                    while f"\n{sample}\n" not in await client.get("/metrics"):
                        await asyncio.sleep(0.05)

            await shows("zrelay_peer_map_version 2.0")
            for refused, bad in enumerate((old, old[:-3] + b"#]\n"), 1):
                Path(f"{mesh.map}.bad").write_bytes(bad)
                os.replace(f"{mesh.map}.bad", mesh.map)
                await shows(f"zrelay_peer_maps_refused_total {refused}.0")
            await shows("zrelay_peer_map_version 2.0")
            assert any("peer map refused" in error for error in (await status_of(relay))["last_errors"])
        os.kill((await status_of(relay))["pid"], signal.SIGKILL)  # the agent: the next one begins with the kept map
        async with asyncio.timeout(20):
            while True:
                with contextlib.suppress(Unreachable):
                    if (await links(relay)) == {"bj-1": "up"}:
                        break
                await asyncio.sleep(0.05)


@pytest.mark.parametrize("mesh", [2], indirect=True)
async def test_a_relay_changes_its_key_and_media_goes_on_when_the_map_follows(mesh: Mapped) -> None:
    async with mesh, flowing(mesh) as flow:
        relay = mesh["sh-1"]
        assert relay.keyring is not None
        ring = Keyring(str(relay.keyring))
        ring.rotate("identity")
        assert relay.process is not None
        relay.process.send_signal(signal.SIGHUP)
        await flow.more(20)  # on the session that there is
        mesh.entries[1] = replace(mesh.entries[1], public_key=public_of("identity", ring.read("identity")))
        mesh.push(signal_too=True)
        await flow.more(20)
        assert "Traceback" not in relay.log_path.read_text(), relay.log_path.read_text()[-3000:]
