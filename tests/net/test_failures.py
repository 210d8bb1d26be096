"""What happens to media when a process dies, a publisher is replaced, or two relays pull from each other."""

from __future__ import annotations

import asyncio
import contextlib
import mmap
import os
import signal
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from relay.client import Client, Unreachable, stream_path
from relay.dev import DevMesh, DevRelay
from relay.errors import Problem
from relay.passage import confirmed
from tests.net.rtp import PAYLOAD_TYPE, Sender, Sink, publish_body
from tests.net.test_streams import no_ledger_is_off, port_of, until

pytestmark = pytest.mark.net

SSRC = 5
VIDEO = {"id": "v0", "kind": "video", "codec": "h264", "payload_type": PAYLOAD_TYPE, "clock_rate": 90000}


class Flow:
    """A publisher that sends a packet every 10 ms while the block runs, and the sink it should reach."""

    def __init__(self, sink: Sink, port: int) -> None:
        self.sink, self.port, self.sent = sink, port, 0
        self.sender = Sender()

    async def run(self) -> None:
        while True:
            with contextlib.suppress(ConnectionRefusedError):
                self.sender.send(self.port, SSRC, self.sent)
            self.sent += 1
            await asyncio.sleep(0.01)

    @property
    def got(self) -> list[int]:
        return self.sink.numbers[SSRC]

    async def more(self, packets: int = 50, timeout_s: float = 20.0) -> None:
        """Until that many more have arrived."""
        enough = len(self.got) + packets
        await until(lambda: len(self.got) >= enough, timeout_s)

    async def whole_again(self, timeout_s: float = 20.0) -> None:
        """Until 30 packets came that were sent after now, none between them missing; a repaired one comes later."""
        start = self.sent

        def whole() -> bool:
            fresh = {number for number in self.got if number >= start}
            return any(fresh.issuperset(range(number, number + 30)) for number in fresh)

        await until(whole, timeout_s)


@contextlib.asynccontextmanager
async def flowing(mesh: DevMesh) -> AsyncIterator[Flow]:
    """A stream from the first relay to a subscriber at the last."""
    sink = await Sink.open()
    async with mesh.client(mesh.relays[0].name) as origin, mesh.client(mesh.relays[-1].name) as edge:
        port = port_of(await origin.put("/v1/streams/cam", publish_body()))
        await confirmed(edge, "cam", "me", {"kind": "rtp", "address": f"127.0.0.1:{sink.port}"})
    flow = Flow(sink, port)
    task = asyncio.ensure_future(flow.run())
    try:
        await flow.more()
        yield flow
    finally:
        task.cancel()
        flow.sender.close()
        sink.close()


async def status_of(relay: DevRelay) -> dict[str, Any]:
    async with Client(relay.api_url, timeout_s=10) as client:
        status: dict[str, Any] = await client.get("/v1/status")
        return status


@pytest.mark.parametrize("name", ["bj-1", "sh-1", "gz-1"])
async def test_a_killed_worker_is_replaced_and_media_flows_again(name: str) -> None:
    """At the origin, in the middle, at the edge: the same stream, the same subscriber, the same ingress port."""
    async with DevMesh(3) as mesh, flowing(mesh) as flow:
        before = (await status_of(mesh[name]))["workers"][0]
        os.kill(before["pid"], signal.SIGKILL)
        async with asyncio.timeout(20):
            while (after := (await status_of(mesh[name]))["workers"][0])["restarts"] == 0 or not after["up"]:
                await asyncio.sleep(0.02)
        assert (after["restarts"], after["pid"] != before["pid"]) == (1, True)
        await flow.whole_again()
        assert len(set(flow.got)) == len(flow.got), "a packet came twice"
        await no_ledger_is_off(mesh)


async def test_a_killed_agent_is_replaced_and_takes_orders_again() -> None:
    """The agent holds the desired state: it comes back empty, and who publishes and subscribes asks again."""
    async with DevMesh(2) as mesh:
        sink, sender = await Sink.open(), Sender()
        relay = mesh["bj-1"]
        before = await status_of(relay)
        os.kill(before["pid"], signal.SIGKILL)
        async with asyncio.timeout(20):
            while True:
                with contextlib.suppress(Unreachable, Problem):
                    after = await status_of(relay)
                    if after["pid"] != before["pid"] and {link["state"] for link in after["links"]} == {"up"}:
                        break
                await asyncio.sleep(0.02)
        assert after["boot_id"] != before["boot_id"]
        assert after["workers"][0]["pid"] == before["workers"][0]["pid"], "the worker lives on"
        async with mesh.client("bj-1") as origin, mesh.client("sh-1") as edge:
            port = port_of(await origin.put("/v1/streams/cam", publish_body()))
            await confirmed(edge, "cam", "me", {"address": f"127.0.0.1:{sink.port}"})
            for seq in range(20):
                sender.send(port, SSRC, seq)
            await until(lambda: sorted(sink.numbers[SSRC]) == list(range(20)))
        await no_ledger_is_off(mesh)
        sink.close()
        sender.close()


