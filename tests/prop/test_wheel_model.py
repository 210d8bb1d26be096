"""The wheel and a dict of deadlines: nothing early, nothing more than a tick late, nothing lost, on every level."""

from typing import Any

import hypothesis.strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.whitebox import ffi, lib

TICK = 1 << lib.ZR_WHEEL_TICK_SHIFT
NEVER = 2**63 - 1
TIMERS = 6

# Times that fall around the ends of slots and of turns of each level, and a few anywhere.
around = st.integers(-2, 2)
spans = st.one_of(
    st.integers(0, 3 * TICK),
    st.builds(lambda level, n, off: max(64**level * n * TICK + off, 0), st.integers(0, 4), st.integers(1, 65), around),
    st.integers(0, 10**14),
)
starts = st.one_of(
    st.just(0),
    st.builds(lambda level, off: 64**level * TICK * 3 - off, st.integers(1, 4), st.integers(0, 2 * TICK)),
    st.builds(lambda off: 2**32 * TICK - off, st.integers(0, 2 * TICK)),
)
numbers = st.integers(0, TIMERS - 1)


class WheelAgainstDeadlines(RuleBasedStateMachine):
    @initialize(start=starts)
    def open(self, start: int) -> None:
        self.wheel: Any = ffi.new("zr_wheel *")
        self.timers: list[Any] = [ffi.new("zr_timer *") for _ in range(TIMERS)]
        self.armed: dict[int, int] = {}
        self.now = start
        lib.zr_wheel_init(self.wheel, start)
        for number, timer in enumerate(self.timers):
            lib.zr_timer_init(timer, 3, number)

    @rule(number=numbers, span=spans)
    def arm(self, number: int, span: int) -> None:
        self.armed[number] = self.now + span
        lib.zr_timer_arm(self.wheel, self.timers[number], self.now + span)

    @rule(number=numbers, ago=spans)
    def arm_in_the_past(self, number: int, ago: int) -> None:
        self.armed[number] = self.now - ago
        lib.zr_timer_arm(self.wheel, self.timers[number], self.now - ago)

    @rule(number=numbers, by_never=st.booleans())
    def cancel(self, number: int, by_never: bool) -> None:
        self.armed.pop(number, None)
        if by_never:
            lib.zr_timer_arm(self.wheel, self.timers[number], NEVER)
        else:
            lib.zr_timer_cancel(self.wheel, self.timers[number])

    @rule(span=spans)
    def advance(self, span: int) -> None:
        self.now += span
        lib.zr_wheel_advance(self.wheel, self.now)
        self.take_all()

    @rule(span=spans)
    def step_back(self, span: int) -> None:
        back = max(0, self.now - span)  # a monotonic clock begins at 0
        if back // TICK < self.now // TICK:
            lib.zr_wheel_advance(self.wheel, back)
            assert lib.zr_wheel_expired(self.wheel) == ffi.NULL

    @precondition(lambda self: self.armed)
    @rule()
    def sleep_until_the_deadline(self) -> None:
        until = lib.zr_wheel_deadline(self.wheel)
        earliest = max(min(self.armed.values()), self.now)
        assert until <= earliest + TICK
        self.now = max(self.now, until)
        lib.zr_wheel_advance(self.wheel, self.now)
        self.take_all()

    @rule(number=numbers, span=spans)
    def cancel_what_has_just_expired(self, number: int, span: int) -> None:
        self.now += span
        lib.zr_wheel_advance(self.wheel, self.now)
        lib.zr_timer_cancel(self.wheel, self.timers[number])
        self.armed.pop(number, None)
        self.take_all()

    def take_all(self) -> None:
        for _ in range(TIMERS + 1):
            timer = lib.zr_wheel_expired(self.wheel)
            if timer == ffi.NULL:
                break
            deadline = self.armed.pop(timer.ref)
            assert timer == self.timers[timer.ref]
            assert timer.deadline == deadline
            assert deadline <= self.now, "early"
        else:
            raise AssertionError("more expired than there are timers")
        for deadline in self.armed.values():
            assert deadline > self.now - TICK, "late"

    @invariant()
    def agree(self) -> None:
        assert lib.zr_wheel_check(self.wheel)
        assert self.wheel.count == len(self.armed)
        for number, timer in enumerate(self.timers):
            assert lib.zr_timer_armed(timer) == (number in self.armed)
        assert (lib.zr_wheel_deadline(self.wheel) == NEVER) == (not self.armed)


TestWheel = WheelAgainstDeadlines.TestCase
