"""Two of our ends that talk at once, of any profile, and what somebody puts in between."""

from __future__ import annotations

import heapq
from typing import Any

import pytest

from tests.prop.kcp_wire import PROFILES, Counted, Seg, conf_of
from tests.whitebox import lib

START = 5_000
DELAY = 20
WND, MSS = 128, 1396
REFUSED = {
    lib.ZR_DROP_kcp_cmd: "kcp_cmd", lib.ZR_DROP_kcp_len: "kcp_len", lib.ZR_DROP_kcp_una: "kcp_una",
    lib.ZR_DROP_kcp_ack: "kcp_ack", lib.ZR_DROP_kcp_frg: "kcp_frg",
}  # fmt: skip
every_profile = pytest.mark.parametrize("profile", PROFILES)
#: Compat waits for its grid of 10 ms, at either end.
IN_TIME = DELAY + 20


class Talk:
    """Both ends send at once over a link of 20 ms; whatever else is put in, arrives between two turns."""

    def __init__(self, profile: str, **words: Any) -> None:
        self.profile = profile
        conf = conf_of(profile, **{"snd_wnd": WND, "rcv_wnd": WND, **words})
        self.now = START
        self.ends = [Counted(conf, self.now, packets=2048, blocks=64) for _ in range(2)]
        self.link: list[tuple[int, int, int, bytes]] = []
        self.order = 0
        self.sent: list[list[bytes]] = [[], []]
        self.sent_at: dict[bytes, int] = {}
        self.got: list[list[bytes]] = [[], []]
        self.slowest = 0
        self.deaf: set[int] = set()  # ends that do not read

    def send(self, number: int, size: int = 300) -> None:
        serial = len(self.sent[number])
        message = bytes([number, serial & 0xFF, serial >> 8]) + bytes((serial + i) & 0xFF for i in range(size - 3))
        assert self.ends[number].send(message, self.now) == lib.ZR_OK
        self.sent[number].append(message)
        self.sent_at[message] = self.now

    def turn(self) -> None:
        while self.link and self.link[0][0] <= self.now:
            _, _, to, data = heapq.heappop(self.link)
            assert self.ends[to].input(data, self.now) == lib.ZR_OK
        for number, end in enumerate(self.ends):
            while number not in self.deaf and (message := end.recv()) is not None:
                self.got[number].append(message)
                self.slowest = max(self.slowest, self.now - self.sent_at.get(message, self.now))
            if (at := end.deadline()) is not None and at <= self.now:
                end.on_deadline(self.now)
            for data in end.output(self.now, runs=self.profile != "compat"):
                heapq.heappush(self.link, (self.now + DELAY, self.order, 1 - number, data))
                self.order += 1

    def run(self, ms: int, *, every: int | None = None) -> None:
        for tick in range(ms):
            if every is not None and tick % every == 0:
                for number in range(2):
                    self.send(number)
            self.turn()
            self.now += 1

    def refused(self, number: int, *segs: Seg) -> str | None:
        """Puts a datagram in; the word it is refused with, None when it is taken."""
        end = self.ends[number]
        if end.input(b"".join(seg.pack() for seg in segs), self.now) == lib.ZR_OK:
            return None
        return REFUSED[end.drop[0]]

    def snapshot(self, number: int) -> tuple[Any, ...]:
        end = self.ends[number]
        words, counts, drop = end.words(), end.counts(), {"probe"}
        state = tuple(getattr(words, name) for name in dir(words) if name not in drop)
        return state, tuple(getattr(counts, name) for name in dir(counts)), end.waiting(), end.packets(), end.blocks()

    def finish(self, *, slowest: int, extra: int = 0) -> None:
        """Everything arrived, in time, once; and nothing is left."""
        self.run(600)
        for number in range(2):
            got, sent = self.got[number], self.sent[1 - number]
            got = [message for message in got if message in self.sent_at] if extra else got
            assert (sorted(got) if self.profile == "media" else got) == (
                sorted(sent) if self.profile == "media" else sent
            )
        assert self.slowest <= slowest
        for end in self.ends:
            assert end.check()
            assert end.waiting() == end.packets() == end.blocks() == 0
            assert end.close() == 0


def running(profile: str, **words: Any) -> Talk:
    """In the middle of a transfer: something is in flight both ways, and a round trip is known."""
    talk = Talk(profile, **words)
    talk.run(100, every=5)
    assert all(end.waiting() > 0 for end in talk.ends)
    return talk


def mine(talk: Talk, number: int) -> tuple[int, int, int]:
    words = talk.ends[number].words()
    return words.snd_una, words.snd_nxt, words.rcv_nxt