async def test_a_higher_epoch_takes_every_subscriber_along() -> None:
    """The old publisher is shut out; the new one's first packet arrives, also behind two relays."""
    async with DevMesh(3) as mesh, mesh.client("bj-1") as origin, mesh.client("gz-1") as edge:
        async with flowing(mesh) as flow:
            answer = await origin.put("/v1/streams/cam", publish_body(epoch=2))
            assert answer["epoch"] == 2
            with pytest.raises(Problem) as refused:
                await origin.put("/v1/streams/cam", publish_body(epoch=1))
            assert (refused.value.status, refused.value.extra) == (409, {"current_epoch": 2})
            await until_epoch(edge, 2)
            await flow.whole_again()
        assert len(set(flow.got)) == len(flow.got), "a packet came twice"
        await no_ledger_is_off(mesh)


async def until_epoch(relay: Client, epoch: int) -> None:
    async with asyncio.timeout(20):
        while (view := await relay.get("/v1/streams/cam"))["epoch"] != epoch or view["state"] != "live":
            await asyncio.sleep(0.02)


async def test_a_publisher_that_moves_to_another_relay_with_a_higher_epoch_is_followed() -> None:
    async with DevMesh(2) as mesh, mesh.client("bj-1") as old, mesh.client("sh-1") as new:
        sink, sender = await Sink.open(), Sender()
        await old.put("/v1/streams/cam", publish_body(epoch=1))
        await confirmed(new, "cam", "me", {"address": f"127.0.0.1:{sink.port}"})
        port = port_of(await new.put("/v1/streams/cam", publish_body(epoch=2)))
        for seq in range(20):
            sender.send(port, SSRC, seq)
        await until(lambda: sorted(sink.numbers[SSRC]) == list(range(20)))
        view = await new.get("/v1/streams/cam")
        assert (view["epoch"], view["route"]) == (2, ["sh-1"])
        sink.close()
        sender.close()


async def test_relays_that_pull_from_each_other_never_send_in_circles() -> None:
    mesh = DevMesh(2)
    mesh["bj-1"].upstreams.append("sh-1")
    async with mesh, mesh.client("bj-1") as one, mesh.client("sh-1") as other:
        sinks, sender = [await Sink.open(), await Sink.open()], Sender()
        bodies = [{"kind": "rtp", "address": f"127.0.0.1:{sink.port}"} for sink in sinks]
        for relay, body in zip((one, other), bodies, strict=True):
            answer = await relay.put("/v1/streams/cam/subscribers/me?wait=300ms", body)
            assert answer["confirmed"] is False, "nobody publishes it"
        port = port_of(await other.put("/v1/streams/cam", publish_body()))
        for relay, body in zip((one, other), bodies, strict=True):
            await confirmed(relay, "cam", "me", body)
        for seq in range(100):
            sender.send(port, SSRC, seq)
            await asyncio.sleep(0.002)
        await until(lambda: all(len(sink.numbers[SSRC]) >= 100 for sink in sinks))
        await asyncio.sleep(0.2)
        assert [sorted(sink.numbers[SSRC]) for sink in sinks] == [list(range(100))] * 2
        assert (await one.get("/v1/streams/cam"))["route"] == ["sh-1", "bj-1"]
        await no_ledger_is_off(mesh)
        sender.close()
        for sink in sinks:
            sink.close()


async def test_a_sender_report_crosses_the_mesh_unchanged() -> None:
    async with DevMesh(3) as mesh, flowing(mesh) as flow:
        report = struct.pack(">BBHIQIII", 0x80, 200, 6, SSRC, 0x0123456789ABCDEF, 4711, 10, 1000)
        flow.sender.socket.sendto(report, ("127.0.0.1", flow.port))
        await until(lambda: bool(flow.sink.rtcp))
        assert [heard[:28] for heard in flow.sink.rtcp] == [report]


