"""A path against plain bookkeeping: which datagrams were sent, which came, when, and what two clocks showed."""

from typing import Any

import hypothesis.strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.whitebox import ffi, lib

MS, SECOND = 10**6, 10**9
LAST = 2**63 - 1
anything = st.one_of(st.integers(-(2**63), LAST), st.integers(-5, 5))


class PathAgainstBooks(RuleBasedStateMachine):
    """One direction: datagrams with counters, some lost, some late; clocks that differ by `ahead`."""

    @initialize(start=st.integers(1, 10**15), ahead=st.integers(-(10**15), 10**15), first=st.integers(0, 2**60))
    def open(self, start: int, ahead: int, first: int) -> None:
        self.path: Any = ffi.new("zr_path *")
        self.now, self.ahead, self.counter, self.run = start, ahead, first, 0
        self.heard: int | None = None
        self.by_second: dict[int, list[int]] = {}
        self.late: list[int] = []  # lost so far, newest last
        self.trips: list[int] = []
        self.lied = False
        lib.zr_path_init(self.path, self.now)

    def count(self, expected: int, received: int) -> None:
        row = self.by_second.setdefault(self.now // SECOND, [0, 0])
        row[0] += expected
        row[1] += received

    @rule(lost=st.integers(0, 40), after=st.integers(0, 1_500 * MS))
    def arrives(self, lost: int, after: int) -> None:
        self.now += after
        outage = self.heard is not None and self.now - self.heard > 2 * SECOND
        first = self.heard is None
        if not first and not outage:
            self.late += range(self.counter, self.counter + lost)
        self.counter += lost
        lib.zr_path_on_counter(self.path, self.run, self.counter, self.now)
        self.counter += 1
        self.count(1 if first or outage else 1 + lost, 1)
        self.heard = self.now

    @rule()
    def straggles(self) -> None:
        if self.late:
            lib.zr_path_on_counter(self.path, self.run, self.late.pop(), self.now)
            self.count(0, 1)
            self.heard = self.now

    @rule(first=st.integers(0, 2**60))
    def begins_anew(self, first: int) -> None:
        """Another epoch or key: what is lost of the old one is not known, and its stragglers do not count."""
        if self.heard is None:
            return
        self.run += 1
        old, self.counter = self.counter, first
        lib.zr_path_on_counter(self.path, self.run, first, self.now)
        lib.zr_path_on_counter(self.path, self.run - 1, old, self.now)
        self.counter += 1
        self.late.clear()
        self.count(1, 1)
        self.heard = self.now

    @rule(seconds=st.integers(1, 90))
    def time_passes(self, seconds: int) -> None:
        self.now += seconds * SECOND

    @rule(out=st.integers(0, 900 * MS), held=st.integers(0, 100 * MS), back=st.integers(0, 900 * MS))
    def answered(self, out: int, held: int, back: int) -> None:
        sent, came = self.now, self.now + out + self.ahead
        self.now += out + held + back
        assert lib.zr_path_answer_ok(sent, came, came + held, self.now)
        lib.zr_path_on_answer(self.path, sent, came, came + held, self.now)
        self.trips.append((out + held + back) // 1000)

    @rule(came=anything, left=anything)
    def lies_about_time(self, came: int, left: int) -> None:
        """Whatever a peer's clock says: a round trip is ours, and nothing breaks."""
        sent = self.now
        self.now += 20 * MS
        if lib.zr_path_answer_ok(sent, came, left, self.now):
            lib.zr_path_on_answer(self.path, sent, came, left, self.now)
            self.trips.append(20_000)
            self.lied = True
        lib.zr_path_on_clock(self.path, left, self.now)
        self.lied = True

    @rule(expected=st.integers(0, 2**32 - 1), received=st.integers(0, 2**32 - 1), longest=st.integers(0, 65535))
    def is_told(self, expected: int, received: int, longest: int) -> None:
        lib.zr_path_on_told(self.path, expected, received, longest, self.now)
        assert 0.0 <= lib.zr_path_loss(ffi.addressof(self.path, "out")) <= 1.0

    @invariant()
    def agrees(self) -> None:
        if not hasattr(self, "path"):
            return
        assert lib.zr_path_check(self.path)
        assert self.path.expected == sum(row[0] for row in self.by_second.values()) % 2**32
        assert self.path.received == sum(row[1] for row in self.by_second.values()) % 2**32
        if self.by_second:
            newest = max(self.by_second)
            recent = [row for second, row in self.by_second.items() if newest - 60 < second]
            expected, received = sum(row[0] for row in recent), sum(row[1] for row in recent)
            share = ffi.addressof(self.path, "in")
            assert (share.all_expected, share.all_received) == (expected, received)
            assert abs(lib.zr_path_loss(share) - max(0, expected - received) / max(1, expected)) < 1e-9
        assert lib.zr_path_longest(self.path, self.now) <= 40
        assert self.path.samples == len(self.trips)
        if self.trips:
            assert self.path.rtt_min_us == min(self.trips)
            assert min(self.trips) - 10 <= self.path.srtt_us <= max(self.trips)
        assert lib.zr_path_queue_in(self.path) >= 0
        assert lib.zr_path_queue_out(self.path) >= 0

    @invariant()
    def knows_the_clocks_to_half_of_what_the_delays_allow(self) -> None:
        offset, drift = ffi.new("int64_t *"), ffi.new("double *")
        if hasattr(self, "path") and lib.zr_path_offset(self.path, self.now, offset, drift):
            assert -500.001 <= drift[0] <= 500.001
            if not self.lied and len(self.trips) == 1:
                assert abs(offset[0] - self.ahead) <= 1000 * MS + abs(self.ahead) * 1e-9


TestPathAgainstBooks = PathAgainstBooks.TestCase
