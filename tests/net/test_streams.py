"""Streams, pulls and subscribers of real relays, with every RTP packet known."""

from __future__ import annotations

import asyncio
import contextlib
import struct
import time
from itertools import accumulate
from typing import Any

import pytest

from relay.client import Client, stream_path
from relay.dev import DevMesh
from relay.errors import Problem
from relay.passage import confirmed
from tests.net.rtp import Sender, Sink, publish_body

pytestmark = pytest.mark.net


def port_of(answer: dict[str, Any]) -> int:
    return int(answer["ingress"]["address"].rpartition(":")[2])


async def until(condition: Any, timeout_s: float = 20.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.01)


async def no_ledger_is_off(mesh: DevMesh) -> None:
    """A worker that was not let run in the middle of a turn has counted half of it. What is lost stays lost."""
    for relay in mesh.relays:
        ends = time.monotonic() + 20
        async with mesh.client(relay.name) as client:
            while set((status := await client.get("/v1/status"))["ledgers"].values()) != {0}:
                assert time.monotonic() < ends, (relay.name, status["ledgers"], status["drops"])
                await asyncio.sleep(0.01)


def test_two_hundred_streams_at_once_through_two_relays() -> None:
    streams, packets = 200, 50

    async def scenario() -> None:
        async with DevMesh(2) as mesh, mesh.client("bj-1") as origin, mesh.client("sh-1") as edge:
            sink, sender = await Sink.open(), Sender()
            subscriber = {"kind": "rtp", "address": f"127.0.0.1:{sink.port}"}
            ports = []
            for number in range(streams):
                ports.append(port_of(await origin.put(stream_path(f"s/{number}"), publish_body())))
                await edge.put(f"{stream_path(f's/{number}')}/subscribers/one", subscriber)
            for number in range(streams):
                await confirmed(edge, f"s/{number}", "one", subscriber)
            for seq in range(packets):
                for number, port in enumerate(ports):
                    sender.send(port, 1000 + number, seq)
                await asyncio.sleep(0.02)
            await until(lambda: all(len(sink.numbers[1000 + n]) >= packets for n in range(streams)))
            assert {tuple(sorted(got)) for got in sink.numbers.values()} == {tuple(range(packets))}
            await no_ledger_is_off(mesh)
            sink.close()
            sender.close()

    asyncio.run(scenario())


def test_a_restarted_relay_in_the_middle_is_pulled_from_again() -> None:
    async def scenario() -> None:
        async with DevMesh(3) as mesh, mesh.client("bj-1") as origin, mesh.client("gz-1") as edge:
            sink, sender = await Sink.open(), Sender()
            port = port_of(await origin.put(stream_path("cam"), publish_body()))
            await confirmed(edge, "cam", "one", {"kind": "rtp", "address": f"127.0.0.1:{sink.port}"})
            sending = True

            async def send() -> int:
                seq = 0
                while sending:
                    sender.send(port, 5, seq)
                    seq += 1
                    await asyncio.sleep(0.01)
                return seq

            task = asyncio.ensure_future(send())
            await until(lambda: len(sink.numbers[5]) > 20)
            await mesh.kill(mesh["sh-1"])
            await mesh.start(mesh["sh-1"])
            await mesh.wait_ready(mesh["sh-1"])
            seen = len(sink.numbers[5])
            await until(lambda: len(sink.numbers[5]) > seen + 50, 30)
            sending = False
            await task
            got = sink.numbers[5]
            assert len(set(got)) == len(got), "a packet came twice"
            # First arrival: what is sent before the child's worker knows the way is repaired, and comes later.
            assert all(highest - number <= 8 for highest, number in zip(accumulate(got, max), got, strict=True))
            await no_ledger_is_off(mesh)
            sink.close()
            sender.close()

    asyncio.run(scenario())