async def test_who_joins_late_begins_at_the_last_key_frame() -> None:
    """H.264 by its payload: SPS opens a key frame; what came before it is not sent again, what came after is."""
    sps, idr, delta = b"\x67", b"\x65", b"\x41"

    def rtp(seq: int, nal: bytes, frame: int) -> bytes:
        marked = PAYLOAD_TYPE | (0 if nal == sps else 0x80)
        return struct.pack(">BBHII", 0x80, marked, seq, frame * 3000, SSRC) + nal + bytes(40)

    async with DevMesh(2) as mesh, mesh.client("bj-1") as origin, mesh.client("sh-1") as edge:
        early, late, sender = await Numbers.open(), await Numbers.open(), Sender()
        body = publish_body() | {"tracks": [VIDEO]}
        port = port_of(await origin.put("/v1/streams/cam", body))
        await confirmed(edge, "cam", "early", {"address": f"127.0.0.1:{early.port}"})
        plan = [sps, idr, delta, delta, sps, idr, delta, delta, delta]
        for seq, nal in enumerate(plan):
            frame = sum(nal != sps for nal in plan[:seq])
            sender.socket.sendto(rtp(seq, nal, frame), ("127.0.0.1", port))
        await until(lambda: len(early.seqs) == len(plan))
        await confirmed(edge, "cam", "late", {"address": f"127.0.0.1:{late.port}"})
        await until(lambda: len(late.seqs) >= 5)
        sender.socket.sendto(rtp(len(plan), delta, len(plan)), ("127.0.0.1", port))
        await until(lambda: len(late.seqs) >= 6)
        assert late.seqs == [4, 5, 6, 7, 8, 9]
        assert early.seqs == list(range(10))
        await no_ledger_is_off(mesh)
        for end in (early, late, sender):
            end.close()


class Numbers(Sink):
    """Keeps RTP sequence numbers: the payload is video here."""

    def __init__(self) -> None:
        super().__init__()
        self.seqs: list[int] = []

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if not 192 <= data[1] <= 223:
            self.seqs.append(int.from_bytes(data[2:4], "big"))


async def test_the_delay_of_a_hop_is_measured_where_it_ends() -> None:
    async with DevMesh(2) as mesh, flowing(mesh) as flow:
        await flow.more()
        origin, edge = [(await status_of(relay))["hop_delay_ms"] for relay in mesh.relays]
    assert origin["p50"] is None
    assert 0 <= edge["p50"] <= edge["p99"] <= edge["max"] < 1000


async def test_a_stream_id_with_a_slash_crosses_the_mesh() -> None:
    async with DevMesh(2) as mesh, mesh.client("bj-1") as origin, mesh.client("sh-1") as edge:
        sink, sender = await Sink.open(), Sender()
        port = port_of(await origin.put(stream_path("room42/teacher"), publish_body()))
        await confirmed(edge, "room42/teacher", "me", {"address": f"127.0.0.1:{sink.port}"})
        sender.send(port, SSRC, 1)
        await until(lambda: sink.numbers[SSRC] == [1])
        sink.close()
        sender.close()


def overwrite(pid: int, memfd: str, at: int, value: int) -> None:
    """A word of memory that this process shares, by somebody who should not."""
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        if memfd in str(entry.readlink()):
            with entry.open("r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
                memory[at : at + 4] = struct.pack("<I", value)
            return
    raise AssertionError(f"process {pid} has no {memfd}")


COMMANDS = 3 * 64  # zr_chan_mem, zr_spsc_mem: csrc/ring/*.h
EVENTS = COMMANDS + 3 * 64 + 4096 * 64


@pytest.mark.parametrize("ring", [EVENTS, COMMANDS], ids=["the agent sees it", "the worker sees it"])
async def test_s01_a_worker_with_a_corrupt_channel_is_replaced_and_media_flows_again(ring: int) -> None:
    async with DevMesh(1) as mesh, flowing(mesh) as flow:
        relay = mesh.relays[0]
        assert relay.process is not None
        before = (await status_of(relay))["workers"][0]
        async with asyncio.timeout(20):
            while (after := (await status_of(relay))["workers"][0])["pid"] == before["pid"] or not after["up"]:
                if after["pid"] == before["pid"] and "replaced" not in relay.log_path.read_text():
                    overwrite(relay.process.pid, "zr-chan-0", ring, 0x80000000)  # who owns the word may mend it unseen
                await asyncio.sleep(0.05)
        assert after["restarts"] >= 1
        await flow.whole_again()
        await no_ledger_is_off(mesh)
        status = await status_of(relay)
        assert status["workers"][0]["stats"]["channel_broken"] == 0
        async with mesh.client(relay.name) as client:  # commands reach it
            await client.put("/v1/streams/another", publish_body())
