"""Ours at one end of a bad link, a stock engine at the other: it loses nothing, whichever profile ours has.

Both ends send at once. They begin with a burst, stock's into a window smaller than it believes, and twice neither reads
for a while, so that windows shut and have to be found open again. Everything arrives once and intact, in order but for
what our media profile takes on first arrival; neither end ever takes what the other says for an error; no datagram
passes its mtu. Virtual time, seeded links.
"""

from __future__ import annotations

import os
from random import Random
from typing import Any

import pytest

from tests.prop.kcp_end import MS, End
from tests.prop.kcp_stock import Stock, stock_end
from tests.prop.kcp_wire import HEAD, PUSH, TAIL, conf_of, segments
from tests.whitebox import ffi, lib, memory

CONV, OUR_MTU, STOCK_MTU = 0x5566_7788, 1420, 1200
OUR_WND, STOCK_WND = 32, 128  # receive windows, in segments; stock takes any peer's for 128 until it hears from it
MESSAGES, BURST, EVERY_MS, BOUND_MS = 400, 60, 4, 300_000
SEEDS = range(10 if os.environ.get("ZR_FULL") else 2)
DEAF_MS = [range(700), range(1200, 2000)]
#: All segments of a message fit the smaller window, or it could never be complete.
SIZES = {(1, 100): 4, (1000, 1400): 4, (1, 4000): 2, (20_000, 25_000): 0.2}
#: What first arrival allows: ours of two segments at most, stock's of one. A stock message as long as the second of two
#: is told from it by the number before, which comes in the end.
OUR_TWO = {(1, 100): 4, (1000, 1400): 4, (OUR_MTU - HEAD + 1, OUR_MTU - HEAD + TAIL): 4}
STOCK_ONE = {(1, 100): 4, (1000, STOCK_MTU - HEAD): 4, (TAIL, TAIL): 1}
NEAR_THE_END = 2**32 - 150  # both clock and numbers wrap on the way
DEADLINE_MS, FOLLOWED_MS = 400, 10_000


class Link:
    """One way, through the product's own link model: 30 ms, late by up to 20 more, some early, some twice."""

    def __init__(self, loss: float, seed: int) -> None:
        conf = ffi.new(
            "zr_simlink_conf *",
            {"delay": 30 * MS, "jitter": 20 * MS, "loss": loss, "dup": 0.03, "reorder": 0.05, "packets_max": 1 << 14,
             "seed": seed},
        )  # fmt: skip
        self.memory = memory(lib.zr_simlink_bytes(conf))
        self.raw = ffi.cast("zr_simlink *", self.memory)
        assert lib.zr_simlink_init(self.raw, conf) == lib.ZR_OK

    def put(self, datagrams: list[bytes], now: int) -> None:
        for datagram in datagrams:
            assert lib.zr_simlink_put(self.raw, datagram, len(datagram), 0, now * MS) == lib.ZR_OK

    def get(self, now: int) -> list[bytes]:
        data, tag, out = ffi.new("const uint8_t **"), ffi.new("uint64_t *"), []
        while (size := lib.zr_simlink_get(self.raw, data, tag, now * MS)) >= 0:
            out.append(bytes(ffi.buffer(data[0], size)))
        return out

    def counts(self) -> Any:
        return lib.zr_simlink_counted(self.raw)


class Ours:
    mtu = OUR_MTU

    def __init__(self, profile: str, stream: int, now: int, deadline_ms: int = 0) -> None:
        words = {"mtu": OUR_MTU, "start_sn": NEAR_THE_END, "snd_wnd": 256, "rcv_wnd": OUR_WND, "stream": stream}
        # Without a deadline: what one hands to a stock peer that must lose nothing.
        self.end = End(conf_of(profile, CONV, deadline_ms=deadline_ms, **words), now)

    def turn(self, arrived: list[bytes], now: int) -> list[bytes]:
        for datagram in arrived:
            assert self.end.input(datagram, now) == lib.ZR_OK
        deadline = self.end.deadline()
        if deadline is not None and deadline <= now:
            self.end.on_deadline(now)
        return self.end.output(now)

    def send(self, message: bytes, now: int) -> bool:
        rc = self.end.send(message, now)
        assert rc in (lib.ZR_OK, lib.ZR_E_full)
        return bool(rc == lib.ZR_OK)

    def recv(self) -> bytes | None:
        return self.end.recv()

    def waiting(self) -> int:
        return self.end.waiting()

    def close(self) -> None:
        assert self.end.check()
        assert self.end.close() == 0


class Theirs:
    mtu = STOCK_MTU

    def __init__(self, which: str, stream: int, now: int) -> None:
        conf = {"mtu": STOCK_MTU, "start_sn": NEAR_THE_END, "snd_wnd": 256, "rcv_wnd": STOCK_WND, "interval_ms": 10,
                "nodelay": 1, "resend": 2, "nc": 1, "stream": stream}  # fmt: skip
        self.sent: list[bytes] = []
        self.end: Stock = stock_end(which, CONV, conf, self.sent)
        self.end.update(now)

    def turn(self, arrived: list[bytes], now: int) -> list[bytes]:
        self.end.update(now)  # it measures by the time of its last update
        for datagram in arrived:
            assert self.end.input(datagram) == 0
        out = self.sent[:]
        self.sent.clear()
        return out

    def send(self, message: bytes, now: int) -> bool:
        return self.end.waitsnd() < 512 and self.end.send(message) >= 0

    def recv(self) -> bytes | None:
        return self.end.recv()

    def waiting(self) -> int:
        return self.end.waitsnd()

    def close(self) -> None:
        self.end.close()


