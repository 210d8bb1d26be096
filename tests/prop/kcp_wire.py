"""What the KCP properties share beyond one end: the profiles' configurations and segments as they lie on the wire."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

from tests.prop.kcp_end import MS, End
from tests.whitebox import ffi, lib

HEAD = 24
HEAD_MAX = 16  # inline bytes of a message
TAIL = 1021  # first arrival: bytes of the second of two segments
PUSH, ACK, WASK, WINS = 81, 82, 83, 84
PROFILES = ("compat", "control", "media")
_HEADER = struct.Struct("<IBBHIIII")


def conf_of(profile: str, conv: int = 7, **changes: Any) -> Any:
    """The profile's usual configuration, media's with the plan of copies that a node has, and some words changed."""
    usual = {"compat": lib.zr_kcp_conf_compat, "control": lib.zr_kcp_conf_control, "media": lib.zr_kcp_conf_media}
    conf = usual[profile](conv)
    if profile == "media":
        conf.plan = lib.wb_kcp_plan()
        conf.fragments_max = 2
    for name, value in changes.items():
        setattr(conf, name, value)
    return conf


@dataclass(frozen=True)
class Seg:
    cmd: int
    conv: int = 7
    frg: int = 0
    wnd: int = 1024
    ts: int = 0
    sn: int = 0
    una: int = 0
    data: bytes = b""
    length: int | None = None  # what the header claims, if not the truth

    def pack(self) -> bytes:
        length = len(self.data) if self.length is None else self.length
        numbers = (number & 0xFFFF_FFFF for number in (self.ts, self.sn, self.una, length))
        return _HEADER.pack(self.conv, self.cmd, self.frg, self.wnd, *numbers) + self.data


def segments(datagram: bytes) -> list[Seg]:
    out, at = [], 0
    while at < len(datagram):
        conv, cmd, frg, wnd, ts, sn, una, length = _HEADER.unpack_from(datagram, at)
        at += HEAD + length
        out.append(Seg(cmd, conv, frg, wnd, ts, sn, una, datagram[at - length : at]))
    assert at == len(datagram)
    return out


class Counted(End):
    """An end whose counters are held against what was seen to go in and out."""

    def __init__(self, conf: Any, now: int, **room: int) -> None:
        super().__init__(conf, now, **room)
        self.start, self.mss, self.began = conf.start_sn, conf.mtu - HEAD, now
        self.pushes_in = self.pushes_out = self.acks_out = 0
        self.taken = 0  # segments of the messages that recv has given
        self.numbers: set[int] = set()

    def input(self, data: bytes, now: int) -> int:
        rc = super().input(data, now)
        if rc == lib.ZR_OK:
            self.pushes_in += sum(seg.cmd == PUSH for seg in segments(data))
        return rc

    def output_once(self, now: int, runs: bool) -> tuple[list[bytes], bool]:
        """One batch, and whether there is more."""
        rc, size, out = lib.wb_kcp_output(self.raw, runs, now * MS), ffi.new("size_t *"), []
        for i in range(lib.wb_kcp_datagrams(self.raw)):
            data = lib.wb_kcp_datagram(self.raw, i, size)
            out.append(bytes(ffi.buffer(data, size[0])))
        for seg in (seg for datagram in out for seg in segments(datagram)):
            self.acks_out += seg.cmd == ACK
            if seg.cmd == PUSH:
                self.pushes_out += 1
                self.numbers.add(seg.sn)
        return out, rc == lib.ZR_E_full

    def output(self, now: int, runs: bool = False) -> list[bytes]:
        out: list[bytes] = []
        for _ in range(10_000):
            batch, more = self.output_once(now, runs)
            out += batch
            if not more:
                return out
            assert batch, "a full batch that is empty"
        raise AssertionError("output never ends")

    def recv(self) -> bytes | None:
        got = super().recv()
        if got is not None:
            self.taken += max(-(-len(got) // self.mss), 1)
        return got

    def held(self) -> int:
        return int(lib.wb_kcp_held(self.raw))

    def packets(self) -> int:
        return int(lib.wb_kcp_packets(self.raw))

    def blocks(self) -> int:
        return int(lib.wb_kcp_blocks(self.raw))

    def estimates(self) -> Any:
        return lib.wb_kcp_estimated(self.raw)

    def received_span(self) -> int:
        """Numbers below rcv_nxt."""
        return int((self.words().rcv_nxt - self.start) & 0xFFFF_FFFF)

    def gap_open(self) -> bool:
        return bool(self.words().rcv_nxt != lib.wb_kcp_rcv_top(self.raw))

    def assert_conserved(self, now: int, *, stream: bool = False) -> None:
        """Nothing is lost between the counters, and no packet or block is out without a segment that wants it."""
        assert self.check()
        counts, waiting, held = self.counts(), self.waiting(), self.held()
        assert self.packets() <= held + waiting
        assert counts.segs_received == self.pushes_in
        fresh = counts.segs_received - counts.duplicates - counts.window_drops
        if not stream:
            assert 0 <= fresh - self.taken - held <= counts.holes
        assert counts.segs_sent == self.pushes_out
        again = counts.retrans_timeout + counts.retrans_fast + counts.copies
        assert again == self.pushes_out - len(self.numbers)
        assert counts.acks_sent == self.acks_out
        assert counts.late <= counts.duplicates
        assert counts.conflict == 0
        if now - self.began < 60_000:  # a round trip longer than that is not believed
            assert counts.ack_ts == 0
