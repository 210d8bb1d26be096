"""What a peer was sent and what of its came: between two relays the one's figure is the other's."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from relay import _core
from relay.client import Client, stream_path
from relay.dev import DevMesh, DevRelay
from relay.passage import confirmed
from tests.net.rtp import Sender, Sink, publish_body
from tests.net.test_streams import no_ledger_is_off, port_of, until
from tests.py.test_metrics import samples

pytestmark = pytest.mark.net

PACKETS, PAYLOAD = 200, 116  # RTP packets of so many bytes


async def link(client: Client) -> dict[str, Any]:
    (found,) = (await client.get("/v1/links"))["items"]
    return dict(found)


async def dropped(client: Client) -> int:
    """Datagrams of its link sockets that were not accepted, of sessions and of handshakes, or lost in the kernel."""
    parsed = samples(await client.get("/metrics"))
    return sum(
        int(value)
        for (name, labels), value in parsed.items()
        if name == "zrelay_udp_dropped_packets_total" and ("direction", "link") in labels
    )


@contextlib.contextmanager
def standing_still(supervisor: int) -> Iterator[list[int]]:
    """All processes of a relay stop; the supervisor first and last: it judges nobody meanwhile."""
    pids = [supervisor, *map(int, Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split())]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield pids
    finally:
        for pid in reversed(pids):
            os.kill(pid, signal.SIGCONT)


def sent_of(supervisor: int) -> tuple[int, int]:
    """Datagrams and bytes that the lanes of a relay with one peer put out, as their pages say."""
    datagrams = bytes_ = 0
    for entry in Path(f"/proc/{supervisor}/fd").iterdir():
        if re.match(r"/memfd:zr-(agent-stat|stat-\d+) ", os.readlink(entry)):
            fd = os.open(entry, os.O_RDWR)
            size = os.fstat(fd).st_size
            streams = next(n for n in range(1 << 17) if _core.StatPage.bytes_for(n) == size)
            page = _core.StatPage(fd, streams_max=streams)
            os.close(fd)
            for slot in range(8):
                datagrams += page.session(slot)[3]
                bytes_ += page.session(slot)[4]
    return datagrams, bytes_


async def all_came(relay: DevRelay, there: Client) -> None:
    """The relay stands still: what it sent is what the other received or dropped, once that has read all.

    Setting up, a handshake or two are dropped as well, by the same words; else nothing is."""
    assert relay.process is not None
    with standing_still(relay.process.pid):
        await asyncio.sleep(0.02)  # a signal is not obeyed at once
        sent, sent_bytes = sent_of(relay.process.pid)
        ends = time.monotonic() + 5
        while True:
            received, lost = await link(there), await dropped(there)
            came, came_bytes = received["received_datagrams"], received["received_bytes"]
            if came <= sent <= came + lost:
                break
            assert time.monotonic() < ends, (sent, came, lost)
            await asyncio.sleep(0.01)
    assert sent > PACKETS / 10
    assert lost <= 10
    assert came_bytes == sent_bytes if came == sent else came_bytes < sent_bytes


async def test_what_one_relay_sent_the_other_received_or_dropped() -> None:
    async with DevMesh(2, sealed=True) as mesh, mesh.client("bj-1") as origin, mesh.client("sh-1") as edge:
        sink, sender = await Sink.open(), Sender()
        port = port_of(await origin.put(stream_path("cam"), publish_body()))
        await confirmed(edge, "cam", "one", {"kind": "rtp", "address": f"127.0.0.1:{sink.port}"})
        before = await link(edge)
        for seq in range(PACKETS):
            sender.send(port, 5, seq)
            await asyncio.sleep(0.002)
        await until(lambda: len(sink.numbers[5]) >= PACKETS)
        carried = (await link(edge))["received_payload_bytes"] - before["received_payload_bytes"]
        assert PACKETS * PAYLOAD <= carried <= 2 * PACKETS * PAYLOAD  # with their heads, and the agents' words
        for here, there in (("bj-1", edge), ("sh-1", origin)):
            await all_came(mesh[here], there)
        while "receiving_bps" not in (shown := await link(edge)):  # in the first second
            await asyncio.sleep(0.05)
        assert shown["receiving_bps"] > 0 < shown["sending_bps"]

        parsed = samples(await edge.get("/metrics"))
        after = await link(edge)
        for metric, name in (("packets", "datagrams"), ("bytes", "bytes"), ("payload_bytes", "payload_bytes")):
            for direction, done in (("in", "received"), ("out", "sent")):
                value = parsed[f"zrelay_link_{metric}_total", (("direction", direction), ("peer", "bj-1"))]
                assert shown[f"{done}_{name}"] <= value <= after[f"{done}_{name}"]
        await no_ledger_is_off(mesh)
        sink.close()
        sender.close()
