"""A path that reorders, and loses on one way only: what is late is no loss, and no reason for copies or repeats."""

from __future__ import annotations

import os

import pytest

from tests.prop.kcp_pair import Pair
from tests.prop.test_kcp_loss import numbers

FULL = bool(os.environ.get("ZR_FULL"))
WARM, MESSAGES = 400, (6000 if FULL else 1500)
DUPLICATED = 0.02  # by the link, both ways
JITTERS_MS = (10, 20, 40)  # of each datagram by itself: at one every 5 ms most are overtaken


def streamed(loss: tuple[float, float], jitter_ms: int) -> tuple[Pair, dict[str, int]]:
    """200 messages a second, `loss` towards (the sender, the receiver); what was counted after the start."""
    pair = Pair(loss, 7, jitter_ms, DUPLICATED if jitter_ms else 0)
    pair.stream(WARM, 5, 1200)
    before = numbers(pair)
    pair.stream(MESSAGES, 5, 1200)
    after = numbers(pair)
    return pair, {name: after[name] - before[name] for name in after}


def ended(pair: Pair) -> int:
    """Lets all come to rest; how many messages are missing at 400 ms."""
    pair.run(pair.now + 3_000)
    pair.close()
    return len(pair.sent) - sum(took <= 400 for took in pair.delivered.values())


def looks_like_no_loss(back: float, jitter_ms: int) -> None:
    """`back` of what goes to the sender is lost: no copies, next to no repeats, nothing missing."""
    pair, counted = streamed((back, 0), jitter_ms)
    assert counted["copies"] == 0
    assert counted["segs_sent"] <= MESSAGES * 1.03
    assert pair.ends[0].estimates().loss_ppm < 10_000
    assert ended(pair) == 0


@pytest.mark.parametrize("jitter_ms", JITTERS_MS)
def test_reordering_alone_makes_no_copies_next_to_no_repeats_and_looks_like_no_loss(jitter_ms: int) -> None:
    looks_like_no_loss(0, jitter_ms)


def test_when_the_path_reorders_no_more_its_timer_is_as_short_as_before() -> None:
    pair, _ = streamed((0, 0), 40)
    assert pair.ends[0].estimates().timer_ms > 140
    pair.jitter_ms = 0
    pair.stream(3000, 5, 1200)
    assert pair.ends[0].estimates().timer_ms <= 2 * Pair.DELAY_MS + 14
    assert ended(pair) == 0


@pytest.mark.parametrize("jitter_ms", [0, *JITTERS_MS] if FULL else [0, 20])
def test_loss_on_the_way_back_alone_makes_no_copies_and_looks_like_no_loss(jitter_ms: int) -> None:
    looks_like_no_loss(0.3, jitter_ms)


@pytest.mark.parametrize("jitter_ms", [0, *JITTERS_MS] if FULL else [0, 20])
def test_loss_on_the_way_there_alone_is_measured_and_costs_no_more_than_both_ways(jitter_ms: int) -> None:
    pair, counted = streamed((0, 0.3), jitter_ms)
    headers = 24 / 1200
    assert 0.2e6 <= pair.ends[0].estimates().loss_ppm <= 0.4e6
    assert counted["segs_sent"] / MESSAGES * (1 + headers) <= 2.0
    assert counted["spurious"] <= MESSAGES * 0.15  # the more is lost, the more of it is borne with
    assert ended(pair) <= (WARM + MESSAGES) * 0.002
