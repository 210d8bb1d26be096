"""Overload against what a decoder needs: whole frames, nothing that depends on what is missing, audio last."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.whitebox import ffi, lib

KEY, REFERENCE, DISCARDABLE = range(3)
CAP, CAP_ALL = 24, 64


class OverloadAgainstADecoder(RuleBasedStateMachine):
    """Frames, audio, time and load as they come; egress that takes any number of datagrams a turn.

    A decoder starts at a key frame, and a reference frame of which a packet is missing ends its chain: every frame the
    player gets whole must have its chain, and no frame may come in part once another one has begun.
    """

    @initialize()
    def start(self) -> None:
        self.w = lib.wb_shed_new(CAP, CAP_ALL)
        self.frames: list[tuple[int, list[int]]] = []  # (kind, RTP sequence numbers)
        self.frame_of: dict[int, int] = {}
        self.got: set[int] = set()
        self.heard: list[int] = []
        self.seq = self.audio = 0
        self.aged = False  # something may have waited too long, even audio

    @rule(kind=st.sampled_from([KEY, REFERENCE, REFERENCE, DISCARDABLE]), packets=st.integers(1, 4))
    def frame(self, kind: int, packets: int) -> None:
        number = len(self.frames)
        taken = []
        for _ in range(packets):
            self.seq += 1
            lib.wb_shed_rtp(self.w, False, self.seq, 3000 * (number + 1), kind)
            taken.append(self.seq)
            self.frame_of[self.seq] = number
        self.frames.append((kind, taken))

    @rule(packets=st.integers(1, 3))
    def sound(self, packets: int) -> None:
        for _ in range(packets):
            self.audio += 1
            assert lib.wb_shed_rtp(self.w, True, self.audio, 960 * self.audio, 0) == 0, "audio is never left out"

    @rule(most=st.sampled_from([0, 0, 1, 2, 5, 100]))
    def turn(self, most: int) -> None:
        seqs, audio = ffi.new("uint16_t[512]"), ffi.new("bool[512]")
        for i in range(lib.wb_shed_turn(self.w, most, seqs, audio, 512)):
            if audio[i]:
                assert not self.heard or seqs[i] > self.heard[-1]
                self.heard.append(seqs[i])
                continue
            assert seqs[i] not in self.got, "sent twice"
            self.got.add(seqs[i])
            self.check_chain(self.frame_of[seqs[i]])
        assert lib.wb_shed_held(self.w) <= CAP

    @rule(us=st.integers(0, 50_000))
    def wait(self, us: int) -> None:
        lib.wb_shed_pass(self.w, us)
        self.aged = True

    @rule(busy=st.sampled_from([0, 500, 940, 1000]))
    def load(self, busy: int) -> None:
        lib.wb_shed_load(self.w, busy)

    def check_chain(self, number: int) -> None:
        """All references back to the key frame are there whole; of this frame, everything up to here."""
        if self.frames[number][0] == KEY:
            return
        for kind, seqs in reversed(self.frames[:number]):
            if kind == DISCARDABLE:
                continue
            assert self.got.issuperset(seqs), "what it depends on is missing"
            if kind == KEY:
                return
        # From before the first key frame: nothing is known to depend on anything.

    @invariant()
    def adds_up(self) -> None:
        if hasattr(self, "w"):
            assert lib.wb_shed_sound(self.w)

    def teardown(self) -> None:
        if not hasattr(self, "w"):
            return
        for _ in range(200):
            self.turn(100)
        assert lib.wb_shed_held(self.w) == 0
        if not self.aged and self.audio <= CAP // 2:
            assert self.heard == list(range(1, self.audio + 1)), "audio goes last"
        lib.wb_shed_free(self.w)


TestOverloadAgainstADecoder = OverloadAgainstADecoder.TestCase
TestOverloadAgainstADecoder.settings = settings(max_examples=120, stateful_step_count=50, deadline=None)
