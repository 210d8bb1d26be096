"""The window and a set see the same numbers and give the same verdicts, around the edges above all."""

from typing import Any

import hypothesis.strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.whitebox import ffi, lib

WIN = lib.ZR_WIN
LAST = 2**64 - 1

# Where a bug would be: at the ends of the window and of its words, and one off.
near_edge = st.integers(-3, 3)
edges = st.sampled_from([0, 1, 63, 64, 65, 128, WIN // 2, WIN - 64, WIN - 1, WIN, WIN + 1, WIN + 64])
jumps = st.one_of(st.integers(0, 130), edges, st.integers(0, 4 * WIN))


class WindowAgainstSet(RuleBasedStateMachine):
    @initialize(first=st.sampled_from([0, 1, 63, 64, 2**32 - 2, 2**32, 2**63, LAST - 3 * WIN]))
    def open(self, first: int) -> None:
        self.win: Any = ffi.new("zr_win *")
        self.seen: set[int] = set()
        self.top = 0
        lib.zr_win_init(self.win)
        self.mark(first)

    def verdict(self, n: int) -> int:
        if n == LAST or n < self.top - WIN:
            return int(lib.ZR_WIN_OLD)
        return int(lib.ZR_WIN_SEEN if n in self.seen else lib.ZR_WIN_NEW)

    def mark(self, n: int) -> None:
        expected = self.verdict(n)
        assert lib.zr_win_look(self.win, n) == expected
        assert lib.zr_win_mark(self.win, n) == expected
        if expected == lib.ZR_WIN_NEW:
            self.seen.add(n)
            self.top = max(self.top, n + 1)

    @rule(jump=jumps)
    def mark_ahead(self, jump: int) -> None:
        self.mark(min(self.top + jump, LAST))

    @rule(back=edges, off=near_edge)
    def mark_behind(self, back: int, off: int) -> None:
        self.mark(min(max(self.top - back + off, 0), LAST))

    @rule(count=st.integers(1, 200))
    def mark_a_run(self, count: int) -> None:
        for _ in range(count):
            self.mark(min(self.top, LAST))

    @invariant()
    def agree(self) -> None:
        assert self.win.top == self.top
        for edge in (1, 2, 64, 65, WIN // 2, WIN - 64, WIN - 1, WIN, WIN + 1):
            n = self.top - edge
            if n >= 0:
                assert lib.zr_win_look(self.win, n) == self.verdict(n)


TestWindow = WindowAgainstSet.TestCase
