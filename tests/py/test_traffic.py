"""Counts by slot, in pages that outlive sessions, workers and the agent, become counts by peer."""

from __future__ import annotations

from relay.traffic import Counts, Traffic

SECOND = 1_000_000_000


class Pages:
    """Two lanes' rows by slot."""

    def __init__(self) -> None:
        self.rows: dict[tuple[int, int], Counts] = {}
        self.traffic = Traffic(lambda slot: [self.rows.get((lane, slot), Counts()) for lane in range(2)])

    def count(self, lane: int, slot: int, *counts: int) -> None:
        self.rows[lane, slot] = self.rows.get((lane, slot), Counts()).plus(Counts(*counts))


def test_all_lanes_count_for_a_peer_and_what_was_there_before_is_not_its_own() -> None:
    pages = Pages()
    pages.count(1, 3, 9, 9, 9, 9, 9, 9)
    pages.traffic.begin(3)
    pages.count(0, 3, 1, 100, 50, 2, 300, 250)
    pages.count(1, 3, 1, 10, 5, 0, 0, 0)
    pages.traffic.look("b", 3, 0)
    assert pages.traffic.of("b") == Counts(2, 110, 55, 2, 300, 250)
    pages.traffic.look("b", 3, 1)
    assert pages.traffic.of("b") == Counts(2, 110, 55, 2, 300, 250)
    assert pages.traffic.of("c") == Counts()


def test_a_peers_next_session_counts_on_and_the_last_second_of_the_one_before_is_not_lost() -> None:
    pages = Pages()
    pages.traffic.begin(3)
    pages.traffic.look("b", 3, 0)
    pages.count(0, 3, 1, 100)
    pages.traffic.look("b", None, SECOND)  # it is gone
    pages.count(0, 3, 1, 11)  # a worker heard so a little later
    pages.traffic.begin(4)
    pages.count(0, 4, 1, 1000)
    pages.traffic.look("b", 4, 2 * SECOND)
    assert pages.traffic.of("b").received_bytes == 1111


def test_a_slot_that_another_peer_takes_counts_for_that_one_from_then_on() -> None:
    pages = Pages()
    pages.traffic.begin(3)
    pages.traffic.look("b", 3, 0)
    pages.traffic.look("b", None, 1)
    pages.count(0, 3, 1, 100)
    pages.traffic.begin(3)
    pages.count(0, 3, 1, 1000)
    pages.traffic.look("c", 3, 2)
    pages.traffic.look("b", None, 2)
    assert (pages.traffic.of("b").received_bytes, pages.traffic.of("c").received_bytes) == (100, 1000)
    pages.traffic.keep(["c"])
    assert pages.traffic.of("b") == Counts()
    assert pages.traffic.of("c").received_bytes == 1000


def test_rates_are_of_the_last_second_and_not_known_before_one_has_passed() -> None:
    pages = Pages()
    pages.traffic.begin(0)
    pages.traffic.look("b", 0, 0)
    assert pages.traffic.row("b") == Counts()._asdict()
    pages.count(0, 0, 10, 1000, 900, 20, 250_000, 240_000)
    pages.traffic.look("b", 0, SECOND // 2)  # somebody asks in between
    assert "receiving_bps" not in pages.traffic.row("b")
    pages.traffic.look("b", 0, 2 * SECOND)
    row = pages.traffic.row("b")
    assert (row["receiving_bps"], row["sending_bps"], row["sent_payload_bytes"]) == (4000, 1_000_000, 240_000)
    pages.traffic.look("b", None, 3 * SECOND)
    assert (pages.traffic.row("b")["receiving_bps"], pages.traffic.row("b")["sent_bytes"]) == (0, 250_000)
