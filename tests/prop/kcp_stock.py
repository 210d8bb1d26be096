"""The stock engines of the wheels, set up alike however they are reached; shared by the KCP properties.

`conf` has mtu, snd_wnd, rcv_wnd, start_sn, interval_ms, nodelay, resend, nc and stream.
"""

from __future__ import annotations

from typing import Any, ClassVar, Protocol

import pytest

from relay.bench.stock import StockEngine

siokcp = pytest.importorskip("siokcp")
pytest.importorskip("kcp")

#: Ours -> theirs, where the names differ.
WORDS = {
    "state": "state", "snd_una": "snd_una", "snd_nxt": "snd_nxt", "rcv_nxt": "rcv_nxt", "ssthresh": "ssthresh",
    "rmt_wnd": "rmt_wnd", "cwnd": "cwnd", "incr": "incr", "probe": "probe", "ts_flush": "ts_flush",
    "ts_probe": "ts_probe", "probe_wait": "probe_wait", "rto": "rto", "nrcv_buf": "nrcv_buf",
    "nrcv_que": "nrcv_que", "nsnd_que": "nsnd_que", "timeouts": "xmit", "srtt": "srtt", "rttvar": "rttvar",
}  # fmt: skip


class Stock(Protocol):
    """What a test needs of a stock engine."""

    empty_messages: bool  # can it be told to send one?

    def send(self, data: bytes) -> int: ...
    def input(self, data: bytes) -> int: ...
    def recv(self) -> bytes | None: ...
    def recv_code(self, size: int) -> int | None: ...
    def update(self, now: int) -> None: ...
    def check(self, now: int) -> int: ...
    def flush(self) -> None: ...
    def waitsnd(self) -> int: ...
    def words(self) -> dict[str, int]: ...
    def close(self) -> None: ...


class Exported(StockEngine):
    """Through the functions that the wheel exports."""

    empty_messages = True

    def __init__(self, which: Any, conv: int, conf: dict[str, Any], sent: list[bytes]) -> None:
        super().__init__(which, conv, sent.append)
        assert not conf["stream"]
        assert self.setmtu(conf["mtu"]) == 0
        assert self.nodelay(conf["nodelay"], conf["interval_ms"], conf["resend"], conf["nc"]) == 0
        assert self.wndsize(conf["snd_wnd"], max(conf["rcv_wnd"], 128)) == 0
        self.set_word("rcv_wnd", conf["rcv_wnd"])
        for name in ("snd_una", "snd_nxt", "rcv_nxt"):
            self.set_word(name, conf["start_sn"])


class Class:
    """Through the class of the wheel `siokcp`, which reaches stream mode."""

    empty_messages = False
    #: Where the wheel's names differ from the C names.
    NAMES: ClassVar = {"rto": "rx_rto", "srtt": "rx_srtt", "rttvar": "rx_rttval"}

    def __init__(self, conv: int, conf: dict[str, Any], sent: list[bytes]) -> None:
        self.raw = siokcp.KCPConnection(conv, lambda data: sent.append(bytes(data)) or 0, lambda *_: None)
        self.raw.setmtu(conf["mtu"])
        self.raw.nodelay(conf["nodelay"], conf["interval_ms"], conf["resend"], conf["nc"])
        self.raw.wndsize(conf["snd_wnd"], max(conf["rcv_wnd"], 128))
        self.raw.rcv_wnd = conf["rcv_wnd"]
        self.raw.stream = conf["stream"]
        self.raw.snd_una = self.raw.snd_nxt = self.raw.rcv_nxt = conf["start_sn"]
        self.send, self.input, self.recv = self.raw.send, self.raw.receive_data, self.raw.next_event
        self.check, self.flush, self.waitsnd = self.raw.check, self.raw.flush, self.raw.waitsnd

    def recv_code(self, size: int) -> int | None:
        return None  # not to be had here

    def update(self, now: int) -> None:
        self.raw.update(now & 0xFFFF_FFFF)

    def words(self) -> dict[str, int]:
        words = {name: getattr(self.raw, self.NAMES.get(name, name)) for name in WORDS.values()}
        return words | {"state": words["state"] & 0xFFFF_FFFF}

    def close(self) -> None:
        pass


def stock_end(which: str, conv: int, conf: dict[str, Any], sent: list[bytes]) -> Stock:
    """Puts its datagrams into `sent`. Stream mode with "siokcp" only."""
    return Class(conv, conf, sent) if conf["stream"] else Exported(which, conv, conf, sent)
