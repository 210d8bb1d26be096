"""T08 to T10 over sockets: strangers flood the agent's port and a worker's while media flows, stage by stage.

None of it is lost, the relay answers, and each datagram of theirs is counted once as dropped, by us or by the kernel.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections import Counter
from pathlib import Path

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from relay.client import Client
from relay.dev import DevRelay
from relay.handshake_wire import COOKIE_REPLY_BYTES, ZRELAY
from tests.net.camera import camera
from tests.net.stranger import heads_on_the_wire, proven, tagged

pytestmark = pytest.mark.net

FLOOD = Path(__file__).with_name("flood.py")
FULL = bool(os.environ.get("ZR_FULL"))
SECONDS, RATE = 2.0 if FULL else 0.6, 60_000  # 10^5 of each kind (T02), or a third of that
# What each kind of datagram is dropped for: by the agent, by a worker. `rcvbuf`: by the kernel.
REASONS = {
    "junk": (
        {"type", "version", "length", "lane", "noindex", "ratelimit", "msg"},
        {"type", "version", "lane", "noindex"},
    ),
    "hello": ({"ratelimit", "msg", "mac1"}, {"type"}),
    "data": ({"lane"}, {"noindex"}),
    "empty": ({"short"}, {"short"}),
    "proven": ({"mac2", "ratelimit", "unknown_peer"}, {"type"}),
    "tagged": ({"auth"}, {"auth"}),
}
# Of the proven, before the gate knew that it is under load: its bucket of all, and what came back into it meanwhile.
EXCHANGES_MAX = 256


async def samples(relay: DevRelay) -> list[Sample]:
    """All that GET /metrics says."""
    async with aiohttp.ClientSession() as http, http.get(f"{relay.api_url}/metrics") as answer:
        text = await answer.text()
    return [sample for family in text_string_to_metric_families(text) for sample in family.samples]


async def drops(relay: DevRelay) -> dict[tuple[str, str], int]:
    """Link datagrams dropped, by lane and reason; `rcvbuf`: by the kernel."""
    return {
        (sample.labels["worker"], sample.labels["reason"]): int(sample.value)
        for sample in await samples(relay)
        if sample.labels.get("direction") == "link" and "reason" in sample.labels
    }


async def replies(relay: DevRelay) -> int:
    """Cookies that the agent has sent to whom it did not know."""
    return int(sum(sample.value for sample in await samples(relay) if sample.name == "zrelay_gate_replies_total"))


async def flood(kind: str, ports: list[int], *, seconds: float = SECONDS, rate: int = RATE) -> tuple[int, int]:
    """How many datagrams were thrown, and how many answers came."""
    words = [str(seconds), str(rate), kind, *map(str, ports)]
    process = await asyncio.create_subprocess_exec(sys.executable, FLOOD, *words, stdout=asyncio.subprocess.PIPE)
    out, _ = await asyncio.wait_for(process.communicate(), seconds + 20)
    thrown, answered = map(int, out.split())
    return thrown, answered


async def dropped_since(relay: DevRelay, before: dict[tuple[str, str], int], thrown: int) -> Counter[tuple[str, str]]:
    """By lane and reason, once there are as many as were thrown."""
    moved: Counter[tuple[str, str]] = Counter()
    async with asyncio.timeout(20):
        while moved.total() < thrown:
            await asyncio.sleep(0.05)
            moved = Counter(await drops(relay))
            moved.subtract(before)
    return +moved


async def all_refused(
    relay: DevRelay, before: dict[tuple[str, str], int], thrown: int, reasons: tuple[set[str], set[str]]
) -> Counter[tuple[str, str]]:
    """Each datagram thrown at its agent and its worker was dropped once, for one of these reasons; by lane and reason.

    When the kernel dropped some, some of those may have been the peer's.
    """
    moved = await dropped_since(relay, before, thrown)
    by_kernel = sum(count for (_, why), count in moved.items() if why == "rcvbuf")
    assert thrown <= moved.total() <= thrown + by_kernel, moved
    for lane, words in zip(("agent", "0"), reasons, strict=True):
        assert {why for where, why in moved if where == lane} <= words | {"rcvbuf"}, moved
        assert sum(count for (where, _), count in moved.items() if where == lane) > thrown // 3, moved
    return moved


async def answered_meanwhile(client: Client, stop: asyncio.Event) -> float:
    """The longest that the relay took to answer, seconds."""
    longest = 0.0
    while not stop.is_set():
        began = time.monotonic()
        await client.get("/v1/status")
        longest = max(longest, time.monotonic() - began)
        await asyncio.sleep(0.05)
    return longest


def test_media_and_control_go_on_while_strangers_flood_both_ports() -> None:
    async def scenario() -> None:
        async with camera() as cam:
            target, ports = cam.target, cam.ports
            api = asyncio.ensure_future(answered_meanwhile(cam.edge, cam.stop))
            heads = await asyncio.to_thread(heads_on_the_wire, ports)
            made = {"proven": proven(target, cam.mesh.folder), "tagged": tagged(heads, cam.mesh.folder)}
            for kind, reasons in REASONS.items():
                before, replied = await drops(target), await replies(target)
                thrown, answered = await flood(made.get(kind, kind), ports)
                moved = await all_refused(target, before, thrown, reasons)
                assert answered == await replies(target) - replied
                assert (answered > 0) == (kind == "proven")
                if kind == "proven":
                    assert moved["agent", "mac2"] > moved["agent", "ratelimit"], "the gate asked for cookies"
                    assert moved["agent", "unknown_peer"] <= EXCHANGES_MAX
                    assert answered * COOKIE_REPLY_BYTES <= 0.45 * thrown / 2 * ZRELAY.initiation_bytes
            await cam.ended()
            assert await api < 2.0

    asyncio.run(scenario())
