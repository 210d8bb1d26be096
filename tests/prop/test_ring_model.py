"""The ring and a deque see the same operations and agree at every step; the counters begin near their wrap."""

from collections import deque
from typing import Any

import hypothesis.strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.whitebox import ffi, lib, memory

SLOT_BYTES = 5  # odd, so that a slot of the wrong stride shows

records = st.binary(min_size=SLOT_BYTES, max_size=SLOT_BYTES)
starts = st.integers(0, 12).map(lambda back: (2**32 - back) % 2**32)


class RingAgainstDeque(RuleBasedStateMachine):
    @initialize(slots=st.sampled_from([2, 4, 8]), start=starts)
    def open(self, slots: int, start: int) -> None:
        self.memory = memory(lib.zr_spsc_bytes(slots, SLOT_BYTES))
        self.ring: Any = ffi.new("zr_spsc *")
        self.slots = slots
        self.model: deque[bytes] = deque()
        assert (
            lib.zr_spsc_init(self.ring, ffi.cast("zr_spsc_mem *", self.memory), slots, SLOT_BYTES, start) == lib.ZR_OK
        )

    @rule(record=records)
    def push(self, record: bytes) -> None:
        slot = lib.zr_spsc_claim(self.ring)
        assert (slot == ffi.NULL) == (len(self.model) == self.slots)
        if slot != ffi.NULL:
            ffi.memmove(slot, record, SLOT_BYTES)
            lib.zr_spsc_commit(self.ring)
            self.model.append(record)

    @rule(record=records)
    def claim_and_think_better_of_it(self, record: bytes) -> None:
        slot = lib.zr_spsc_claim(self.ring)
        if slot != ffi.NULL:
            ffi.memmove(slot, record, SLOT_BYTES)
            assert lib.zr_spsc_claim(self.ring) == slot

    @rule()
    def look(self) -> None:
        slot = lib.zr_spsc_peek(self.ring)
        assert (slot == ffi.NULL) == (not self.model)
        if slot != ffi.NULL:
            assert bytes(ffi.buffer(slot, SLOT_BYTES)) == self.model[0]

    @precondition(lambda self: self.model)
    @rule()
    def pop(self) -> None:
        self.look()
        lib.zr_spsc_release(self.ring)
        self.model.popleft()

    @invariant()
    def agree(self) -> None:
        assert lib.zr_spsc_depth(self.ring) == len(self.model)
        assert lib.zr_spsc_check(self.ring)


TestRing = RingAgainstDeque.TestCase
