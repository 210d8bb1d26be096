"""Two workers in one relay: subscribers on either get every packet of a stream that lives on one of them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import struct

import pytest

from relay.client import Client, stream_path
from relay.dev import DevMesh
from relay.passage import confirmed
from tests.net.rtp import Sender, Sink, publish_body
from tests.net.test_streams import no_ledger_is_off, port_of, until

pytestmark = [
    pytest.mark.net,
    pytest.mark.skipif(
        len(os.sched_getaffinity(0)) < 2, reason="two workers want two CPUs: run it on a larger machine"
    ),
]
SSRC = 9
VIDEO = {"id": "v0", "kind": "video", "codec": "h264", "payload_type": 97, "clock_rate": 90000}


@pytest.fixture(autouse=True)
def soon_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker counts as busy after two subscribers."""
    monkeypatch.setenv("ZRELAY_WORKERS__BUSY", "0.001")


async def on_both(relay: Client, count: int = 6) -> dict[int, list[Sink]]:
    """`count` subscribers of cam, their sinks by worker."""
    sinks: dict[int, list[Sink]] = {0: [], 1: []}
    for number in range(count):
        sink = await Sink.open()
        body = {"kind": "rtp", "address": f"127.0.0.1:{sink.port}"}
        path = f"{stream_path('cam')}/subscribers/s{number}"
        answer = await relay.put(f"{path}?wait=5s", body)
        assert answer["confirmed"]
        sinks[answer["worker"]].append(sink)
    assert all(sinks.values()), "all subscribers landed on one worker"
    return sinks


async def workers_of(relay: Client) -> list[dict[str, int]]:
    return list((await relay.get("/v1/workers"))["items"])


def test_subscribers_on_both_workers_receive_every_packet_in_order() -> None:
    async def scenario() -> None:
        async with DevMesh(1, workers=2) as mesh, mesh.client("bj-1") as relay:
            sender = Sender()
            port = port_of(await relay.put(stream_path("cam"), publish_body()))
            sinks = [sink for some in (await on_both(relay)).values() for sink in some]
            for seq in range(2000):
                sender.send(port, SSRC, seq)
                if seq % 10 == 9:
                    await asyncio.sleep(0.002)
            await until(lambda: all(len(sink.numbers[SSRC]) == 2000 for sink in sinks))
            for sink in sinks:
                assert sink.numbers[SSRC] == list(range(2000))
            await no_ledger_is_off(mesh)
            for number in range(6):
                await relay.delete(f"{stream_path('cam')}/subscribers/s{number}")
            async with asyncio.timeout(20):
                while sum(row["streams"] for row in await workers_of(relay)) > 1:
                    await asyncio.sleep(0.02)  # the mirror goes with its last subscriber
            for end in (sender, *sinks):
                end.close()

    asyncio.run(scenario())


def test_a_mirrors_viewer_starts_at_a_key_frame_and_gets_nack_service_and_key_frames() -> None:
    async def scenario() -> None:
        async with DevMesh(1, workers=2) as mesh, mesh.client("bj-1") as relay:
            sender = Sender()
            sender.socket.setblocking(False)
            body = {"epoch": 1, "tracks": [VIDEO], "ingress": {"kind": "rtp", "source": "learn"}}
            answer = await relay.put(stream_path("cam"), body)
            port, own = port_of(answer), answer["worker"]

            def send(seq: int, *, key: bool = False) -> None:
                head = struct.pack(">BBHII", 0x80, 97, seq, seq * 3000, SSRC)
                nal = b"\x65\x88\x00\x00" if key else b"\x41\x9a\x00\x00"
                sender.socket.sendto(head + nal + bytes(100), ("127.0.0.1", port))

            for seq in range(20):
                send(seq, key=seq == 5)
            await asyncio.sleep(0.2)
            sink = (await on_both(relay))[1 - own][0]
            heard: list[int] = []
            sink.datagram_received = lambda data, addr: (  # type: ignore[method-assign]
                heard.append(int.from_bytes(data[2:4], "big")), setattr(sink, "source", addr)
            )[0]  # fmt: skip
            for seq in range(20, 30):
                send(seq)
                await asyncio.sleep(0.01)
            await until(lambda: heard[-1:] == [29])
            assert len(sink.numbers[SSRC]) + len(heard) == 25, "from the key frame on, the cache of its stream's worker"
            assert heard[-10:] == list(range(20, 30))
            assert sink.transport is not None
            assert sink.source is not None
            report = struct.pack(">BBHI", 0x80, 201, 1, 1)
            nack = struct.pack(">BBHIIHH", 0x81, 205, 3, 1, SSRC, 24, 0b101)  # 24, 25 and 27
            sink.transport.sendto(report + nack, sink.source)
            await until(lambda: len(heard) >= 3 and sorted(heard[-3:]) == [24, 25, 27])
            for _ in range(5):
                sink.transport.sendto(report + struct.pack(">BBHII", 0x81, 206, 2, 1, SSRC), sink.source)
            asked: list[bytes] = []

            def publisher_heard() -> bool:
                with contextlib.suppress(BlockingIOError):
                    asked.append(sender.socket.recv(2048))
                return bool(asked)

            await until(publisher_heard)
            assert asked[0][-4:] == struct.pack(">I", SSRC)
            await asyncio.sleep(0.2)
            with pytest.raises(BlockingIOError):  # five requests, one travelled
                sender.socket.recv(2048)
            await no_ledger_is_off(mesh)
            sender.close()

    asyncio.run(scenario())


@pytest.mark.parametrize("which", ["the stream's", "the mirror's"])
def test_after_either_worker_died_subscribers_on_both_get_media_again(which: str) -> None:
    async def scenario() -> None:
        async with DevMesh(1, workers=2) as mesh, mesh.client("bj-1") as relay:
            sender = Sender()
            answer = await relay.put(stream_path("cam"), publish_body())
            port, own = port_of(answer), answer["worker"]
            sinks = await on_both(relay)
            flat = sinks[0] + sinks[1]
            seq = 0

            async def send_until(condition: object) -> None:
                nonlocal seq
                async with asyncio.timeout(20):
                    while not condition():  # type: ignore[operator]
                        with contextlib.suppress(OSError):
                            sender.send(port, SSRC, seq)
                        seq += 1
                        await asyncio.sleep(0.005)

            await send_until(lambda: all(len(sink.numbers[SSRC]) > 20 for sink in flat))
            victim = own if which == "the stream's" else 1 - own
            pid = next(row["pid"] for row in await workers_of(relay) if row["worker"] == victim)
            os.kill(pid, signal.SIGKILL)
            await asyncio.sleep(0.05)
            counts = [len(sink.numbers[SSRC]) for sink in flat]
            await send_until(
                lambda: all(len(sink.numbers[SSRC]) > had + 50 for sink, had in zip(flat, counts, strict=True))
            )
            for sink in flat:
                got = sink.numbers[SSRC]
                assert len(set(got)) == len(got), "a packet came twice"
            for sink in sinks[1 - victim]:
                got = sink.numbers[SSRC]
                assert which == "the stream's" or got == list(range(got[0], got[-1] + 1)), "the others lost packets"
            await confirmed(relay, "cam", "s0", {"kind": "rtp", "address": f"127.0.0.1:{flat[0].port}"})
            for end in (sender, *flat):
                end.close()

    asyncio.run(scenario())
