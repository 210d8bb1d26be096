"""Malformed KCP under the right keys, over loopback: a relay closes that link, says so, and loses nothing else."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

from relay.client import Client, stream_path
from relay.dev import DevMesh, DevRelay
from tests.net.rtp import Sender, Sink, publish_body
from tests.py.badinput import AGENT, WORKER, segment
from tests.py.hostile_live import PEER_ID, KeyedPeer

SSRC = 7
MALFORMED = segment(0, 0, b"x", cmd=80)


async def link_of(client: Client, peer: str) -> dict[str, Any]:
    links: list[dict[str, Any]] = (await client.get("/v1/links"))["items"]
    return next(link for link in links if link["peer"] == peer)


async def drops(client: Client) -> dict[str, int]:
    found: dict[str, int] = (await client.get("/v1/status"))["drops"]
    return found


def alarms(relay: DevRelay) -> list[dict[str, Any]]:
    return [json.loads(line) for line in relay.log_path.read_text().splitlines() if "ZR1009" in line]


async def test_sixteen_malformed_datagrams_close_the_link_of_who_sent_them_and_a_stream_to_another_goes_on() -> None:
    mesh = DevMesh(2)
    hostile = KeyedPeer(mesh.relays[0])
    async with mesh, mesh.client("bj-1") as a, mesh.client("sh-1") as b:
        sink, sender, sent = await Sink.open(), Sender(), 0
        port = (await a.put(stream_path("cam"), publish_body()))["ingress"]["address"].rpartition(":")[2]
        await b.put(f"{stream_path('cam')}/subscribers/one", {"kind": "rtp", "address": f"127.0.0.1:{sink.port}"})

        async def stream() -> None:
            nonlocal sent
            while True:
                sender.send(int(port), SSRC, sent)
                sent += 1
                await asyncio.sleep(0.01)

        async with asyncio.timeout(40):
            streaming = asyncio.ensure_future(stream())
            while not sink.numbers[SSRC]:
                await asyncio.sleep(0.01)
            await hostile.join()
            for lane in [AGENT, WORKER] * 8:
                assert "closed_ms" not in await link_of(a, PEER_ID)
                hostile.say(lane, MALFORMED)
            while not (said := alarms(mesh["bj-1"])):
                await asyncio.sleep(0.01)
            link = await link_of(a, PEER_ID)
            assert link["state"] != "up"
            assert 0 < link.get("closed_ms", 1) <= 1000  # over, where this machine took a second
            assert (await drops(a))["kcp_cmd"] == 16
            assert [(line["event"], line["peer"], line["closed_ms"]) for line in said] == [
                ("link closed: violations", PEER_ID, 1000)
            ]

            hostile.say(AGENT, MALFORMED)  # of a session that is gone
            hostile.leave()
            await hostile.join()  # when the second is over
            assert "closed_ms" not in await link_of(a, PEER_ID)
            after = await drops(a)
            assert after["kcp_cmd"] == 16
            assert after["noindex"] >= 1

            while sent < sink.numbers[SSRC][0] + 300:
                await asyncio.sleep(0.01)
            streaming.cancel()
            ends = time.monotonic() + 2  # what was lost on a busy machine comes again, behind what was sent later
            while len(set(sink.numbers[SSRC])) < sent - sink.numbers[SSRC][0] and time.monotonic() < ends:
                await asyncio.sleep(0.01)
        first = sink.numbers[SSRC][0]
        assert len(set(sink.numbers[SSRC])) >= 0.99 * (sent - first)  # all of them: tests/sim/test_kcp_violations.py
        sender.close()
        sink.close()
    hostile.close()
