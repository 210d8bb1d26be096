"""Lock-step with the stock engine: the same calls, datagrams and clock to ours and to `siokcp`.

Two pairs of twins talk over one link that loses, repeats and reorders. After every step both twins of a pair have put
out the same datagrams, byte for byte, and agree in every state word. The link carries the (identical) datagrams to both
twins of the other pair. Hardening is off: it departs on purpose.
"""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.prop.kcp_end import End
from tests.whitebox import lib

siokcp = pytest.importorskip("siokcp")

CONV = 0x1122_3344
MASK = 0xFFFF_FFFF
#: Ours -> theirs, where the names differ.
WORDS = {
    "state": "state", "snd_una": "snd_una", "snd_nxt": "snd_nxt", "rcv_nxt": "rcv_nxt", "ssthresh": "ssthresh",
    "rmt_wnd": "rmt_wnd", "cwnd": "cwnd", "incr": "incr", "probe": "probe", "ts_flush": "ts_flush",
    "ts_probe": "ts_probe", "probe_wait": "probe_wait", "rto": "rx_rto", "nrcv_que": "nrcv_que",
    "nsnd_que": "nsnd_que", "timeouts": "xmit", "srtt": "rx_srtt", "rttvar": "rx_rttval",
}  # fmt: skip


class Pair:
    """One end of the conversation, twice."""

    def __init__(self, conf: dict[str, Any], now: int) -> None:
        self.snd_max = min(2 * conf["snd_wnd"], 8192)
        self.ours = End(
            dict(conf, conv=CONV, fragments_max=127, flush_at_once=False, conservative=True, harden=False), now
        )
        self.sent: list[bytes] = []
        self.stock = siokcp.KCPConnection(CONV, self._on_output, lambda *_: None)
        self.stock.setmtu(conf["mtu"])
        self.stock.nodelay(conf["nodelay"], conf["interval_ms"], conf["resend"], conf["nc"])
        self.stock.wndsize(conf["snd_wnd"], max(conf["rcv_wnd"], 128))
        self.stock.rcv_wnd = conf["rcv_wnd"]
        self.stock.stream = conf["stream"]
        self.stock.snd_una = self.stock.snd_nxt = self.stock.rcv_nxt = conf["start_sn"]
        self.update(now)

    def _on_output(self, data: bytes) -> int:
        self.sent.append(bytes(data))
        return 0

    def send(self, data: bytes, now: int) -> None:
        rc = self.ours.send(data, now)
        if rc in (lib.ZR_E_full, lib.ZR_E_oversize):  # stock has no bound; ours is checked in the C tests
            return
        assert rc == lib.ZR_OK
        assert self.stock.send(data) >= 0

    def input(self, data: bytes, now: int) -> None:
        assert self.ours.input(data, now) == lib.ZR_OK
        assert self.stock.receive_data(data) == 0

    def recv(self) -> bytes | None:
        got = self.ours.recv()
        assert got == self.stock.next_event()
        return got

    def update(self, now: int) -> list[bytes]:
        self.ours.on_deadline(now)
        self.stock.update(now & MASK)
        return self.put_out(now)

    def flush(self, now: int) -> list[bytes]:
        self.ours.flush()
        self.stock.flush()
        return self.put_out(now)

    def put_out(self, now: int) -> list[bytes]:
        theirs, self.sent = self.sent, []
        ours = self.ours.output(now)
        assert ours == theirs
        return ours

    def agree(self) -> None:
        words = self.ours.words()
        ours = {name: getattr(words, name) for name in WORDS}
        theirs = {name: getattr(self.stock, their) for name, their in WORDS.items()}
        assert ours == {name: value & MASK if name == "state" else value for name, value in theirs.items()}
        assert self.ours.waiting() == self.stock.waitsnd()
        assert self.ours.check()


