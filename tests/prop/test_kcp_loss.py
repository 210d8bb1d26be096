"""How much is sent for nothing: two of our ends over a link that loses both ways, on a virtual clock."""

from __future__ import annotations

import heapq
import random

import pytest

from tests.prop.kcp_end import End
from tests.whitebox import lib

ONE_WAY_MS, GAP_MS, BURST = 50, 40, 8


def talk(loss: float, segments: int) -> tuple[int, int]:
    """Bursts of eight from one end to the other until all have arrived; segments sent, and received twice."""
    rng = random.Random(7)
    conf = {name: getattr(lib.zr_kcp_conf_turbo(7), name) for name in ("mtu", "snd_wnd", "rcv_wnd", "interval_ms")}
    conf |= {"conv": 7, "nodelay": 1, "resend": 2, "nc": 1, "fragments_max": 2}
    conf |= {"flush_at_once": True, "conservative": True, "harden": True}
    ends = [End(conf, 0), End(conf, 0)]
    link: list[tuple[int, int, int, bytes]] = []  # arrival, order, to, datagram
    order = received = 0
    for now in range(segments // BURST * GAP_MS + 10_000):
        if now % GAP_MS == 0 and now // GAP_MS < segments // BURST:
            for _ in range(BURST):
                assert ends[0].send(bytes(1200), now) == lib.ZR_OK
        while link and link[0][0] <= now:
            _, _, to, data = heapq.heappop(link)
            assert ends[to].input(data, now) == lib.ZR_OK
        while ends[1].recv() is not None:
            received += 1
        for number, end in enumerate(ends):
            if not end.due(now):
                continue
            end.on_deadline(now)
            for data in end.output(now, runs=True):
                order += 1
                if rng.random() >= loss:
                    heapq.heappush(link, (now + ONE_WAY_MS, order, 1 - number, data))
    assert received == segments
    assert ends[0].waiting() == 0
    result = ends[0].counts().segs_sent, ends[1].counts().duplicates
    assert [end.close() for end in ends] == [0, 0]
    return result


def test_a_clean_path_carries_every_segment_once() -> None:
    assert talk(0, 800) == (800, 0)


@pytest.mark.parametrize("loss", [0.05, 0.1])
def test_lost_acknowledgements_make_next_to_nothing_be_sent_again(loss: float) -> None:
    sent, twice = talk(loss, 8000)
    assert twice <= 8000 * loss**2 * 1.5
    assert sent <= 8000 / (1 - loss) * 1.015
