"""Two of our conversations over a bad link on a virtual clock.

Stock's rules and media's, both in order. Whatever is lost, repeated or reordered on the way: every message arrives
exactly once, in order, byte for byte; the engine asks to be called exactly when it has something to send; the counters
add up to what went in and out; and every packet and block comes back.
"""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule

from tests.prop.kcp_ends import ENDS, TwoEnds
from tests.prop.kcp_wire import Counted, conf_of
from tests.whitebox import lib


class Talk(TwoEnds):
    @initialize(
        conf=st.fixed_dictionaries(
            {
                "mtu": st.sampled_from([50, 576, 1420]),
                "snd_wnd": st.sampled_from([4, 128, 1024]),
                "rcv_wnd": st.sampled_from([4, 128, 1024]),
                "start_sn": st.just(0) | st.integers(2**32 - 80, 2**32 - 1),
            }
        ),
        stock=st.none()
        | st.fixed_dictionaries(
            {
                "nodelay": st.integers(0, 2),
                "nc": st.integers(0, 1),
                "stream": st.integers(0, 1),
                "conservative": st.booleans(),
            }
        ),
        now=st.sampled_from([0, 2**31 - 3000, 2**32 - 3000]),
        datagrams=st.sampled_from([1, 2, 64]),
        runs=st.booleans(),
    )
    def start(self, conf: dict[str, Any], stock: dict[str, Any] | None, now: int, datagrams: int, runs: bool) -> None:
        self.now, self.runs, self.seed = now, runs, 0
        self.conf = conf_of("control", **conf) if stock is None else conf_of("compat", **conf, **stock)
        self.at_once = stock is None
        self.ends = [Counted(self.conf, now, datagrams=datagrams) for _ in range(2)]
        self.link = [[], []]
        self.sent: list[list[bytes]] = [[], []]  # by each end, not yet received at the other
        self.turn()

    @rule(
        number=ENDS, head=st.integers(0, 16), size=st.integers(1, 100) | st.integers(1, 1900), count=st.integers(1, 5)
    )
    def send(self, number: int, head: int, size: int, count: int) -> None:
        segments = -(-(head + size) // (self.conf.mtu - 24))
        if not self.conf.stream and segments > self.conf.rcv_wnd:
            return  # could never be completed; the receiver calls it a violation
        for _ in range(count):
            self.seed += 1
            message = bytes((self.seed * 7 + i) & 0xFF for i in range(head + size))
            rc = self.ends[number].send_view(message[:head], message[head:], self.now)
            if rc == lib.ZR_OK:
                self.sent[number].append(message)
            else:
                assert rc in (lib.ZR_E_full, lib.ZR_E_oversize)
        self.turn()

    @rule(by=st.integers(0, 15) | st.integers(0, 300) | st.sampled_from([5_000, 61_000]))
    def wait(self, by: int) -> None:
        self.now += by
        self.turn()

    @rule(number=ENDS, most=st.integers(1, 50))
    def recv(self, number: int, most: int) -> None:
        for _ in range(most):
            if not self._recv_one(number):
                break
        self.turn()

    def _recv_one(self, number: int) -> bool:
        got = self.ends[number].recv()
        if got is None:
            return False
        due = self.sent[1 - number]
        if not self.conf.stream:
            assert got == due.pop(0)
            return True
        while got:  # message boundaries mean nothing, the bytes do
            part = due[0][: len(got)]
            assert got[: len(part)] == part
            got, due[0] = got[len(part) :], due[0][len(part) :]
            if not due[0]:
                due.pop(0)
        return True

    @invariant()
    def sound(self) -> None:
        for end in getattr(self, "ends", []):
            end.assert_conserved(self.now, stream=bool(self.conf.stream))

    def teardown(self) -> None:
        if not hasattr(self, "ends"):
            return
        for _ in range(
            10_000
        ):  # a link that has become good: everything arrives; stock waits up to 60 s, in steps of 10 ms
            for number in range(2):
                for data in self.link[number]:
                    self.give(number, data)
                self.link[number] = []
                while self._recv_one(number):
                    pass
            self.turn()
            if not any(self.link) and not any(self.sent) and not any(end.waiting() for end in self.ends):
                break
            wakes = [at for end in self.ends if (at := end.deadline()) is not None]
            assert any(self.link) or wakes, "something is outstanding and nobody would ever wake"
            if not any(self.link):
                self.now = max(self.now, min(wakes))
                self.turn()
        assert not any(self.sent)
        for end in self.ends:
            assert end.waiting() == end.held() == end.packets() == end.blocks() == 0
            assert end.received_span() == len(self.numbers_to(end))
            assert end.close() == 0

    def numbers_to(self, end: Counted) -> set[int]:
        return self.ends[end is self.ends[0]].numbers


TestTalk = Talk.TestCase
