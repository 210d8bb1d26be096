"""A stream on two workers against a list: what its mirror's subscriber must get, in which order, and what was lost."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.whitebox import ffi, lib

PACKETS_MAX = 200  # below the cache's size: nothing is evicted


class MirrorAgainstList(RuleBasedStateMachine):
    """Packets, turns of either worker, mirrors that open, close and open again, through a ring of a few records."""

    @initialize(slots=st.sampled_from([2, 4, 16, 64]), number=st.sampled_from([0, 2**32 - 3]))
    def start(self, slots: int, number: int) -> None:
        self.w = lib.wb_mirror_new(slots, number)
        self.sent = 0
        self.key = -1
        self.open = self.fed = False
        self.due: list[int] = []  # what the subscriber is to get, minus what the ring had no room for
        self.got: list[int] = []
        self.dropped = 0  # before this life of the mirror

    @precondition(lambda self: self.sent < PACKETS_MAX)
    @rule(audio=st.booleans(), key=st.booleans(), count=st.integers(1, 6))
    def packets(self, audio: bool, key: bool, count: int) -> None:
        for i in range(count):
            is_key = key and not audio and i == 0
            assert lib.wb_mirror_rtp(self.w, audio, self.sent, is_key) == 0
            if is_key:
                self.key = self.sent
            if self.fed:
                self.due.append(self.sent)
            self.sent += 1

    @precondition(lambda self: not self.open)
    @rule()
    def open_mirror(self) -> None:
        assert lib.wb_mirror_open(self.w) == 0
        self.open = True
        self.due, self.got = [], []
        self.dropped = lib.wb_mirror_queue_drops(self.w)

    @precondition(lambda self: self.open and not self.fed)
    @rule()
    def feed(self) -> None:
        assert lib.wb_mirror_feed(self.w) == 0
        self.fed = True
        self.due = list(range(self.key, self.sent)) if self.key >= 0 else []

    @precondition(lambda self: self.open)
    @rule()
    def close(self) -> None:
        assert lib.wb_mirror_close(self.w) == 0
        self.open = self.fed = False

    @rule()
    def owner_turn(self) -> None:
        lib.wb_mirror_owner_turn(self.w)

    @rule(budget=st.integers(1, 64))
    def target_turn(self, budget: int) -> None:
        seqs = ffi.new("uint16_t[512]")
        count = lib.wb_mirror_target_turn(self.w, budget, seqs, 512)
        assert count == 0 or self.open, "records of an earlier life were forwarded"
        self.got += [seqs[i] for i in range(count)]

    @rule()
    def all_of_it(self) -> None:
        """Both turn until nothing moves: what was not dropped has arrived, once and in order."""
        for _ in range(PACKETS_MAX + 8):
            self.owner_turn()
            self.target_turn(64)
        if not self.open:
            return
        lost = lib.wb_mirror_queue_drops(self.w) - self.dropped
        assert len(self.got) == len(set(self.got)), "twice"
        assert set(self.got) <= set(self.due)
        assert len(self.due) - len(self.got) == lost, "lost and not counted"
        assert self.got == sorted(self.got)

    @invariant()
    def sound(self) -> None:
        if hasattr(self, "w"):
            assert lib.wb_mirror_sound(self.w)

    def teardown(self) -> None:
        if hasattr(self, "w"):
            self.all_of_it()
            lib.wb_mirror_free(self.w)


TestMirrorAgainstList = MirrorAgainstList.TestCase
TestMirrorAgainstList.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
