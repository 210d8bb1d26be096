"""Two lanes joined by a link that loses, repeats and reorders, on a virtual clock, against lists of what was sent.

Media is delivered on first arrival and given up at its deadline. With a deadline longer than any run nothing may be
missing; with the usual one, no more than the senders say that they gave up or a closed end took with it.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections import defaultdict
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.whitebox import ffi, lib, memory

MS = 1_000_000
START = 1_000 * MS
SLOT = 1
PACKETS = 2_048
LEDGER_LINK = lib.ZR_LEDGER_link
CONVS = st.integers(1, 3)
FOR_EVER_MS = 65_535  # more than all steps of a run take


def address(port: int) -> Any:
    return ffi.new("zr_addr *", {"ip": bytes([127, 0, 0, 1]) + bytes(12), "port": port, "family": 4, "pad": 0})[0]


class End:
    """One lane 0 with its pool, page and batch, and a session with the other end's relay."""

    def __init__(
        self, index: int, peer_index: int, port: int, peer_port: int, batch_cap: int, deadline_ms: int
    ) -> None:
        self.addr = address(port + 1)
        self.pool = ffi.new("zr_pool *")
        self._pool_memory = memory(lib.zr_pool_bytes(PACKETS))
        assert lib.zr_pool_init(self.pool, self._pool_memory, PACKETS) == 0
        self._page_memory = memory(lib.zr_stat_bytes(1))
        self.page = ffi.cast("zr_stat_page *", self._page_memory)
        assert lib.zr_stat_init(self.page, 1) == 0
        self.batch = ffi.new("zr_batch *")
        self._batch_memory = memory(lib.zr_batch_bytes(batch_cap, batch_cap * 1500))
        assert lib.zr_batch_init(self.batch, self._batch_memory, batch_cap, batch_cap * 1500) == 0
        conf = ffi.new(
            "zr_lane_conf *",
            {
                "sessions_max": 2,
                "convs_max": 6,
                "peer_lanes_max": 2,
                "blocks_max": 64,
                "window": 32,
                "deadline_ms": deadline_ms,
            },
        )
        self._lane_memory = memory(lib.zr_lane_bytes(conf))
        self.lane = lib.zr_lane_init(self._lane_memory, conf, self.pool, self.page, START)
        assert self.lane != ffi.NULL
        session = ffi.new(
            "zr_session_conf *",
            {
                "index": index,
                "peer_index": peer_index,
                "agent": address(peer_port),
                "lanes": 1,
                "mtu": 1420,
                "rate_mhz": 1000,
            },
        )
        assert lib.zr_lane_session_add(self.lane, SLOT, session, START) == 0
        self.handles: dict[int, int] = {}
        self.received: defaultdict[int, list[tuple[int, int]]] = defaultdict(list)
        self.sent: defaultdict[int, list[tuple[int, int]]] = defaultdict(list)

    def outgoing(self, now: int) -> list[bytes]:
        """Everything that is due, the batch filled as often as it takes."""
        out: list[bytes] = []
        for _ in range(10_000):
            rc = lib.zr_lane_output(self.lane, self.batch, now)
            out += [bytes(ffi.buffer(self.batch.tx[i].data, self.batch.tx[i].len)) for i in range(self.batch.count)]
            lib.zr_batch_reset(self.batch)
            if rc == 0:
                return out
            assert rc == lib.ZR_E_full
        raise AssertionError("output never ends")

    def take_messages(self) -> None:
        user, number, length = (ffi.new("uint32_t *") for _ in range(3))
        while (rc := lib.wb_lane_recv(self.lane, user, number, length)) == 0:
            self.received[user[0]].append((number[0], length[0]))
        assert rc == lib.ZR_E_again