def test_the_last_subscriber_leaving_ends_the_pull_after_the_linger(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each relay lingers for itself, from the edge up."""
    monkeypatch.setenv("ZRELAY_LINKS__LINGER", "1s")

    async def scenario() -> None:
        async with DevMesh(3) as mesh, mesh.client("bj-1") as origin, mesh.client("sh-1") as middle:
            sink = await Sink.open()
            await origin.put(stream_path("cam"), publish_body())
            async with mesh.client("gz-1") as edge:
                for sid in ("one", "two"):
                    await confirmed(edge, "cam", sid, {"kind": "rtp", "address": f"127.0.0.1:{sink.port}"})
                view = await origin.get(stream_path("cam"))
                assert view["subscribers"] == 1, "two subscribers far away are one child here"
                await edge.delete(f"{stream_path('cam')}/subscribers/one")
                assert (await edge.get(stream_path("cam")))["state"] == "live"
                await edge.delete(f"{stream_path('cam')}/subscribers/two")
                assert (await edge.get(stream_path("cam")))["state"] == "lingering"
                assert (await middle.get(stream_path("cam")))["state"] == "live", "somebody may come back"
                async with asyncio.timeout(20):
                    while await exists(edge, "cam") or await exists(middle, "cam"):
                        await asyncio.sleep(0.05)
                    while (await origin.get(stream_path("cam")))["subscribers"]:
                        await asyncio.sleep(0.05)
            sink.close()

    asyncio.run(scenario())


async def exists(client: Client, stream_id: str) -> bool:
    """Whether the relay knows the stream; any problem but 404 is one."""
    try:
        await client.get(stream_path(stream_id))
    except Problem as problem:
        if problem.status != 404:
            raise
        return False
    return True


def test_t03_nobody_takes_over_a_learned_source() -> None:
    """RTP bleed: the right SSRC, payload type and sequence numbers from another port change nothing."""

    async def scenario() -> None:
        async with DevMesh(1) as mesh, mesh.client("bj-1") as relay:
            sink, sender, attacker = await Sink.open(), Sender(), Sender()
            port = port_of(await relay.put(stream_path("cam"), publish_body()))
            await relay.put(
                f"{stream_path('cam')}/subscribers/one", {"kind": "rtp", "address": f"127.0.0.1:{sink.port}"}
            )
            for seq in range(100):
                sender.send(port, 9, seq)
                for guess in range(20):
                    attacker.send(port, 9, 1000 + seq + guess)
                await asyncio.sleep(0.005)
            silent = time.monotonic()
            while time.monotonic() - silent < 0.5:  # and after the publisher fell silent, within the 2 s of the lock
                for guess in range(20):
                    attacker.send(port, 9, 5000 + guess)
                await asyncio.sleep(0.005)
            await asyncio.sleep(0.2)
            assert sink.numbers[9] == list(range(100))
            status = await relay.get("/v1/status")
            assert status["drops"]["source"] > 0
            await no_ledger_is_off(mesh)
            for end in (sink, sender, attacker):
                end.close()

    asyncio.run(scenario())


def test_a_nack_is_answered_from_the_replay_cache_and_a_pli_reaches_the_publisher() -> None:
    async def scenario() -> None:
        async with DevMesh(2) as mesh, mesh.client("bj-1") as origin, mesh.client("sh-1") as edge:
            sink, sender = await Sink.open(), Sender()
            sender.socket.setblocking(False)
            video = {"id": "v0", "kind": "video", "codec": "h264", "payload_type": 97, "clock_rate": 90000}
            body = {"epoch": 1, "tracks": [video], "ingress": {"kind": "rtp", "source": "learn"}}
            port = port_of(await origin.put(stream_path("cam"), body))
            await confirmed(edge, "cam", "one", {"kind": "rtp", "address": f"127.0.0.1:{sink.port}"})
            for seq in range(10):
                sender.send(port, 77, seq)
                await asyncio.sleep(0.01)
            await until(lambda: len(sink.numbers[77]) == 10)
            assert sink.transport is not None
            assert sink.source is not None
            nack = struct.pack(">BBHIIHH", 0x81, 205, 3, 1, 77, 4, 0b101)  # 4, 5 and 7
            sink.transport.sendto(struct.pack(">BBHI", 0x80, 201, 1, 1) + nack, sink.source)
            await until(lambda: len(sink.numbers[77]) == 13)
            assert sorted(sink.numbers[77][10:]) == [4, 5, 7]
            pli = struct.pack(">BBHII", 0x81, 206, 2, 1, 77)
            for _ in range(5):
                sink.transport.sendto(struct.pack(">BBHI", 0x80, 201, 1, 1) + pli, sink.source)
            heard: list[bytes] = []

            def publisher_heard() -> bool:
                with contextlib.suppress(BlockingIOError):
                    heard.append(sender.socket.recv(2048))
                return bool(heard)

            await until(publisher_heard)
            assert heard[0][-4:] == struct.pack(">I", 77)
            await asyncio.sleep(0.2)
            with pytest.raises(BlockingIOError):  # five requests, one travelled
                sender.socket.recv(2048)
            await no_ledger_is_off(mesh)
            sink.close()
            sender.close()

    asyncio.run(scenario())