class Twins(RuleBasedStateMachine):
    @initialize(
        conf=st.fixed_dictionaries(
            {
                "mtu": st.sampled_from([50, 100, 576, 1400]),
                "snd_wnd": st.sampled_from([4, 32, 128, 1024]),
                "rcv_wnd": st.sampled_from([8, 32, 128]),
                "start_sn": st.sampled_from([0, 5]) | st.integers(2**32 - 80, 2**32 - 1),
                "interval_ms": st.sampled_from([10, 20, 100]),
                "nodelay": st.integers(0, 2),
                "resend": st.sampled_from([0, 1, 2]),
                "nc": st.integers(0, 1),
                "stream": st.integers(0, 1),
            }
        ),
        now=st.sampled_from([0, 1000, 2**31 - 3000, 2**32 - 3000]),
    )
    def start(self, conf: dict[str, Any], now: int) -> None:
        self.now = now
        self.ends = [Pair(conf, now), Pair(conf, now)]
        self.link: list[list[bytes]] = [[], []]  # datagrams on their way to each end
        self.seed = 0

    def carry(self, end: int, datagrams: list[bytes]) -> None:
        self.link[1 - end] += datagrams

    def body(self, size: int) -> bytes:
        self.seed += 1
        return bytes((self.seed * 7 + i) & 0xFF for i in range(size))

    @rule(end=st.integers(0, 1), size=st.integers(1, 60) | st.integers(1, 3000), count=st.integers(1, 6))
    def send(self, end: int, size: int, count: int) -> None:
        pair = self.ends[end]
        for _ in range(count):
            if size <= 127 * (pair.stock.mtu - 24):
                pair.send(self.body(size), self.now)

    @rule(by=st.integers(0, 40) | st.integers(0, 400))
    def wait(self, by: int) -> None:
        self.now += by
        for end, pair in enumerate(self.ends):
            self.carry(end, pair.update(self.now))

    @rule(by=st.sampled_from([1500, 7000, 9999, 10_000, 30_000]))
    def wait_long(self, by: int) -> None:
        self.wait(by)

    @rule(end=st.integers(0, 1), count=st.integers(1, 20))
    def deliver(self, end: int, count: int) -> None:
        for _ in range(min(count, len(self.link[end]))):
            self.ends[end].input(self.link[end].pop(0), self.now)

    @rule(end=st.integers(0, 1), pick=st.integers(0, 1000))
    def deliver_out_of_order(self, end: int, pick: int) -> None:
        if self.link[end]:
            self.ends[end].input(self.link[end].pop(pick % len(self.link[end])), self.now)

    @rule(end=st.integers(0, 1), pick=st.integers(0, 1000))
    def deliver_twice(self, end: int, pick: int) -> None:
        if self.link[end]:
            self.ends[end].input(self.link[end][pick % len(self.link[end])], self.now)

    @rule(end=st.integers(0, 1), pick=st.integers(0, 1000), count=st.integers(1, 4))
    def lose(self, end: int, pick: int, count: int) -> None:
        for _ in range(min(count, len(self.link[end]))):
            self.link[end].pop(pick % len(self.link[end]))

    @rule(end=st.integers(0, 1), most=st.integers(1, 40))
    def recv(self, end: int, most: int) -> None:
        for _ in range(most):
            if self.ends[end].recv() is None:
                break

    @rule(end=st.integers(0, 1))
    def flush(self, end: int) -> None:
        self.carry(end, self.ends[end].flush(self.now))

    @invariant()
    def agree(self) -> None:
        for pair in getattr(self, "ends", []):
            pair.agree()

    def teardown(self) -> None:
        for pair in getattr(self, "ends", []):
            assert pair.ours.close() == 0


Twins.TestCase.settings = settings(
    max_examples=120, stateful_step_count=60, deadline=None, suppress_health_check=list(HealthCheck)
)
TestTwins = Twins.TestCase


@pytest.mark.parametrize("loss", [0.1, 0.6])
@pytest.mark.parametrize("nodelay", [0, 1, 2])
def test_the_twins_agree_over_a_long_bad_talk_with_shut_windows(loss: float, nodelay: int) -> None:
    """What random steps reach too rarely: many fast resends of one segment, back-off, several probes in a row."""
    random, now = Random(int(loss * 10) + nodelay), 2**32 - 20_000
    conf = {"mtu": 100, "snd_wnd": 32, "rcv_wnd": 16, "start_sn": 2**32 - 100, "interval_ms": 10, "nodelay": nodelay,
            "resend": 1, "nc": nodelay % 2, "stream": 0}  # fmt: skip
    ends, link = [Pair(conf, now), Pair(conf, now)], [[], []]  # type: ignore[var-annotated]
    for turn in range(6000):
        now += 10
        stalled = turn % 3000 > 1500  # nobody reads for 15 s
        for number, end in enumerate(ends):
            # First the clock: stock measures by the time of its last update.
            lossy = loss if not stalled else 0
            arriving = [(now + 30, datagram) for datagram in end.update(now) if random.random() >= lossy]
            link[1 - number] += arriving
            if random.random() < 0.3:
                end.send(bytes(random.randrange(1, 200)), now)
            while link[number] and link[number][0][0] <= now:
                end.input(link[number].pop(0)[1], now)
            while not stalled and end.recv() is not None:
                pass
            end.agree()
    for end in ends:
        assert end.ours.close() == 0
