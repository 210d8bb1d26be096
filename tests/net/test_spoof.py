"""T04: somebody off the path forges datagrams from the addresses of a relay's peer. Raw sockets: needs root.

What one refusal costs: benchmarks/test_seal_cost.py.
"""

from __future__ import annotations

import asyncio
import os
import random
import struct
from collections import Counter

import pytest

from relay.client import stream_path
from relay.dev import DevMesh
from relay.passage import confirmed
from tests.net.rtp import Sender, Sink, publish_body
from tests.net.stranger import heads_on_the_wire
from tests.net.test_flood import SSRC, drops, send_until
from tests.net.test_streams import no_ledger_is_off, port_of, until
from tests.py.raw_udp import raw_udp

pytestmark = pytest.mark.net

FORGED = 1_000_000 if os.environ.get("ZR_FULL") else 10_000
RUN = 50
MADE = 200  # packets for each lane and kind
BODY_BYTES = 184


def test_what_is_forged_from_a_peers_addresses_is_refused_and_the_peers_own_goes_on_T04() -> None:
    """To both lanes: receive indices of nobody, and those in use with a wrong tag."""

    async def scenario() -> None:
        with raw_udp() as raw:
            async with DevMesh(2) as mesh, mesh.client("bj-1") as origin, mesh.client("sh-1") as edge:
                sink, sender, stop = await Sink.open(), Sender(), asyncio.Event()
                peer, target, rng = mesh["bj-1"].data, mesh["sh-1"], random.Random(1)
                port = port_of(await origin.put(stream_path("cam"), publish_body()))
                await confirmed(edge, "cam", "one", {"kind": "rtp", "address": f"127.0.0.1:{sink.port}"})
                media = asyncio.ensure_future(send_until(stop, sender, port))
                await until(lambda: len(sink.numbers[SSRC]) > 20)
                ports = [target.data.port, target.data.port + 1]
                heads = await asyncio.to_thread(heads_on_the_wire, ports)
                packets = []
                for number in range(MADE):
                    counter = struct.pack("<Q", (1 << 32) + number)
                    for lane, head in enumerate(heads):
                        (receiver,) = struct.unpack_from("<I", head, 4)
                        nobody = struct.pack("<I", receiver ^ rng.randrange(1, 1 << 26) << 6)
                        for whose in (head[:8], head[:4] + nobody):
                            data = whose + counter + rng.randbytes(BODY_BYTES)
                            to = ("127.0.0.1", ports[lane])
                            packets.append((raw.packet((peer.ip, peer.port + lane), to, data), to))
                before = await drops(target)
                for first in range(0, FORGED, RUN):
                    for n in range(first, first + RUN):
                        raw.send_packet(*packets[n % len(packets)])
                    await asyncio.sleep(0.001)
                moved: Counter[tuple[str, str]] = Counter()
                async with asyncio.timeout(20):
                    while moved.total() < FORGED:
                        await asyncio.sleep(0.05)
                        moved = Counter(await drops(target))
                        moved.subtract(before)
                refused = {key: count for key, count in moved.items() if count > 0}
                by_kernel = sum(refused.pop((lane, "rcvbuf"), 0) for lane in ("agent", "0"))
                assert refused.keys() == {(lane, why) for lane in ("agent", "0") for why in ("auth", "noindex")}
                assert FORGED - by_kernel <= sum(refused.values()) <= FORGED  # none was accepted
                assert all(count > FORGED // 4 - by_kernel - 1 for count in refused.values())
                stop.set()
                sent = await media
                await until(lambda: len(sink.numbers[SSRC]) >= sent)
                assert sorted(sink.numbers[SSRC]) == list(range(sent))
                (link,) = (await edge.get("/v1/links"))["items"]
                assert (link["state"], link["flaps"], link["address"]) == ("up", 0, str(peer))
                await no_ledger_is_off(mesh)
                sink.close()
                sender.close()

    asyncio.run(scenario())