def messages(seed: int, sizes: dict[tuple[int, int], float]) -> list[bytes]:
    random = Random(seed)
    bounds = random.choices(list(sizes), list(sizes.values()), k=MESSAGES)
    return [random.randbytes(random.randint(*size)) for size in bounds]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("loss", [0, 0.1, 0.3])
@pytest.mark.parametrize(
    ("which", "stream", "profile"),
    [
        *((which, 0, profile) for which in ("kcp", "siokcp") for profile in ("compat", "control", "media")),
        *(("siokcp", 1, profile) for profile in ("compat", "control")),
    ],
)
def test_a_stock_engine_at_the_other_end_loses_nothing(
    which: str, stream: int, profile: str, loss: float, seed: int
) -> None:
    start = now = NEAR_THE_END - 1000
    # A profile without stream mode sends messages into the stock engine's stream.
    ours, theirs = Ours(profile, stream if profile == "compat" else 0, now), Theirs(which, stream, now)
    ends = [ours, theirs]
    links = [Link(loss, 10 * seed + number) for number in (1, 2)]  # from each end
    sizes = (OUR_TWO, STOCK_ONE) if profile == "media" else (SIZES, SIZES)
    sent = [messages(10 * seed + number, each) for number, each in zip((3, 4), sizes, strict=True)]
    unsent = [list(reversed(texts)) for texts in sent]
    received: list[list[bytes]] = [[], []]
    while any(unsent) or any(end.waiting() for end in ends):
        now += 1
        assert now - start < BOUND_MS, [len(texts) for texts in (*unsent, *received)]
        deaf = any(now - start in span for span in DEAF_MS)
        burst = BURST if now - start == 1 else int((now - start) % EVERY_MS == 0)
        for number, end in enumerate(ends):
            for _ in range(burst):
                if unsent[number] and end.send(unsent[number][-1], now):
                    unsent[number].pop()
            out = end.turn(links[1 - number].get(now), now)
            assert all(len(datagram) <= end.mtu for datagram in out)
            links[number].put(out, now)
            while not deaf and (got := end.recv()) is not None:
                received[number].append(got)
    if profile == "media":
        assert received[0] != sent[1], "nothing overtook anything: not the talk that was meant"
        received[0].sort()
        sent[1].sort()
    if stream:
        assert [b"".join(texts) for texts in received] == [b"".join(texts) for texts in reversed(sent)]
    else:
        assert received == sent[::-1]
    for link in links:
        assert link.counts().duplicated > 0
        assert link.counts().reordered > 0
        assert link.counts().overflow == 0
        assert (link.counts().lost > 0) == (loss > 0)
    assert ours.end.counts().window_drops > 0, "the window was never overrun: not the talk that was meant"
    for end in ends:
        end.close()


def without(datagrams: list[bytes], sn: int) -> list[bytes]:
    """The datagrams, less every PUSH of that number."""
    kept = ([seg for seg in segments(data) if seg.cmd != PUSH or seg.sn != sn] for data in datagrams)
    return [b"".join(seg.pack() for seg in segs) for segs in kept if segs]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("which", ["kcp", "siokcp"])
def test_a_stock_sender_follows_our_una_past_a_number_that_never_comes(which: str, seed: int) -> None:
    """Our window is used up behind the gap, so that stock can go on only by what una tells it."""
    start = now = NEAR_THE_END - 1000
    ours, theirs = Ours("media", 0, now, DEADLINE_MS), Theirs(which, 0, now)
    there, back = Link(0, 10 * seed + 1), Link(0.1, 10 * seed + 2)
    sent = messages(10 * seed + 3, STOCK_ONE)
    lost = MESSAGES // 2  # its message, and how far its number is from the first
    lost_sn = (NEAR_THE_END + lost) & 0xFFFF_FFFF
    unsent, received, tries = list(reversed(sent)), [], 0  # type: ignore[var-annotated]
    gap_at = passed_at = followed_at = 0
    while unsent or theirs.waiting():
        now += 1
        assert now - start < FOLLOWED_MS, (len(unsent), len(received))
        if unsent and now % EVERY_MS == 0 and theirs.send(unsent[-1], now):
            unsent.pop()
        out = theirs.turn(back.get(now), now)
        tries += sum(seg.cmd == PUSH and seg.sn == lost_sn for data in out for seg in segments(data))
        there.put(without(out, lost_sn), now)
        arrived = there.get(now)
        if any(0 < seg.sn - lost_sn < OUR_WND for data in arrived for seg in segments(data) if seg.cmd == PUSH):
            gap_at = gap_at or now
        back.put(ours.turn(arrived, now), now)
        while (got := ours.recv()) is not None:
            received.append(got)
        passed = (ours.end.words().rcv_nxt - NEAR_THE_END) & 0xFFFF_FFFF
        followed = (theirs.end.words()["snd_una"] - NEAR_THE_END) & 0xFFFF_FFFF
        passed_at = passed_at or (now if passed > lost else 0)
        followed_at = followed_at or (now if followed > lost else 0)
        assert followed <= passed
    assert sorted(received) == sorted(sent[:lost] + sent[lost + 1 :])
    assert ours.end.counts().holes == 1
    assert ours.end.counts().window_drops == 0
    assert tries > 1
    assert DEADLINE_MS <= passed_at - gap_at <= DEADLINE_MS + DEADLINE_MS // 32 + 1
    assert followed_at - passed_at <= 200  # 30 to 50 ms on its way, said several times
    for end in (ours, theirs):
        end.close()
