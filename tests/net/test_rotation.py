"""A relay's key is replaced, as an operator does it, while its peer still holds the one before."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time

import pytest

from relay.client import Unreachable
from relay.dev import DevMesh, DevRelay
from relay.identity import encode_public
from relay.keys import OVERLAP_NS, Keyring, public_of
from tests.net.test_failures import status_of

pytestmark = pytest.mark.net
NOT_UP_FOR_S = 2.0


def ring_of(relay: DevRelay) -> Keyring:
    assert relay.keyring is not None
    return Keyring(str(relay.keyring))


def reload(relay: DevRelay) -> None:
    assert relay.process is not None
    relay.process.send_signal(signal.SIGHUP)


async def state(relay: DevRelay) -> str | None:
    """Of its only link; None while its agent is not there."""
    with contextlib.suppress(Unreachable):
        return str((await status_of(relay))["links"][0]["state"])
    return None


async def begins_anew(relay: DevRelay, *, within_s: float) -> bool:
    """Its agent is killed: it knows no session any more. Does it meet its peer again?"""
    os.kill((await status_of(relay))["pid"], signal.SIGKILL)
    while await state(relay) is not None:
        await asyncio.sleep(0.01)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(within_s):
            while await state(relay) != "up":
                await asyncio.sleep(0.05)
            return True
    return False


async def sample(mesh: DevMesh, relay: str, name: str) -> float:
    async with mesh.client(relay) as client:
        page = str(await client.get("/metrics"))
    return sum(float(line.split()[-1]) for line in page.splitlines() if line.startswith(name))


async def shows(mesh: DevMesh, relay: str, name: str, value: float) -> None:
    async with asyncio.timeout(5):
        while await sample(mesh, relay, name) != value:
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("end", ["time", "taken away"])
async def test_a_peer_with_the_old_key_meets_us_during_the_rotation_and_not_after_it(end: str) -> None:
    async with DevMesh(2, sealed=True) as mesh:
        old_fashioned, relay = mesh["bj-1"], mesh["sh-1"]
        ring = ring_of(relay)
        before = encode_public(public_of("identity", ring.read("identity")))
        done = subprocess.run(
            [sys.executable, "-m", "relay.cli", "keys", "rotate", "-k", ring.path],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert done.stdout.strip() not in ("", before)
        assert await sample(mesh, "sh-1", "zrelay_gate_overlap") == 0
        reload(relay)
        await shows(mesh, "sh-1", "zrelay_gate_overlap", 1)
        assert await begins_anew(old_fashioned, within_s=10)
        assert await sample(mesh, "sh-1", "zrelay_gate_former_total") >= 1
        assert await sample(mesh, "sh-1", 'zrelay_handshakes_total{event="agreed_former"}') >= 1
        assert await begins_anew(relay, within_s=10), "its successor has the old key, too"

        if end == "time":
            over_s = time.time() - OVERLAP_NS / 1e9
            os.utime(os.path.join(ring.path, "identity"), (over_s, over_s))
        else:
            os.unlink(os.path.join(ring.path, "identity.old"))
        reload(relay)
        await shows(mesh, "sh-1", "zrelay_gate_overlap", 0)
        assert await state(relay) == "up", "a session that there is goes on"
        assert not await begins_anew(old_fashioned, within_s=NOT_UP_FOR_S)
        for name in mesh.relays:
            assert "Traceback" not in name.log_path.read_text(), name.log_path.read_text()[-3000:]
