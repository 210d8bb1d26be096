"""How much is sent for nothing, and for how little: a media stream over a link that loses, on a virtual clock."""

from __future__ import annotations

import pytest

from tests.prop.kcp_pair import Pair
from tests.whitebox import ffi

WARM, MESSAGES = 400, 6000


def streamed(loss: tuple[float, float], *, planned: bool = True) -> tuple[Pair, dict[str, int]]:
    """200 messages a second, `loss` towards (the sender, the receiver); what was counted after the start."""
    pair = Pair(loss, 7, **({} if planned else {"plan": ffi.NULL}))
    pair.stream(WARM, 5, 1200)
    before = numbers(pair)
    pair.stream(MESSAGES, 5, 1200)
    pair.run(pair.now + 3_000)
    after = numbers(pair)
    return pair, {name: after[name] - before[name] for name in after}


def numbers(pair: Pair) -> dict[str, int]:
    sender, receiver = pair.ends[0].counts(), pair.ends[1].counts()
    names = ("segs_sent", "retrans_timeout", "copies", "spurious", "expired")
    return {name: getattr(sender, name) for name in names} | {
        "duplicates": receiver.duplicates,
        "acks": receiver.acks_sent,
    }


def test_a_clean_path_carries_every_segment_once_and_soon_one_acknowledgement_for_several() -> None:
    pair, counted = streamed((0, 0))
    assert counted["segs_sent"] == MESSAGES
    assert counted["retrans_timeout"] == counted["copies"] == counted["spurious"] == counted["duplicates"] == 0
    assert counted["acks"] <= 2 * MESSAGES
    pair.close()


@pytest.mark.parametrize("loss", [0.05, 0.1, 0.3])
def test_lost_acknowledgements_alone_make_next_to_nothing_be_sent_again(loss: float) -> None:
    """They are repeated within the sender's timer, and una tells again with each later arrival."""
    pair, counted = streamed((loss, 0))
    assert counted["segs_sent"] <= MESSAGES * 1.02
    assert counted["duplicates"] <= MESSAGES * 0.02
    assert counted["expired"] == 0
    pair.close()


@pytest.mark.parametrize("loss", [0.05, 0.1, 0.2])
def test_without_a_plan_of_copies_only_what_was_lost_is_sent_again(loss: float) -> None:
    pair, counted = streamed((loss, loss), planned=False)
    assert counted["copies"] == 0
    assert counted["duplicates"] <= MESSAGES * 0.02
    assert counted["segs_sent"] <= MESSAGES / (1 - loss) * 1.03
    pair.close()


@pytest.mark.parametrize(
    ("loss", "overhead_max"), [(0.01, 1.10), (0.05, 1.19), (0.1, 1.33), (0.3, 2.0), (0.5, 3.2)], ids=lambda v: f"{v}"
)
def test_copies_stay_within_the_overhead_of_the_loss_there_is(loss: float, overhead_max: float) -> None:
    pair, counted = streamed((loss, loss))
    headers = 24 / 1200
    assert counted["segs_sent"] / MESSAGES * (1 + headers) <= overhead_max
    assert sum(took > 400 for took in pair.delivered.values()) == 0
    assert len(pair.delivered) >= (WARM + MESSAGES) * (1 - 0.002)
    pair.close()
