"""A stock KCP engine to measure against and to test with: the C engine inside the wheels `kcp` and `siokcp`.

Both wheels export the published C functions (`ikcp_create` ... `ikcp_release`) from their extension modules. They are
called directly: with the caller's clock, without the wheel's own Python layer, and with nothing of it imported.

    kcp 0.1.6      C 1.7: the plain fast resend rule; send returns 0
    siokcp 0.0.5   C 1.7.1: the conservative rule; send returns the bytes taken

Message mode only: stream mode is a field that no function sets. Not thread-safe, one engine per conversation.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from importlib.machinery import PathFinder
from importlib.util import find_spec
from types import TracebackType
from typing import Literal, Self

Which = Literal["kcp", "siokcp"]

#: The control block begins with these, 32 bits each, in this order in every version.
WORDS = (
    "conv", "mtu", "mss", "state", "snd_una", "snd_nxt", "rcv_nxt", "ts_recent", "ts_lastack", "ssthresh", "rttvar",
    "srtt", "rto", "rto_min", "snd_wnd", "rcv_wnd", "rmt_wnd", "cwnd", "probe", "current", "interval", "ts_flush",
    "xmit", "nrcv_buf", "nsnd_buf", "nrcv_que", "nsnd_que", "nodelay", "updated", "ts_probe", "probe_wait",
    "dead_link", "incr",
)  # fmt: skip

_INDEX = {name: index for index, name in enumerate(WORDS)}
_SIGNED = ("rttvar", "srtt")
_EXTENSION: dict[Which, str] = {"kcp": "extension", "siokcp": "_kcp"}  # the wheel's module that holds the engine
_MASK = 0xFFFF_FFFF

_Output = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
_State = ctypes.c_uint32 * len(WORDS)

_p, _int, _u32 = ctypes.c_void_p, ctypes.c_int, ctypes.c_uint32
_SIGNATURES: dict[str, tuple[type | None, tuple[type, ...]]] = {
    "create": (_p, (_u32, _p)),
    "release": (None, (_p,)),
    "setoutput": (None, (_p, _Output)),
    "send": (_int, (_p, ctypes.c_char_p, _int)),
    "input": (_int, (_p, ctypes.c_char_p, ctypes.c_long)),
    "recv": (_int, (_p, _p, _int)),
    "peeksize": (_int, (_p,)),
    "update": (None, (_p, _u32)),
    "check": (_u32, (_p, _u32)),
    "flush": (None, (_p,)),
    "nodelay": (_int, (_p, _int, _int, _int, _int)),
    "wndsize": (_int, (_p, _int, _int)),
    "setmtu": (_int, (_p, _int)),
    "waitsnd": (_int, (_p,)),
}


class StockMissingError(RuntimeError):
    """The wheel that holds the stock engine is not installed, or is not the one that is known."""


@cache
def _library(which: Which) -> ctypes.CDLL:
    package = find_spec(which)
    found = package and PathFinder.find_spec(_EXTENSION[which], package.submodule_search_locations)
    if not found or not found.origin:
        raise StockMissingError(f"the stock engine {which!r} is not installed: pip install 'zrelay[bench]'")
    library = ctypes.CDLL(found.origin)
    for name, (result, arguments) in _SIGNATURES.items():
        try:
            function = getattr(library, f"ikcp_{name}")
        except AttributeError:
            raise StockMissingError(f"{found.origin} has no ikcp_{name}: pip install 'zrelay[bench]'") from None
        function.restype, function.argtypes = result, arguments
    return library


class StockEngine:
    """One conversation of a stock engine.

    `on_output` gets each datagram (bytes, at most the mtu) while `update` or `flush` runs. What it raises comes out of
    that call, after the engine has finished it; the datagrams in between are lost, as on a link. It must not call back
    into the engine. Times are milliseconds of the caller's clock, modulo 2^32.

    Raises StockMissingError when the wheel is not there.
    """

    def __init__(self, which: Which, conv: int, on_output: Callable[[bytes], None]) -> None:
        self._lib = _library(which)
        self._raised: list[BaseException] = []
        # The engine keeps only the address: this reference keeps the callback alive until close.
        self._output = _Output(_guarded(on_output, self._raised))
        self._kcp: int | None = self._lib.ikcp_create(conv & _MASK, None)
        if not self._kcp:
            raise MemoryError("ikcp_create")
        self._lib.ikcp_setoutput(self._kcp, self._output)
        self._state = _State.from_address(self._kcp)
        self._buffer = ctypes.create_string_buffer(4096)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Frees the conversation. Again: nothing. Any other call after it raises ValueError."""
        kcp, self._kcp = getattr(self, "_kcp", None), None
        if kcp:
            self._lib.ikcp_release(kcp)

    def send(self, message: bytes) -> int:
        """Queues one message, without any bound. >= 0 when taken; -2 when it has more than 127 segments."""
        return int(self._lib.ikcp_send(self._open(), message, len(message)))

    def input(self, datagram: bytes) -> int:
        """0; -1 too short or of another conversation, -2 cut short, -3 unknown command. `now` is the last update's."""
        return int(self._lib.ikcp_input(self._open(), datagram, len(datagram)))

    def recv(self) -> bytes | None:
        """The next message, or None when none is complete."""
        size = self.peeksize()
        if size < 0:
            return None
        if size > len(self._buffer):
            self._buffer = ctypes.create_string_buffer(2 * size)
        got = self._lib.ikcp_recv(self._open(), self._buffer, len(self._buffer))
        return ctypes.string_at(self._buffer, got) if got >= 0 else None

    def recv_code(self, size: int) -> int:
        """Takes the next message into a buffer of `size` bytes and throws it away: its length; -1 none, -2 not yet
        complete, -3 longer than `size` (it stays)."""
        if size < 0:
            raise ValueError("a size below 0 would mean: look, do not take")
        return int(self._lib.ikcp_recv(self._open(), ctypes.create_string_buffer(size + 1), size))

    def peeksize(self) -> int:
        """Bytes of the next message; -1 when none is complete."""
        return int(self._lib.ikcp_peeksize(self._open()))

    def update(self, now_ms: int) -> None:
        """Sets the clock, and flushes when the grid says so."""
        self._lib.ikcp_update(self._open(), now_ms & _MASK)
        self._reraise()

    def check(self, now_ms: int) -> int:
        """When `update` wants to be called next, modulo 2^32."""
        return int(self._lib.ikcp_check(self._open(), now_ms & _MASK))

    def flush(self) -> None:
        """Puts out what is due at the time of the last update. Nothing before the first one."""
        self._lib.ikcp_flush(self._open())
        self._reraise()

    def nodelay(self, nodelay: int, interval_ms: int, resend: int, nc: int) -> int:
        return int(self._lib.ikcp_nodelay(self._open(), nodelay, interval_ms, resend, nc))

    def wndsize(self, snd_wnd: int, rcv_wnd: int) -> int:
        """In segments. A receive window below 128 is raised to 128: `set_word("rcv_wnd", n)` gets below."""
        return int(self._lib.ikcp_wndsize(self._open(), snd_wnd, rcv_wnd))

    def setmtu(self, mtu: int) -> int:
        """Before the first send. -1 below 50."""
        return int(self._lib.ikcp_setmtu(self._open(), mtu))

    def waitsnd(self) -> int:
        """Segments queued or in flight."""
        return int(self._lib.ikcp_waitsnd(self._open()))

    def word(self, name: str) -> int:
        """One of WORDS; rttvar and srtt are signed, all others are not."""
        self._open()
        value = int(self._state[_INDEX[name]])
        return value - (1 << 32) if name in _SIGNED and value >> 31 else value

    def set_word(self, name: str, value: int) -> None:
        self._open()
        self._state[_INDEX[name]] = value & _MASK

    def words(self) -> dict[str, int]:
        """All of WORDS at once."""
        self._open()
        words = dict(zip(WORDS, self._state, strict=True))
        for name in _SIGNED:
            words[name] -= (words[name] >> 31) << 32
        return words

    def _open(self) -> int:
        if self._kcp is None:
            raise ValueError("the engine is closed")
        return self._kcp

    def _reraise(self) -> None:
        if self._raised:
            raised = self._raised[0]
            self._raised.clear()
            raise raised


def _guarded(
    on_output: Callable[[bytes], None], raised: list[BaseException]
) -> Callable[[int, int, int | None, int | None], int]:
    """No exception may cross C. A closure, not a method: it must not keep the engine alive."""

    def output(data: int, length: int, _kcp: int | None, _user: int | None) -> int:
        if raised:
            return -1
        try:
            on_output(ctypes.string_at(data, length))
        except BaseException as error:
            raised.append(error)
            return -1
        return length

    return output
