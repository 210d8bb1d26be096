"""Streams go to the least busy worker, subscribers to their stream's until it is busy; joins count before they show."""

from __future__ import annotations

import pytest

from relay.placement import PAIR_NS, PPS, Placement

S = 1_000_000_000


def measured(*shares: float, at: int = 10) -> Placement:
    """Workers that were busy for these shares of the last second."""
    placement = Placement(len(shares))
    for worker, share in enumerate(shares):
        placement.measured(worker, 0, 0, at * S)
        placement.measured(worker, int(share * S), 0, (at + 1) * S)
    return placement


@pytest.mark.parametrize(("busy", "chosen"), [((0.5, 0.1), 1), ((0.1, 0.5), 0), ((0.12, 0.14), 0), ((0.9, 0.8), 1)])
def test_a_stream_goes_to_the_least_busy_worker(busy: tuple[float, float], chosen: int) -> None:
    assert measured(*busy).for_stream([0, 0], [True, True]) == chosen


def test_workers_that_are_alike_share_the_streams_and_one_that_is_down_gets_none() -> None:
    placement = measured(0.31, 0.34, 0.0)
    assert placement.for_stream([5, 4, 0], [True, True, False]) == 1


@pytest.mark.parametrize(
    ("busy", "near", "chosen"),
    [
        ((0.69, 0.0, 0.0), (), 0),  # its stream's worker, until that is busy
        ((0.71, 0.3, 0.1), (), 2),  # then the least busy one
        ((0.71, 0.3, 0.1), (1,), 1),  # but where the stream is already, it costs no copy
        ((0.71, 0.8, 0.1), (1,), 2),
        ((0.9, 0.9, 0.9), (1,), 0),  # all are busy: no copy for nothing
        ((0.99, 0.9, 0.75), (), 2),
    ],
)
def test_a_subscriber_lands_with_its_stream_until_that_worker_is_busy(
    busy: tuple[float, ...], near: tuple[int, ...], chosen: int
) -> None:
    assert measured(*busy).for_sub(0, near, range(len(busy))) == chosen


def test_a_worker_without_room_is_passed_over_and_with_no_room_at_all_it_is_the_streams_own() -> None:
    placement = measured(0.1, 0.1, 0.3)
    assert placement.for_sub(0, (), (1, 2)) == 1
    assert placement.for_sub(0, (), ()) == 0


def test_busy_is_entered_at_70_percent_and_left_below_60() -> None:
    placement = Placement(1)
    seen = []
    spent = 0
    for second, share in enumerate((0.0, 0.69, 0.70, 0.65, 0.60, 0.59, 0.69, 0.71)):
        spent += int(share * S)
        placement.measured(0, spent, 0, second * S)
        seen.append(placement.is_busy(0))
    assert seen == [False, False, True, True, True, False, False, True]


def test_100_joiners_in_the_same_second_do_not_all_land_on_one_worker() -> None:
    placement = Placement(2)
    for worker, share in ((0, 0.5), (1, 0.1)):
        placement.measured(worker, 0, 0, 0)
        placement.measured(worker, int(share * S), 100_000, S)  # 5 us and 1 us a pair
    landed = [0, 0]
    for _ in range(100):
        worker = placement.for_sub(0, (), (0, 1))
        placement.joins(worker, 1000.0)
        landed[worker] += 1
    assert 40 <= landed[0] <= 80
    assert landed[0] + landed[1] == 100
    assert placement.is_busy(0)


def test_a_join_counts_until_a_whole_measurement_has_seen_it() -> None:
    placement = Placement(1)
    placement.measured(0, 0, 0, 0)
    placement.joins(0, 0.0)
    cost = PPS * PAIR_NS / 1e9
    assert placement.expected(0) == pytest.approx(cost)
    placement.measured(0, 0, 0, S)  # it joined within this second
    assert placement.expected(0) == pytest.approx(cost)
    placement.measured(0, S // 10, 0, 2 * S)
    assert placement.expected(0) == pytest.approx(0.1)


def test_a_page_that_is_read_twice_at_once_or_counts_back_does_no_harm() -> None:
    placement = measured(0.5)
    placement.measured(0, S // 2, 0, 11 * S)
    assert placement.expected(0) == pytest.approx(0.5)
    placement.measured(0, 0, 0, 12 * S)  # never less than nothing
    assert placement.expected(0) == 0.0
