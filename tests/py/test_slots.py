"""Slots of a worker: which number comes next, and when one comes again."""

from __future__ import annotations

import random

from relay.placement import REST, Slots


def test_every_number_is_taken_once_and_then_there_is_none() -> None:
    slots = Slots(10)
    assert [slots.take() for _ in range(11)] == [*range(10), None]
    slots.give(3)
    assert (slots.take(), slots.take()) == (3, None)


def test_a_number_given_back_rests_while_others_are_there() -> None:
    slots = Slots(1000)
    first = slots.take()
    assert first == 0
    slots.give(first)
    for _ in range(REST):
        taken = slots.take()
        assert taken not in (None, first)
        slots.give(taken or 0)
    assert slots.take() == first


def test_churn_takes_no_higher_number_than_it_needs() -> None:
    rng, slots, held, highest = random.Random(1), Slots(4096), [], 0
    for _ in range(20_000):
        if len(held) < 50:
            slot = slots.take()
            assert slot is not None
            assert slot not in held
            held.append(slot)
            highest = max(highest, slot)
        else:
            slots.give(held.pop(rng.randrange(len(held))))
    assert len(slots) == len(held)
    assert highest <= 50 + REST