class TwoLanes(RuleBasedStateMachine):
    """Each message arrives at most once; where both ends of its conversation stay open: once, or it was given up."""

    @initialize(
        seed=st.integers(0, 2**32 - 1),
        loss=st.sampled_from([0.0, 0.05, 0.3]),
        repeat=st.sampled_from([0.0, 0.1]),
        jitter_ms=st.sampled_from([0, 5, 60]),
        batch_cap=st.sampled_from([1, 3, 64]),
        lazy=st.sampled_from([0.0, 0.5, 0.9]),
        deadline_ms=st.sampled_from([FOR_EVER_MS, 400]),
    )
    def join(
        self, seed: int, loss: float, repeat: float, jitter_ms: int, batch_cap: int, lazy: float, deadline_ms: int
    ) -> None:
        self.random = random.Random(seed)
        self.deadline_ms = deadline_ms
        self.loss, self.repeat, self.jitter_ms, self.lazy = loss, repeat, jitter_ms, lazy
        self.now = START
        self.ends = [End(11, 22, 5000, 6000, batch_cap, deadline_ms), End(22, 11, 6000, 5000, 64, deadline_ms)]
        self.flying: list[tuple[int, int, int, bytes]] = []  # arrival, order, to which end, datagram
        self.order = itertools.count()
        self.numbers = itertools.count()
        self.gone: set[int] = set()  # closed at one end: never used again

    # -- what happens --

    @rule(conv=CONVS, learn=st.booleans())
    def open_at_both_ends(self, conv: int, learn: bool) -> None:
        self.open(0, conv, learn)
        self.open(1, conv, learn)

    @rule(which=st.integers(0, 1), conv=CONVS, learn=st.booleans())
    def open(self, which: int, conv: int, learn: bool) -> None:
        end = self.ends[which]
        if conv in self.gone or conv in end.handles:
            return
        peer_lane = lib.ZR_LANE_ANY if learn and which == 1 else 0  # only one end may wait to be told
        handle = lib.zr_lane_conv_open(end.lane, SLOT, conv, peer_lane, lib.ZR_CONV_MEDIA, conv, self.now)
        assert handle >= 0
        end.handles[conv] = handle

    @rule(which=st.integers(0, 1), conv=CONVS, length=st.sampled_from([1, 160, 1380, 1381, 1500]))
    def send(self, which: int, conv: int, length: int) -> None:
        end = self.ends[which]
        if conv not in end.handles:
            return
        number = next(self.numbers)
        rc = lib.wb_lane_send(end.lane, end.pool, end.handles[conv], number, length, self.now)
        if rc == 0:
            end.sent[conv].append((number, length))
        else:
            assert rc == lib.ZR_E_full

    @rule(which=st.integers(0, 1), conv=CONVS)
    def send_a_burst(self, which: int, conv: int) -> None:
        for length in [1380] * 6 + [1500] * 3 + [100] * 9:
            self.send(which, conv, length)

    @precondition(lambda self: len(self.gone) < 2)
    @rule(which=st.integers(0, 1), conv=CONVS, unread=st.booleans())
    def close(self, which: int, conv: int, unread: bool) -> None:
        end = self.ends[which]
        if conv in end.handles:
            if unread:
                self.send_a_burst(1 - which, conv)
                lazy, self.lazy = self.lazy, 1.0
                self.pass_time(15)
                self.lazy = lazy
            lib.zr_lane_conv_close(end.lane, end.handles.pop(conv))
            self.gone.add(conv)

    @rule(ms=st.sampled_from([1, 15, 120, 900]))
    def pass_time(self, ms: int) -> None:
        until = self.now + ms * MS
        for _ in range(20_000):
            self.turn()
            at = min([end_deadline for end in self.ends if (end_deadline := lib.zr_lane_deadline(end.lane))] + [until])
            at = min(at, self.flying[0][0]) if self.flying else at
            if at >= until:
                break
            self.now = max(at, self.now + MS // 4)
        else:
            raise AssertionError("the lanes never rest")
        self.now = until

    def turn(self) -> None:
        """As a worker's: input, messages, deadlines, output."""
        while self.flying and self.flying[0][0] <= self.now:
            _, _, to, data = heapq.heappop(self.flying)
            end, sender = self.ends[to], self.ends[1 - to]
            lib.wb_lane_input(end.lane, end.pool, end.page, ffi.addressof(sender.addr), data, len(data), self.now)
        for which, end in enumerate(self.ends):
            if self.random.random() >= self.lazy:  # else they wait, and the window may shut
                end.take_messages()
            lib.zr_lane_on_deadline(end.lane, self.now)
            for data in end.outgoing(self.now):
                self.launch(1 - which, data)

    def launch(self, to: int, data: bytes) -> None:
        for _ in range(2 if self.random.random() < self.repeat else 1):
            if self.random.random() >= self.loss:
                delay = (5 + self.random.random() * self.jitter_ms) * MS
                heapq.heappush(self.flying, (self.now + int(delay), next(self.order), to, data))

    # -- what must hold --

    @invariant()
    def nothing_arrives_twice_or_altered(self) -> None:
        for which, end in enumerate(getattr(self, "ends", [])):
            for conv, got in end.received.items():
                assert len(set(got)) == len(got)
                assert set(got) <= set(self.ends[1 - which].sent[conv])

    @invariant()
    def every_datagram_is_accounted_for_and_no_structure_is_torn(self) -> None:
        for end in getattr(self, "ends", []):
            assert lib.zr_ledger_off(end.page, LEDGER_LINK) == 0
            assert lib.zr_lane_check(end.lane)
            assert lib.zr_pool_check(end.pool)

    def open_at_both(self) -> set[int]:
        return set(self.ends[0].handles) & set(self.ends[1].handles)

    def missing(self, which: int) -> set[tuple[int, int]]:
        """What end `which` sent on conversations still open at both ends, and the other has not got."""
        got, sent = self.ends[1 - which].received, self.ends[which].sent
        return {message for conv in self.open_at_both() for message in set(sent[conv]) - set(got[conv])}

    def all_arrived(self) -> bool:
        return all(
            len(self.missing(which)) <= (0 if self.deadline_ms == FOR_EVER_MS else self.given_up(which))
            for which in (0, 1)
        )

    def given_up(self, which: int) -> int:
        return int(lib.wb_stat(self.ends[which].page, lib.ZR_STAT_kcp_expired))

    def teardown(self) -> None:
        if not hasattr(self, "ends"):
            return
        self.loss = self.lazy = 0.0
        for _ in range(400):  # what a window refuses now goes through later
            if all(self.ends[0].received[conv] or self.ends[0].sent[conv] for conv in self.open_at_both()):
                break
            for conv in self.open_at_both():
                self.send(0, conv, 1)
        for _ in range(200):
            if self.all_arrived():
                break
            self.pass_time(900)
        assert self.all_arrived(), "both ends are open, but messages are missing"
        last = {conv: next(self.numbers) for conv in self.open_at_both()}
        for conv, number in last.items():
            end = self.ends[0]
            assert lib.wb_lane_send(end.lane, end.pool, end.handles[conv], number, 100, self.now) == 0
            end.sent[conv].append((number, 100))
        self.pass_time(900)
        for conv, number in last.items():
            assert (number, 100) in self.ends[1].received[conv], "nothing is lost any more, but does not arrive"
        for end in self.ends:
            lib.zr_lane_fini(end.lane)
            assert lib.zr_lane_check(end.lane)
            assert end.pool.in_use == 0


TestTwoLanes = TwoLanes.TestCase
