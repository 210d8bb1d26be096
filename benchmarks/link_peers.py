"""SRT and RIST over the link model of `zrelay bench link`: what their own programs deliver of the same stream.

    this process --udp--> sender --(link of this process)--> receiver --udp--> this process

Their programs are those of the Debian packages srt-tools and rist-tools, at a latency of 400 ms; both hold every packet
back until then, so what counts is whether a packet comes at all.
"""

from __future__ import annotations

import contextlib
import select
import shutil
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from relay._core import SimLink

LATENCY_MS = 400
SIZE, FRAME, PPS = 1200, 8, 200
DELAY_NS = 50_000_000
CONNECT_S, TAIL_S = 12.0, 2.0
WARM_UP = 0xFFFFFFFF
_NUMBER = struct.Struct(">I")


@dataclass(frozen=True)
class Peer:
    """`commands`: (udp in, link in, link out, udp out: ports) -> receiver's and sender's command line."""

    name: str
    package: str
    programs: tuple[str, ...]
    commands: Callable[[int, int, int, int], tuple[list[str], list[str]]]

    def lacking(self) -> str:
        """A reason to skip, or nothing."""
        missing = [program for program in self.programs if shutil.which(program) is None]
        return f"{', '.join(missing)} not installed (Debian: {self.package})" if missing else ""


def _srt(feed: int, front: int, back: int, sink: int) -> tuple[list[str], list[str]]:
    tool = ["srt-live-transmit", "-q"]
    return (
        [*tool, f"srt://127.0.0.1:{back}?mode=listener&latency={LATENCY_MS}", f"udp://127.0.0.1:{sink}"],
        [*tool, f"udp://:{feed}", f"srt://127.0.0.1:{front}?mode=caller&latency={LATENCY_MS}"],
    )


def _rist(feed: int, front: int, back: int, sink: int) -> tuple[list[str], list[str]]:
    quiet = ["-v", "-1", "-S", "0"]
    return (
        [
            "ristreceiver",
            *quiet,
            "-i",
            f"rist://@127.0.0.1:{back}?buffer={LATENCY_MS}",
            "-o",
            f"udp://127.0.0.1:{sink}",
        ],
        ["ristsender", *quiet, "-i", f"udp://@127.0.0.1:{feed}", "-o", f"rist://127.0.0.1:{front}?buffer={LATENCY_MS}"],
    )


SRT = Peer("SRT", "srt-tools", ("srt-live-transmit",), _srt)
RIST = Peer("RIST", "rist-tools", ("ristsender", "ristreceiver"), _rist)


@dataclass
class Outcome:
    """Bytes are UDP payload on the link, from the first packet on; `delays_ms` of what came."""

    sent: int = 0
    forward_bytes: int = 0
    reverse_bytes: int = 0
    connected: bool = False
    delays_ms: dict[int, float] = field(default_factory=dict)

    @property
    def missing_pct(self) -> float:
        return 100 * (self.sent - len(self.delays_ms)) / self.sent

    @property
    def overhead(self) -> float:
        return self.forward_bytes / (self.sent * SIZE)

    @property
    def reverse(self) -> float:
        return self.reverse_bytes / (self.sent * SIZE)


