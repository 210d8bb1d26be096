"""T10: a flood of datagrams without a byte in them, between which media comes at 1 000 packets a second."""

from __future__ import annotations

import asyncio
import os

import pytest

from tests.net.camera import camera
from tests.net.test_flood import REASONS, all_refused, drops, flood

pytestmark = [
    pytest.mark.net,
    pytest.mark.skipif(not os.environ.get("ZR_FULL"), reason="takes long: ZR_FULL=1; less of it in test_flood.py"),
]

EMPTY = 1_000_000
RATE = 60_000


def test_media_loses_nothing_to_empty_datagrams_T10() -> None:
    async def scenario() -> None:
        async with camera(every_s=0.001) as cam:
            before, first = await drops(cam.target), len(cam.came)
            thrown = 0
            while thrown < EMPTY:
                some, answered = await flood("empty", cam.ports, seconds=min(10.0, (EMPTY - thrown) / RATE), rate=RATE)
                assert (answered, some > 0) == (0, True)
                thrown += some
            await all_refused(cam.target, before, thrown, REASONS["empty"])
            await cam.ended()
            assert len(cam.came) - first > 100  # while they came

    asyncio.run(scenario())
