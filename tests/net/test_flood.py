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

from relay.client import Client, stream_path
from relay.dev import DevMesh, DevRelay
from relay.handshake_wire import COOKIE_REPLY_BYTES, ZRELAY
from relay.passage import confirmed
from tests.net.rtp import Sender, Sink, publish_body
from tests.net.stranger import heads_on_the_wire, proven, tagged
from tests.net.test_streams import no_ledger_is_off, port_of, until

pytestmark = pytest.mark.net

FLOOD = Path(__file__).with_name("flood.py")
FULL = bool(os.environ.get("ZR_FULL"))
SECONDS, RATE, SSRC = 2.0 if FULL else 0.6, 60_000, 77  # 10^5 of each kind (T02), or a third of that
EVERY_S = 0.002
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


async def all_refused(
    relay: DevRelay, before: dict[tuple[str, str], int], thrown: int, reasons: tuple[set[str], set[str]]
) -> Counter[tuple[str, str]]:
    """Each datagram thrown at its agent and its worker was dropped once, for one of these reasons; by lane and reason.

    When the kernel dropped some, some of those may have been the peer's.
    """
    moved: Counter[tuple[str, str]] = Counter()
    async with asyncio.timeout(5):
        while moved.total() < thrown:
            await asyncio.sleep(0.05)
            moved = Counter(await drops(relay))
            moved.subtract(before)
    by_kernel = sum(count for (_, why), count in moved.items() if why == "rcvbuf")
    assert thrown <= moved.total() <= thrown + by_kernel, +moved
    for lane, words in zip(("agent", "0"), reasons, strict=True):
        assert {why for where, why in +moved if where == lane} <= words | {"rcvbuf"}, +moved
        assert sum(count for (where, _), count in moved.items() if where == lane) > thrown // 3, +moved
    return moved


async def send_until(stop: asyncio.Event, sender: Sender, port: int, ssrc: int = SSRC) -> int:
    seq, began = 0, time.monotonic()
    while not stop.is_set():
        while seq * EVERY_S < time.monotonic() - began:
            sender.send(port, ssrc, seq)
            seq += 1
        await asyncio.sleep(EVERY_S)
    return seq


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
        async with DevMesh(2) as mesh, mesh.client("bj-1") as origin, mesh.client("sh-1") as edge:
            sink, sender, stop = await Sink.open(), Sender(), asyncio.Event()
            target = mesh["sh-1"]
            port = port_of(await origin.put(stream_path("cam"), publish_body()))
            await confirmed(edge, "cam", "one", {"kind": "rtp", "address": f"127.0.0.1:{sink.port}"})
            media = asyncio.ensure_future(send_until(stop, sender, port))
            await until(lambda: len(sink.numbers[SSRC]) > 20)
            api = asyncio.ensure_future(answered_meanwhile(edge, stop))
            ports = [target.data.port, target.data.port + 1]
            heads = await asyncio.to_thread(heads_on_the_wire, ports)
            made = {"proven": proven(target, mesh.folder), "tagged": tagged(heads, mesh.folder)}
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
            stop.set()
            sent = await media
            await until(lambda: len(sink.numbers[SSRC]) >= sent)
            assert sorted(sink.numbers[SSRC]) == list(range(sent))  # what a link repairs comes later
            assert await api < 2.0
            await no_ledger_is_off(mesh)
            sink.close()
            sender.close()

    asyncio.run(scenario())
