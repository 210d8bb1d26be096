"""kcp-go at the other end, over loopback in real time: an echo server of ours on its published API (kcp_go/main.go).

The server answers what each of its Reads returned, with the length before it. In message mode a Read returns one whole
message of ours, also when it came in many segments; what comes back is a stream of bytes either way, cut into messages
of one segment.

Skipped where Debian's golang-go and golang-github-xtaci-kcp-dev are not installed.
"""

from __future__ import annotations

import os
import select
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from tests.prop.kcp_end import End
from tests.prop.kcp_wire import TAIL, conf_of
from tests.whitebox import lib

HERE = Path(__file__).resolve().parent
BUILD = HERE.parent.parent / "build" / "interop"
GOPATH = Path("/usr/share/gocode")
PACKAGES = "apt-get install --no-install-recommends golang-go golang-github-xtaci-kcp-dev"
CONV, MTU, HEADER = 0x0BAD_CAFE, 1200, 24
MESSAGES, BOUND_S = 500, 60
MSS = MTU - HEADER
SIZES = [(1, 200), (1000, MSS), (MTU, 6000), (15_000, 20_000)]
TWO = [(1, 200), (1000, MSS), (MTU, MSS + TAIL), (MSS + TAIL, MSS + TAIL)]  # segments at most, as first arrival has it

pytestmark = [pytest.mark.net, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def server() -> Path:
    """The echo server, built without any network."""
    go = shutil.which("go")
    if go is None or not (GOPATH / "src/github.com/xtaci/kcp-go").is_dir():
        pytest.skip(f"no Go or no kcp-go here: {PACKAGES}")
    BUILD.mkdir(parents=True, exist_ok=True)
    offline = {"GO111MODULE": "off", "GOPATH": str(GOPATH), "GOCACHE": str(BUILD / "cache"), "CGO_ENABLED": "0"}
    made = BUILD / "kcp_go"
    command = [go, "build", "-o", str(made), str(HERE / "kcp_go" / "main.go")]
    done = subprocess.run(command, env={**os.environ, **offline}, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    return made


@pytest.fixture
def address(server: Path, request: pytest.FixtureRequest) -> Iterator[tuple[str, int]]:
    """Where the server listens; it ends with its standard input."""
    stream = request.node.callspec.params["stream"]
    command = [str(server), f"-mtu={MTU}", f"-stream={str(bool(stream)).lower()}"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        host, port = process.stdout.readline().strip().rsplit(":", 1)
        yield host, int(port)
        assert process.poll() is None, "the server gave up"
        process.communicate(timeout=20)
        assert process.returncode == 0


class Wire:
    """A conversation of ours on a UDP socket that loses on purpose, both ways."""

    def __init__(self, end: End, address: tuple[str, int], loss: float) -> None:
        self.end, self.loss, self.random = end, loss, Random(5)
        self.lost = 0
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self.socket.connect(address)

    def turn(self, now: int) -> None:
        for datagram in self._arrived():
            assert self.end.input(datagram, now) == lib.ZR_OK
        deadline = self.end.deadline()
        if deadline is not None and deadline <= now:
            self.end.on_deadline(now)
        for datagram in self.end.output(now):
            assert len(datagram) <= MTU
            if self._passes():
                self.socket.send(datagram)

    def wait(self, now: int) -> None:
        """Until something arrives or is due, 5 ms at most."""
        deadline = self.end.deadline()
        ahead = 5 if deadline is None else min(max(deadline - now, 1), 5)
        select.select([self.socket], [], [], ahead / 1000)

    def _arrived(self) -> Iterator[bytes]:
        for _ in range(1000):
            try:
                datagram = self.socket.recv(2048)
            except BlockingIOError:
                return
            if self._passes():
                yield datagram

    def _passes(self) -> bool:
        passes = self.random.random() >= self.loss
        self.lost += not passes
        return passes


def messages(sizes: list[tuple[int, int]] = SIZES) -> list[bytes]:
    random = Random(6)
    return [random.randbytes(random.randint(*size)) for size in random.choices(sizes, [4, 4, 2, 0.3], k=MESSAGES)]


def answers(received: bytes) -> tuple[list[bytes], int]:
    """The whole answers in a stream of them, and how many bytes they take."""
    found, pos = [], 0
    while pos + 4 <= len(received):
        end = pos + 4 + int.from_bytes(received[pos : pos + 4], "big")
        if end > len(received):
            break
        found.append(received[pos + 4 : end])
        pos = end
    return found, pos


def now_ms() -> int:
    return time.monotonic_ns() // 1_000_000


@pytest.mark.parametrize("loss", [0, 0.1])
@pytest.mark.parametrize(("profile", "stream"), [("compat", 0), ("compat", 1), ("control", 0)])
def test_kcp_go_gives_back_every_message_once_and_in_order(
    address: tuple[str, int], profile: str, stream: int, loss: float
) -> None:
    conf = conf_of(profile, CONV, mtu=MTU, snd_wnd=128, rcv_wnd=128, stream=stream)
    sent, answered, received = messages(), [], bytearray()  # type: ignore[var-annotated]
    wire = Wire(End(conf, now_ms()), address, loss)
    unsent, until = list(reversed(sent)), time.monotonic() + BOUND_S
    with wire.socket:
        while sum(map(len, answered)) < sum(map(len, sent)):
            assert time.monotonic() < until, (len(unsent), len(answered), wire.end.waiting())
            wire.turn(now_ms())
            while (got := wire.end.recv()) is not None:
                received += got
            found, taken = answers(bytes(received))
            answered += found
            del received[:taken]
            for _ in range(5):
                if not unsent or wire.end.send(unsent[-1], now_ms()) != lib.ZR_OK:
                    break
                unsent.pop()
            wire.wait(now_ms())
    if stream:
        assert b"".join(answered) == b"".join(sent)
    else:
        assert answered == sent
    assert not received
    assert (wire.lost > 0) == (loss > 0)
    assert wire.end.close() == 0


@pytest.mark.parametrize("stream", [0])
@pytest.mark.parametrize("loss", [0, 0.1])
def test_kcp_go_takes_messages_of_two_segments_whole_and_its_own_arrive_in_any_order(
    address: tuple[str, int], stream: int, loss: float
) -> None:
    """Our media profile, without a deadline. What kcp-go writes leaves as messages of one segment, cut at its mss."""
    conf = conf_of("media", CONV, mtu=MTU, snd_wnd=128, rcv_wnd=128, deadline_ms=0, stream=stream)
    sent, received = messages(TWO), []  # type: ignore[var-annotated]
    answered = [len(text).to_bytes(4, "big") + text for text in sent]
    wanted = [text[at : at + MSS] for text in answered for at in range(0, len(text), MSS)]
    wire = Wire(End(conf, now_ms()), address, loss)
    unsent, until = list(reversed(sent)), time.monotonic() + BOUND_S
    with wire.socket:
        while len(received) < len(wanted) or wire.end.waiting():
            assert time.monotonic() < until, (len(unsent), len(received), wire.end.waiting())
            wire.turn(now_ms())
            while (got := wire.end.recv()) is not None:
                received.append(got)
            for _ in range(5):
                if not unsent or wire.end.send(unsent[-1], now_ms()) != lib.ZR_OK:
                    break
                unsent.pop()
            wire.wait(now_ms())
    assert sorted(received) == sorted(wanted)
    assert loss == 0 or received != wanted, "nothing overtook anything: not the talk that was meant"
    assert wire.end.close() == 0
