"""The records of streams: found by every name they have, and by none once they are gone."""

from __future__ import annotations

import pytest

from relay.placement import Placement, Slots
from relay.streams import Pull, Stream, Streams


def test_a_stream_is_found_by_id_slot_and_group_until_it_is_removed() -> None:
    streams = Streams()
    one, two = Stream("one", 1, 5, group="room"), Stream("two", 1, 6, group="room")
    for stream in (one, two):
        streams.add(stream)
    streams.remove(one)
    assert (streams.get("one"), streams.at(1, 5), streams.worker_of_group("room")) == (None, None, 1)
    streams.remove(two)
    assert (streams.ids(), streams.worker_of_group("room"), streams.worker_of_group(None)) == ([], None, None)


def test_a_slot_given_back_is_the_last_to_be_taken_again() -> None:
    slots = Slots(3)
    assert [slots.take(), slots.take()] == [0, 1]
    slots.give(0)
    assert [slots.take(), slots.take(), slots.take()] == [2, 0, None]


@pytest.mark.parametrize(
    ("loads", "up", "chosen"),
    [([0, 0], [True, True], 0), ([2, 1], [True, True], 1), ([0, 9], [False, True], 1), ([3, 1], [False, False], 1)],
)
def test_the_least_loaded_worker_that_is_up_is_chosen(loads: list[int], up: list[bool], chosen: int) -> None:
    assert Placement(len(up)).for_stream(loads, up) == chosen


def test_a_pull_refuses_an_edge_that_its_drawing_does_not_have() -> None:
    pull = Pull()
    with pytest.raises(AssertionError, match="wanted -> live"):
        pull.set_state("live")
