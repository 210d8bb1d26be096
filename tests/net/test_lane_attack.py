"""T09 over sockets: who reads the wire floods one lane with forged data; what it carried goes by another, nothing is
lost, and that other lane does not notice."""

from __future__ import annotations

import asyncio
import time

import pytest

from benchmarks.machine import slack
from relay.client import Client, stream_path
from relay.dev import DevMesh, DevRelay
from relay.passage import confirmed
from tests.net.camera import send_until
from tests.net.rtp import Sender, Sink, publish_body
from tests.net.stranger import heads_on_the_wire, tagged
from tests.net.test_flood import drops, flood, samples
from tests.net.test_streams import no_ledger_is_off, port_of, until

pytestmark = pytest.mark.net

SECONDS, RATE = 1.5, 100_000
LEFT_S = 1.0
STREAMS = {"cam/1": 101, "cam/2": 102}  # SSRCs; placed on two workers, at either relay


async def worker_of(client: Client, stream: str, subscriber: dict[str, str]) -> int:
    """Where a subscriber is served that was there before."""
    answer = await client.put(f"{stream_path(stream)}/subscribers/one", subscriber)
    return int(answer["worker"])


async def conversations(relay: DevRelay, lane: int) -> int:
    """How many the lane has, whichever way they carry media."""
    (count,) = [s.value for s in await samples(relay) if s.name == "zrelay_convs" and s.labels["worker"] == str(lane)]
    return int(count)


async def left_after(relay: DevRelay, client: Client, lane: int) -> float:
    """Seconds from the first forgery that the relay has counted until the lane has no conversation any more."""
    seen_at = None
    async with asyncio.timeout(20):
        while await conversations(relay, lane) > 0:
            if seen_at is None and (await client.get("/v1/status"))["drops"].get("auth", 0) > 0:
                seen_at = time.monotonic()
            await asyncio.sleep(0.01)
    return 0.0 if seen_at is None else time.monotonic() - seen_at


@pytest.mark.parametrize("name", ["sh-1", "bj-1"], ids=["pulled streams", "children of published streams"])
def test_what_a_lane_carries_leaves_it_within_a_second_of_forged_data_and_nothing_is_lost(name: str) -> None:
    async def scenario() -> None:
        async with DevMesh(2, workers=2) as mesh, mesh.client("bj-1") as origin, mesh.client("sh-1") as edge:
            sink, sender, stop, target = await Sink.open(), Sender(), asyncio.Event(), mesh[name]
            player = {"kind": "rtp", "address": f"127.0.0.1:{sink.port}"}
            media = {}
            at = []  # where each stream is, on the relay that is attacked
            for stream, ssrc in STREAMS.items():
                published = await origin.put(stream_path(stream), publish_body())
                await confirmed(edge, stream, "one", player)
                at.append(published["worker"] if name == "bj-1" else await worker_of(edge, stream, player))
                media[ssrc] = asyncio.ensure_future(send_until(stop, sender, port_of(published), ssrc))
            await until(lambda: all(len(sink.numbers[ssrc]) > 20 for ssrc in STREAMS.values()))
            hit, spared = at
            assert hit != spared
            lane_port = target.data.port + 1 + hit
            heads = await asyncio.to_thread(heads_on_the_wire, [lane_port])
            before, quiet = await drops(target), len(sink.numbers[STREAMS["cam/2"]])
            async with mesh.client(name) as client:
                leaving = asyncio.ensure_future(left_after(target, client, hit))
                thrown, answered = await flood(tagged(heads, mesh.folder), [lane_port], seconds=SECONDS, rate=RATE)
                took_s = await leaving
            print(f"{name}: the lane was left {took_s:.2f} s after the first forgery was seen")
            assert took_s <= LEFT_S * slack()
            assert await conversations(target, spared) == len(STREAMS)
            stop.set()
            for ssrc, sending in media.items():
                sent = await sending
                await until(lambda ssrc=ssrc, sent=sent: len(set(sink.numbers[ssrc])) >= sent)
                assert sorted(set(sink.numbers[ssrc])) == list(range(sent))
            others = sink.numbers[STREAMS["cam/2"]][quiet:]
            assert others == sorted(set(others)), "it was never away"
            after = await drops(target)
            assert answered == 0
            lost = after[str(hit), "rcvbuf"] - before[str(hit), "rcvbuf"]
            assert thrown - lost <= after[str(hit), "auth"] - before[str(hit), "auth"] <= thrown
            assert after[str(spared), "auth"] == after[str(spared), "rcvbuf"] == 0
            await no_ledger_is_off(mesh)
            sink.close()
            sender.close()

    asyncio.run(scenario())
