"""Ours at one end of a bad link, a stock engine at the other: it loses nothing, whichever profile ours has.

Both ends send at once. They begin with a burst, stock's into a window smaller than it believes, and twice neither reads
for a while, so that windows shut and have to be found open again. Everything arrives once, in order and intact; neither
end ever takes what the other says for an error; no datagram passes its mtu. Virtual time, seeded links.
"""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from tests.prop.kcp_end import MS, End
from tests.prop.kcp_stock import Stock, stock_end
from tests.whitebox import ffi, lib, memory

CONV, OUR_MTU, STOCK_MTU = 0x5566_7788, 1420, 1200
OUR_WND, STOCK_WND = 32, 128  # receive windows, in segments; stock takes any peer's for 128 until it hears from it
MESSAGES, BURST, EVERY_MS, BOUND_MS = 400, 60, 4, 300_000
DEAF_MS = [range(700), range(1200, 2000)]
#: All segments of a message fit the smaller window, or it could never be complete.
SIZES = [(1, 100), (1000, 1400), (1, 4000), (20_000, 25_000)]
NEAR_THE_END = 2**32 - 150  # both clock and numbers wrap on the way


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

    def __init__(self, profile: str, stream: int, now: int) -> None:
        # Without a deadline and in order: what one hands to a stock peer that must lose nothing.
        conf = {"compat": lib.zr_kcp_conf_compat, "media": lib.zr_kcp_conf_control}[profile](CONV)
        conf.mtu, conf.start_sn, conf.snd_wnd, conf.rcv_wnd, conf.stream = OUR_MTU, NEAR_THE_END, 256, OUR_WND, stream
        self.end = End(conf, now)

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
        assert self.end.counts().window_drops > 0, "the window was never overrun: not the talk that was meant"
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


def messages(seed: int) -> list[bytes]:
    random = Random(seed)
    bounds = random.choices(SIZES, [4, 4, 2, 0.2], k=MESSAGES)
    return [random.randbytes(random.randint(*size)) for size in bounds]


@pytest.mark.parametrize("loss", [0, 0.1, 0.3])
@pytest.mark.parametrize("profile", ["compat", "media"])
@pytest.mark.parametrize(("which", "stream"), [("kcp", 0), ("siokcp", 0), ("siokcp", 1)])
def test_a_stock_engine_at_the_other_end_loses_nothing(which: str, stream: int, profile: str, loss: float) -> None:
    start = now = NEAR_THE_END - 1000
    # A profile without stream mode sends messages into the stock engine's stream.
    ends = [Ours(profile, stream if profile == "compat" else 0, now), Theirs(which, stream, now)]
    links = [Link(loss, seed) for seed in (1, 2)]  # from each end
    sent = [messages(3), messages(4)]
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
    if stream:
        assert [b"".join(texts) for texts in received] == [b"".join(texts) for texts in reversed(sent)]
    else:
        assert received == sent[::-1]
    for link in links:
        assert link.counts().duplicated > 0
        assert link.counts().reordered > 0
        assert link.counts().overflow == 0
        assert (link.counts().lost > 0) == (loss > 0)
    for end in ends:
        end.close()
