"""T04: somebody off the path forges datagrams from the addresses of a relay's peer. Raw sockets: needs root.

What one refusal costs: benchmarks/test_seal_cost.py.
"""

from __future__ import annotations

import asyncio
import os
import random
import struct

import pytest

from tests.net.camera import camera
from tests.net.stranger import heads_on_the_wire
from tests.net.test_flood import dropped_since, drops
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
            async with camera() as cam:
                peer, ports, rng = cam.mesh["bj-1"].data, cam.ports, random.Random(1)
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
                before = await drops(cam.target)
                for first in range(0, FORGED, RUN):
                    for n in range(first, first + RUN):
                        raw.send_packet(*packets[n % len(packets)])
                    await asyncio.sleep(0.001)
                refused = await dropped_since(cam.target, before, FORGED)
                by_kernel = sum(refused.pop((lane, "rcvbuf"), 0) for lane in ("agent", "0"))
                assert refused.keys() == {(lane, why) for lane in ("agent", "0") for why in ("auth", "noindex")}
                assert FORGED - by_kernel <= refused.total() <= FORGED  # none was accepted
                assert all(count > FORGED // 4 - by_kernel - 1 for count in refused.values())
                await cam.ended()
                (link,) = (await cam.edge.get("/v1/links"))["items"]
                assert (link["state"], link["flaps"], link["address"]) == ("up", 0, str(peer))

    asyncio.run(scenario())
