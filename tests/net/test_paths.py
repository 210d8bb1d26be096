"""Two ways between two real relays, on 127.0.0.1 and 127.0.0.2: both are kept warm, one takes over from the other."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest

from relay.client import Client
from relay.dev import DevMesh, Impaired
from tests.py.test_cli import zrelay

pytestmark = pytest.mark.net


async def link_when(client: Client, good: Callable[[dict[str, Any]], bool], within_s: float) -> dict[str, Any]:
    """The only link of a relay, once it is as wanted."""
    async with asyncio.timeout(within_s):
        while True:
            (link,) = (await client.get("/v1/links"))["items"]
            if good(link):
                return dict(link)
            await asyncio.sleep(0.02)


def warm(link: dict[str, Any]) -> bool:
    states = [path["state"] for path in link.get("paths", ())]
    return link.get("answered", 0) >= 3 and sorted(states) == ["used", "warm"]


async def test_when_one_way_goes_silent_the_other_takes_over_and_the_session_stays_up() -> None:
    ways = [Impaired("bj-1", "sh-1", ["--delay", "2ms"]) for _ in range(2)]
    async with DevMesh(2, impaired=ways) as mesh, mesh.client("bj-1") as near, mesh.client("sh-1") as far:
        before = await link_when(near, warm, 20)
        await link_when(far, warm, 20)
        by_listen = {str(way.near_listen): way for way in ways}
        assert {path["address"] for path in before["paths"]} == by_listen.keys()
        used = by_listen[before["address"]]
        assert used.process is not None
        used.process.send_signal(signal.SIGSTOP)  # takes all it is sent and passes nothing on
        began = time.monotonic()
        try:
            after = await link_when(near, lambda link: bool(link["address"] != before["address"]), 20)
            took_s = time.monotonic() - began
            assert after["address"] in by_listen
            assert after["path_moves"] == 1
            await asyncio.sleep(1)
            for client in (near, far):
                link = await link_when(client, lambda link: bool(link["state"] == "up" and link["mtu"] == 1500), 20)
                assert link["heard"]
                assert link["hears"]
            assert took_s < 5  # of which T_dead is 0.2; the rest is for a busy machine
            _, shown, _ = await zrelay("links", "--api", mesh["bj-1"].api_url)
            assert "used" in shown
            assert shown.count("127.0.0.") == 3  # the link, and a line for each address
            metrics = await near.get("/metrics")
            assert 'zrelay_link_up{peer="sh-1"} 1.0' in metrics
        finally:
            used.process.send_signal(signal.SIGCONT)
