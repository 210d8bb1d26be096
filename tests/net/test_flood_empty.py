"""T10: a flood of datagrams without a byte in them, between which media comes at 1 000 packets a second."""

from __future__ import annotations

import asyncio
import os

import pytest

from relay.client import stream_path
from relay.dev import DevMesh
from relay.passage import confirmed
from tests.net import test_flood
from tests.net.rtp import Sender, Sink, publish_body
from tests.net.test_flood import REASONS, SSRC, all_refused, drops, flood
from tests.net.test_streams import no_ledger_is_off, port_of, until

pytestmark = [
    pytest.mark.net,
    pytest.mark.skipif(not os.environ.get("ZR_FULL"), reason="takes long: ZR_FULL=1; less of it in test_flood.py"),
]

EMPTY = 1_000_000
RATE = 60_000


def test_media_loses_nothing_to_empty_datagrams_T10(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(test_flood, "EVERY_S", 0.001)

    async def scenario() -> None:
        async with DevMesh(2) as mesh, mesh.client("bj-1") as origin, mesh.client("sh-1") as edge:
            sink, sender, stop = await Sink.open(), Sender(), asyncio.Event()
            target = mesh["sh-1"]
            port = port_of(await origin.put(stream_path("cam"), publish_body()))
            await confirmed(edge, "cam", "one", {"kind": "rtp", "address": f"127.0.0.1:{sink.port}"})
            media = asyncio.ensure_future(test_flood.send_until(stop, sender, port))
            await until(lambda: len(sink.numbers[SSRC]) > 20)
            before, first = await drops(target), len(sink.numbers[SSRC])
            ports = [target.data.port, target.data.port + 1]
            thrown = 0
            while thrown < EMPTY:
                some, answered = await flood("empty", ports, seconds=min(10.0, (EMPTY - thrown) / RATE), rate=RATE)
                assert (answered, some > 0) == (0, True)
                thrown += some
            await all_refused(target, before, thrown, REASONS["empty"])
            stop.set()
            sent = await media
            await until(lambda: len(sink.numbers[SSRC]) >= sent)
            assert sorted(sink.numbers[SSRC]) == list(range(sent))
            assert sent - first > 100  # while they came
            await no_ledger_is_off(mesh)
            sink.close()
            sender.close()

    asyncio.run(scenario())