class Between:
    """The link: whoever sends to `front` is A; B listens on `back`. Runs in a thread of its own until `close`."""

    def __init__(self, loss: float, seed: int) -> None:
        self.a_side, self.b_side, self._stop = _udp(), _udp(), threading.Event()
        self.front, self.back = _port(self.a_side), _free_port()
        self.bytes = [0, 0]
        self._links = [SimLink(DELAY_NS, loss=loss, seed=2 * seed + way) for way in range(2)]
        self._a: tuple[str, int] | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        self.a_side.close()
        self.b_side.close()

    def _run(self) -> None:
        while not self._stop.is_set():
            due = min(link.deadline() for link in self._links)
            wait_s = min(0.05, max(0.0, (due - time.monotonic_ns()) / 1e9))
            readable, _, _ = select.select([self.a_side, self.b_side], [], [], wait_s)
            for sock in readable:
                self._take(0 if sock is self.a_side else 1, sock)
            now = time.monotonic_ns()
            while (packet := self._links[0].get(now)) is not None:
                self._send(self.b_side, packet[0], ("127.0.0.1", self.back))
            while (packet := self._links[1].get(now)) is not None:
                self._send(self.a_side, packet[0], self._a)

    def _take(self, way: int, sock: socket.socket) -> None:
        try:
            data, source = sock.recvfrom(2048)
        except (BlockingIOError, ConnectionError):
            return
        if way == 0:
            self._a = source
        self.bytes[way] += len(data)
        self._links[way].put(data, 0, time.monotonic_ns())

    @staticmethod
    def _send(sock: socket.socket, data: bytes, to: tuple[str, int] | None) -> None:
        if to is not None:
            with contextlib.suppress(OSError):
                sock.sendto(data, to)


def measure(peer: Peer, loss: float, seconds: float, seed: int = 1) -> Outcome:
    """The stream of the table through the peer's two programs."""
    outcome = Outcome()
    feed = _free_port()
    with _udp() as source, _udp() as sink, _between(loss, seed) as link:
        commands = peer.commands(feed, link.front, link.back, _port(sink))
        with contextlib.ExitStack() as running:
            for command in commands:
                running.enter_context(_running(command))
            outcome.connected = _connect(source, sink, feed)
            if outcome.connected:
                before = list(link.bytes)
                _stream(source, sink, feed, seconds, outcome)
                outcome.forward_bytes, outcome.reverse_bytes = (
                    after - then for after, then in zip(link.bytes, before, strict=True)
                )
    return outcome


def _connect(source: socket.socket, sink: socket.socket, feed: int) -> bool:
    """Sends until something comes out, then until nothing of that is on its way."""
    end = time.monotonic() + CONNECT_S
    while time.monotonic() < end:
        with contextlib.suppress(OSError):
            source.sendto(_packet(WARM_UP), ("127.0.0.1", feed))
        if select.select([sink], [], [], 0.02)[0]:
            time.sleep(2 * LATENCY_MS / 1000)
            while select.select([sink], [], [], 0)[0]:
                sink.recv(2048)
            return True
    return False


def _stream(source: socket.socket, sink: socket.socket, feed: int, seconds: float, outcome: Outcome) -> None:
    sent_at: list[float] = []
    start = time.monotonic()
    frames = round(seconds * PPS / FRAME)
    while (now := time.monotonic()) < start + frames * FRAME / PPS + TAIL_S:
        next_at = start + len(sent_at) / PPS if len(sent_at) < frames * FRAME else now + 1
        if now >= next_at:
            for _ in range(FRAME):
                sent_at.append(time.monotonic())
                source.sendto(_packet(len(sent_at) - 1), ("127.0.0.1", feed))
        elif select.select([sink], [], [], min(0.05, next_at - now))[0]:
            number = _NUMBER.unpack_from(sink.recv(2048))[0]
            if number < len(sent_at):
                outcome.delays_ms.setdefault(number, 1000 * (time.monotonic() - sent_at[number]))
    outcome.sent = len(sent_at)


def _packet(number: int) -> bytes:
    return _NUMBER.pack(number) + bytes(SIZE - _NUMBER.size)


def _udp() -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setblocking(False)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    sock.bind(("127.0.0.1", 0))
    return sock


def _port(sock: socket.socket) -> int:
    port: int = sock.getsockname()[1]
    return port


def _free_port() -> int:
    with _udp() as sock:
        return _port(sock)


@contextlib.contextmanager
def _between(loss: float, seed: int) -> Iterator[Between]:
    link = Between(loss, seed)
    try:
        yield link
    finally:
        link.close()


@contextlib.contextmanager
def _running(command: list[str]) -> Iterator[None]:
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        child.kill()
        child.wait()
