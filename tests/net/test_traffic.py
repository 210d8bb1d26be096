"""What a peer was sent and what of its came: between two relays the one's figure is the other's."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from relay.client import Client, stream_path
from relay.dev import DevMesh
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
    """Datagrams of the link sockets that were taken from the kernel, or lost there, and not accepted."""
    parsed = samples(await client.get("/metrics"))
    return sum(
        int(value)
        for (name, labels), value in parsed.items()
        if name == "zrelay_udp_dropped_packets_total" and ("direction", "link") in labels
    )


async def equal_at_last(here: Client, there: Client) -> tuple[dict[str, Any], dict[str, Any]]:
    """Both ends' rows of a moment in which nothing was on its way: `here` said nothing while `there` was read."""
    ends = time.monotonic() + 20
    while True:
        lost = await dropped(there)
        sent, received, then = await link(here), await link(there), await link(here)
        known = received["received_datagrams"] + lost
        if sent["sent_datagrams"] == then["sent_datagrams"] == known and await dropped(there) == lost:
            return sent, received
        assert time.monotonic() < ends, (sent["sent_datagrams"], then["sent_datagrams"], known, lost)


async def test_what_one_relay_sent_the_other_received_or_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZRELAY_LINKS__LINGER", "100ms")
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
        await edge.delete(f"{stream_path('cam')}/subscribers/one")  # an idle link is still for long enough
        for here, there in ((origin, edge), (edge, origin)):
            sent, received = await equal_at_last(here, there)
            if await dropped(there) == 0:
                assert sent["sent_bytes"] == received["received_bytes"]
            assert sent["sent_bytes"] > sent["sent_payload_bytes"] > 0
        shown = await link(edge)
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
