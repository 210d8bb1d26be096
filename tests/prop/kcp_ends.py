"""What every model of two conversations does to the link between them; the messages are the model's own."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from tests.prop.kcp_wire import Counted
from tests.whitebox import ffi, lib

ENDS = st.integers(0, 1)


class TwoEnds(RuleBasedStateMachine):
    """A model sets these when it starts, and then calls ``turn``."""

    conf: ffi.CData
    ends: list[Counted]
    link: list[list[bytes]]  # datagrams on their way to each end
    now: int  # ms
    runs: bool
    at_once: bool  # nothing waits for a grid: output is made when something is due, and only then

    def turn(self) -> None:
        """What a worker does: call what is due, send what comes out."""
        for number, end in enumerate(self.ends):
            deadline = end.deadline()
            if deadline is not None and deadline <= self.now:
                end.on_deadline(self.now)
            due = end.due(self.now)
            out = end.output(self.now, self.runs)
            if self.at_once:
                assert due or not out
            assert not end.due(self.now), "due for nothing: a worker would spin"
            assert all(len(datagram) <= self.conf.mtu for datagram in out)
            self.link[1 - number] += out

    def give(self, number: int, data: bytes) -> None:
        assert self.ends[number].input(data, self.now) == lib.ZR_OK

    @rule(number=ENDS, picks=st.lists(st.integers(0, 1000), max_size=20))
    def deliver(self, number: int, picks: list[int]) -> None:
        for pick in picks:
            if self.link[number]:
                self.give(number, self.link[number].pop(pick % len(self.link[number])))
        self.turn()

    @rule(number=ENDS, pick=st.integers(0, 1000))
    def deliver_twice(self, number: int, pick: int) -> None:
        if self.link[number]:
            self.give(number, self.link[number][pick % len(self.link[number])])
            self.turn()

    @rule(number=ENDS, picks=st.lists(st.integers(0, 1000), max_size=20))
    def lose(self, number: int, picks: list[int]) -> None:
        for pick in picks:
            if self.link[number]:
                self.link[number].pop(pick % len(self.link[number]))

    @rule(number=ENDS)
    def one_batch(self, number: int) -> None:
        """An output that stops where the batch is full, and is not called again before something else happens."""
        out, _ = self.ends[number].output_once(self.now, self.runs)
        self.link[1 - number] += out
