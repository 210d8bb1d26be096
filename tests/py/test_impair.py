"""The impairer on loopback sockets: who reaches whom, when, and what is counted."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import pytest
from click.testing import CliRunner

from relay._core import SimLink
from relay.impair import Impairer, Side, _Way, impair
from relay.units import Address

MS = 1_000_000


def _ports(count: int) -> list[socket.socket]:
    """`count` bound sockets at consecutive free loopback ports, below the ephemeral range."""
    for first in range(21000, 30000, 7):
        sockets: list[socket.socket] = []
        try:
            for port in range(first, first + count):
                sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                sockets.append(sock)
                sock.settimeout(20)
                sock.bind(("127.0.0.1", port))
            return sockets
        except OSError:
            for sock in sockets:
                sock.close()
    raise OSError("no free ports")


class Bench:
    """Relays A and B, two lanes each, with the impairer running between them."""

    def __init__(self, impairer: Impairer, a: list[socket.socket], b: list[socket.socket], sides: list[Side]) -> None:
        self.impairer, self.a, self.b = impairer, a, b
        self.a_listen, self.b_listen = sides[0].listen, sides[1].listen


@contextlib.contextmanager
def _bench(delay_ns: int = 0, loss: float = 0.0) -> Iterator[Bench]:
    groups = [_ports(2) for _ in range(4)]
    first = [Address(*group[0].getsockname()) for group in groups]
    for sock in groups[2] + groups[3]:
        sock.close()
    sides = [Side(first[2], first[0]), Side(first[3], first[1])]
    links = [SimLink(delay_ns, 0, loss, 0.0, 0.0, 0.0, 0, 0, 4096, seed) for seed in (1, 2)]
    stop, wake = socket.socketpair()
    with stop, wake, Impairer(*sides, 2, *links, time.monotonic_ns) as impairer:
        thread = threading.Thread(target=impairer.run, args=(stop,))
        thread.start()
        try:
            yield Bench(impairer, groups[0], groups[1], sides)
        finally:
            wake.send(b"x")
            thread.join(20)
            for sock in groups[0] + groups[1]:
                sock.close()
    assert not thread.is_alive()


def test_every_lane_reaches_every_lane_and_is_seen_at_its_own_port() -> None:
    with _bench() as bench:
        for sender in range(2):
            for lane in range(2):
                bench.a[sender].sendto(b"to b", tuple(bench.a_listen.shifted(lane)))
                assert bench.b[lane].recvfrom(100) == (b"to b", tuple(bench.b_listen.shifted(sender)))
                bench.b[sender].sendto(b"to a", tuple(bench.b_listen.shifted(lane)))
                assert bench.a[lane].recvfrom(100) == (b"to a", tuple(bench.a_listen.shifted(sender)))


def test_a_datagram_arrives_after_the_delay() -> None:
    with _bench(delay_ns=20 * MS) as bench:
        late_ms = []
        for _ in range(20):
            sent = time.monotonic()
            bench.a[0].sendto(b"x", tuple(bench.a_listen))
            bench.b[0].recv(100)
            late_ms.append((time.monotonic() - sent) * 1000 - 20)
    assert min(late_ms) >= 0
    assert min(late_ms) < 5  # about 0.2 on an idle machine; one of twenty on a busy one


def test_strangers_and_giants_are_dropped_and_counted() -> None:
    with _bench() as bench, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.sendto(b"x", tuple(bench.a_listen))
        bench.a[0].sendto(bytes(2049), tuple(bench.a_listen))
        bench.a[0].sendto(b"last", tuple(bench.a_listen))
        assert bench.b[0].recv(100) == b"last"
        counts = bench.impairer.counts()["a_to_b"]
    assert (counts["foreign"], counts["oversize"], counts["in"], counts["out"]) == (1, 1, 1, 1)


class _Late:
    """A link whose packet was due at 1 s."""

    def __init__(self) -> None:
        self.packets = [b"x"]

    def put(self, data: bytes, tag: int, now_ns: int) -> bool:
        return True

    def get(self, now_ns: int) -> tuple[bytes, int] | None:
        return (self.packets.pop(), 0) if self.packets else None

    def deadline(self) -> int:
        return 1_000 * MS if self.packets else 1 << 62

    def counts(self) -> dict[str, int]:
        return {}


@pytest.mark.parametrize(("now_ms", "overslept"), [(999, 0), (1004, 0), (1006, 1)])
def test_what_this_machine_itself_makes_late_is_counted(now_ms: int, overslept: int) -> None:
    side = Side(Address("127.0.0.1", 1), Address("127.0.0.1", 9))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        way = _Way(side, side, 1, _Late())
        way.sockets.append(sock)
        way.release(now_ms * MS)
    assert way.counts()["overslept"] == overslept


def test_losses_are_counted_and_conserved() -> None:
    with _bench(loss=0.2) as bench:
        for _ in range(1000):
            bench.a[0].sendto(b"x", tuple(bench.a_listen))
            time.sleep(0.0001)
        deadline = time.monotonic() + 20
        while (counts := bench.impairer.counts())["a_to_b"]["in"] < 1000 and time.monotonic() < deadline:
            time.sleep(0.01)
    way = counts["a_to_b"]
    assert way["in"] == way["lost"] + way["out"] == 1000
    assert 15 < counts["loss_pct"] < 25


@pytest.mark.parametrize("side", ["127.0.0.1:31000", "127.0.0.1:1,[::1]:2", "a,b"])
def test_a_side_that_is_not_two_addresses_is_a_usage_error(side: str) -> None:
    result = CliRunner().invoke(impair, ["--a", side, "--b", "127.0.0.1:1,127.0.0.1:2"])
    assert result.exit_code == 2


@pytest.mark.parametrize("packets", ["nan", "-1", "inf", "1e10", "many"])
def test_a_burst_that_is_no_count_of_packets_is_a_usage_error(packets: str) -> None:
    sides = ["--a", "127.0.0.1:3,127.0.0.1:4", "--b", "127.0.0.1:1,127.0.0.1:2"]
    result = CliRunner().invoke(impair, [*sides, "--burst", packets])
    assert result.exit_code == 2
    assert "--burst" in result.output
