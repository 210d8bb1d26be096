"""The forwarder against a list per subscriber: which packets must each of them have got, and in which order."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.whitebox import ffi, lib

SUBS = 5
PACKETS_MAX = 100  # below the cache's size: nothing is evicted


class FanOutAgainstLists(RuleBasedStateMachine):
    """Joins, packets, turns and departures in any order, with a batch so small that outputs stop half-way."""

    @initialize(cap=st.integers(1, 9), number=st.sampled_from([0, 7, 2**32 - 3]))
    def start(self, cap: int, number: int) -> None:
        self.w = lib.wb_fwd_new(cap, number)
        self.packets: list[tuple[int, bool]] = []  # (RTP seq, audio)
        self.key = -1  # position of the last key frame
        self.owed: dict[int, list[tuple[int, bool]]] = {}  # sub -> what it is still to get
        self.got: dict[int, list[int]] = {}
        self.mask: dict[int, int] = {}
        self.split: dict[int, bool] = {}
        self.more = False

    @precondition(lambda self: len(self.packets) < PACKETS_MAX)
    @rule(audio=st.booleans(), key=st.booleans())
    def packet(self, audio: bool, key: bool) -> None:
        key = key and not audio
        seq = len(self.packets)
        assert lib.wb_fwd_rtp(self.w, audio, seq, key) == 0
        if key:
            self.key = seq
        self.packets.append((seq, audio))
        for sub, owed in self.owed.items():
            if self.mask[sub] >> audio & 1:
                owed.append((seq, audio))

    @rule(sub=st.integers(0, SUBS - 1), mask=st.integers(0, 3), split=st.booleans())
    def join(self, sub: int, mask: int, split: bool) -> None:
        rc = lib.wb_fwd_join(self.w, sub, mask, split)
        assert (rc == 0) == (sub not in self.owed)
        if rc == 0:
            replayed = self.packets[self.key :] if self.key >= 0 else []
            self.owed[sub] = [(seq, audio) for seq, audio in replayed if mask >> audio & 1]
            self.mask[sub], self.split[sub] = mask, split

    @rule(sub=st.integers(0, SUBS - 1))
    def leave(self, sub: int) -> None:
        assert (lib.wb_fwd_leave(self.w, sub) == 0) == (sub in self.owed)
        self.owed.pop(sub, None)

    @rule()
    def fan_out(self) -> None:
        lib.wb_fwd_fan_out(self.w)

    @rule()
    def output(self) -> None:
        ports, seqs, more = ffi.new("uint16_t[64]"), ffi.new("uint16_t[64]"), ffi.new("bool *")
        for i in range(lib.wb_fwd_output(self.w, ports, seqs, 64, more)):
            sub, own = divmod(ports[i] - 1000, 2)
            pair = self.packets[seqs[i]]
            assert pair in self.owed[sub], "sent twice, or never due"
            assert own == (pair[1] and self.split[sub])
            # In order: nothing older of this kind may still be owed. Audio may overtake video that has to wait.
            older = [p for p in self.owed[sub] if p[0] < pair[0] and p[1] == pair[1]]
            assert not older
            self.owed[sub].remove(pair)
        self.more = more[0]

    @rule()
    def turn(self) -> None:
        for _ in range(3):  # the second lets out what waited behind a half-done output
            self.fan_out()
            self.output()
            while self.more:
                self.output()
        assert not any(self.owed.values())

    @invariant()
    def sound(self) -> None:
        if hasattr(self, "w"):
            assert lib.wb_fwd_sound(self.w)

    def teardown(self) -> None:
        if hasattr(self, "w"):
            assert lib.wb_fwd_close(self.w) == 0
            assert lib.wb_fwd_sound(self.w)
            assert lib.wb_fwd_in_use(self.w) == 0
            lib.wb_fwd_free(self.w)


TestFanOutAgainstLists = FanOutAgainstLists.TestCase
TestFanOutAgainstLists.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
