"""A bad network between two relays: delay, jitter, loss, duplication, reordering, a slow link with a short queue.

    relay A  <-->  a.listen [ impairer ] b.listen  <-->  relay B         (one port per lane, agent first)

A knows B under a's LISTEN address, B knows A under b's. A datagram from lane i of A (port a.peer + i) to lane j of B
(port a.listen + j) leaves from b.listen + i to b.peer + j, so each relay sees the other's lanes at one address and can
still tell them apart by port. Each direction has a link model of its own (csrc/sim/zr_simlink.h).
"""

from __future__ import annotations

import contextlib
import json
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol

import click

from relay.units import (
    Address,
    parse_duration_ns,
    parse_fraction,
    parse_rate_bps,
    parse_size_bytes,
)

_PACKET_BYTES_MAX = 2048  # ZR_SIMLINK_LEN_MAX
_PACKETS_MAX = 16384  # on their way at once in a direction: 32 MiB, a second at 16 kpps
_BURST_PACKETS = 64  # from one socket before the others and the departures have their turn
_SOCKET_BUFFER_BYTES = 4 << 20
_REPORT_NS = 1_000_000_000
_OVERSLEPT_NS = 5_000_000  # a departure this much after its time is the fault of this machine, not of the link
_NEVER = (1 << 63) - 1

Counts = dict[str, int]


class Link(Protocol):
    """The part of relay._core.SimLink that is used here."""

    def put(self, data: bytes, tag: int, now_ns: int) -> bool: ...
    def get(self, now_ns: int) -> tuple[bytes, int] | None: ...
    def deadline(self) -> int: ...
    def counts(self) -> Counts: ...


class Side(NamedTuple):
    """One relay's side: the first port where it finds the impairer, and its own first port."""

    listen: Address
    peer: Address

    @classmethod
    def parse(cls, text: str) -> Side:
        """ "127.0.0.1:31000,127.0.0.1:29900"; ValueError otherwise."""
        listen, comma, peer = text.partition(",")
        if not comma:
            raise ValueError(f"{text!r} is not LISTEN,PEER: write '127.0.0.1:31000,127.0.0.1:29900'")
        side = cls(Address.parse(listen), Address.parse(peer))
        if (":" in side.listen.ip) != (":" in side.peer.ip):
            raise ValueError(f"{text!r} mixes IPv4 and IPv6")
        return side


class _Way:
    """One direction: the sockets it hears on and leaves by, its link, and what never reached the link."""

    def __init__(self, hears: Side, leaves: Side, ports: int, link: Link) -> None:
        self.link = link
        self.lane_of_source = {tuple(hears.peer.shifted(i)): i for i in range(ports)}
        self.targets = [tuple(leaves.peer.shifted(i)) for i in range(ports)]
        self.ports = ports
        self.sockets: list[socket.socket] = []  # leaving; the other way's hearing ones
        self.foreign = self.oversize = self.unsent = self.overslept = 0

    def take(self, sock: socket.socket, lane: int, clock: Callable[[], int]) -> None:
        """Moves what waits in `sock`, the hearing socket of `lane`, onto the link.

        The clock is read per datagram: one that arrives while others are taken must not leave early.
        """
        for _ in range(_BURST_PACKETS):
            try:
                data, source = sock.recvfrom(_PACKET_BYTES_MAX + 1)
            except BlockingIOError:
                return
            except ConnectionError:
                continue  # an ICMP error for an earlier send; the relay there is down
            sender = self.lane_of_source.get(source[:2])
            if sender is None:
                self.foreign += 1
            elif len(data) > _PACKET_BYTES_MAX:
                self.oversize += 1
            else:
                self.link.put(data, sender * self.ports + lane, clock())

    def release(self, now_ns: int) -> None:
        """Sends what is due."""
        while (due_ns := self.link.deadline()) <= now_ns and (packet := self.link.get(now_ns)) is not None:
            self.overslept += now_ns - due_ns > _OVERSLEPT_NS
            data, tag = packet
            sender, lane = divmod(tag, self.ports)
            try:
                self.sockets[sender].sendto(data, self.targets[lane])
            except OSError:  # buffer full, no route, refused: on this network, a datagram less
                self.unsent += 1

    def counts(self) -> Counts:
        own = {"foreign": self.foreign, "oversize": self.oversize, "unsent": self.unsent, "overslept": self.overslept}
        return {**self.link.counts(), **own}


class Impairer:
    """Carries datagrams between two relays over two links; `clock` gives monotonic nanoseconds.

    The ports are bound when it is made (OSError if one is taken) and closed by `close` or at the end of a `with`.
    """

    def __init__(self, a: Side, b: Side, ports: int, a_to_b: Link, b_to_a: Link, clock: Callable[[], int]) -> None:
        self._clock = clock
        self._epoll = select.epoll()
        self._sockets: dict[int, tuple[socket.socket, int, _Way]] = {}
        self._a_to_b = _Way(a, b, ports, a_to_b)
        self._b_to_a = _Way(b, a, ports, b_to_a)
        try:
            for side, hearing, leaving in ((a, self._a_to_b, self._b_to_a), (b, self._b_to_a, self._a_to_b)):
                for lane in range(ports):
                    sock = _bound(side.listen.shifted(lane))
                    self._sockets[sock.fileno()] = (sock, lane, hearing)
                    leaving.sockets.append(sock)
                    self._epoll.register(sock, select.EPOLLIN)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Impairer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._epoll.close()
        for sock, _, _ in self._sockets.values():
            sock.close()

    def run(self, stop: socket.socket, report: Callable[[], None] | None = None) -> None:
        """Carries until `stop` is readable; calls `report` once a second.

        Departures are timed by select(), whose timeout counts microseconds, on epoll's own descriptor: epoll_wait
        rounds up to milliseconds, spinning would take a core from the relays that are being tried.
        """
        ways = (self._a_to_b, self._b_to_a)
        report_at = self._clock() + _REPORT_NS if report else _NEVER
        while True:
            wake_at = min(report_at, *(way.link.deadline() for way in ways))
            timeout = None if wake_at == _NEVER else max(0, wake_at - self._clock()) / 1e9
            readable, _, _ = select.select([self._epoll.fileno(), stop.fileno()], [], [], timeout)
            if stop.fileno() in readable:
                return
            if readable:
                for fd, _ in self._epoll.poll(0):
                    sock, lane, way = self._sockets[fd]
                    way.take(sock, lane, self._clock)
            now_ns = self._clock()
            for way in ways:
                way.release(now_ns)
            if now_ns >= report_at and report is not None:
                report()
                report_at = now_ns + _REPORT_NS

    def counts(self) -> dict[str, Any]:
        """{"a_to_b": counts, "b_to_a": counts, "loss_pct": of what came in, both ways, not handed on}."""
        ways = {"a_to_b": self._a_to_b.counts(), "b_to_a": self._b_to_a.counts()}
        came = sum(counts["in"] for counts in ways.values())
        gone = sum(counts[why] for counts in ways.values() for why in ("lost", "queue_dropped", "overflow"))
        return {**ways, "loss_pct": round(100 * gone / came, 3) if came else 0.0}


def _bound(address: Address) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in address.ip else socket.AF_INET, socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            sock.setsockopt(socket.SOL_SOCKET, option, _SOCKET_BUFFER_BYTES)
        sock.bind(tuple(address))
    except OSError as error:
        sock.close()
        raise OSError(error.errno, f"cannot listen on {address}: {error.strerror}") from None
    return sock


@contextlib.contextmanager
def _stopped_by_signals() -> Iterator[socket.socket]:
    """A socket that is readable after SIGINT or SIGTERM."""
    stop, wake = socket.socketpair()
    wake.setblocking(False)
    before_fd = signal.set_wakeup_fd(wake.fileno())
    before = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(before_fd)
        stop.close()
        wake.close()


def _line(counts: dict[str, Any]) -> str:
    shown = []
    for way, arrow in (("a_to_b", "a>b"), ("b_to_a", "b>a")):
        shown.append(f"{arrow} " + " ".join(f"{word} {n}" for word, n in counts[way].items() if n or word == "in"))
    return f"{' · '.join(shown)} · dropped {counts['loss_pct']:.2f} %"


class _Unit(click.ParamType):  # type: ignore[type-arg,unused-ignore]  # generic in newer clicks only
    """A parser of relay.units as a click type."""

    def __init__(self, name: str, parse: Callable[[str], Any]) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return self._parse(value) if isinstance(value, str) else value
        except ValueError as error:
            self.fail(str(error), param, ctx)


_SIDE = _Unit("LISTEN,PEER", Side.parse)
_TIME = _Unit("time", parse_duration_ns)
_FRACTION = _Unit("fraction", parse_fraction)


def _parse_burst(text: str) -> float:
    """ "3.5"; ValueError outside 0 to 1e9, and for "nan", which click.FloatRange lets through."""
    packets = float(text)
    if not 0 <= packets <= 1e9:
        raise ValueError(f"{text!r} is not a number of packets from 0 to 1e9")
    return packets


_BURST = _Unit("packets", _parse_burst)


@click.command(short_help="Put a bad network between two relays: delay, loss, reordering, a full queue.")
@click.option("--a", type=_SIDE, required=True, help="Where relay A finds B, and where A is.")
@click.option("--b", type=_SIDE, required=True, help="Where relay B finds A, and where B is.")
@click.option("--ports", type=click.IntRange(1, 63), default=1, show_default=True, help="Ports a side: 1 + workers.")
@click.option("--delay", type=_TIME, default="0", help="One way, each packet: 20ms.")
@click.option("--jitter", type=_TIME, default="0", help="Up to this much more, order kept.")
@click.option("--loss", type=_FRACTION, default="0", help="5% or 0.05, each way.")
@click.option("--burst", type=_BURST, default=0.0, help="Mean packets in a burst of losses.")
@click.option("--dup", type=_FRACTION, default="0", help="Sent twice.")
@click.option("--reorder", type=_FRACTION, default="0", help="Sent early: up to the jitter, or half the delay.")
@click.option("--rate", type=_Unit("rate", parse_rate_bps), default="0", help="Bottleneck: 20Mbit/s; 0: none.")
@click.option("--queue", type=_Unit("size", parse_size_bytes), default="64KiB", help="In front of the bottleneck.")
@click.option("--seed", type=click.IntRange(0, (1 << 64) - 2), default=1, show_default=True, help="Of the dice.")
@click.option("--json", "as_json", is_flag=True, help="One object a second and a last one, on stdout.")
def impair(
    a: Side,
    b: Side,
    ports: int,
    delay: int,
    jitter: int,
    loss: float,
    burst: float,
    dup: float,
    reorder: float,
    rate: int,
    queue: int,
    seed: int,
    as_json: bool,
) -> None:
    """Put a bad network between relays A and B: each lists the other at the impairer's address.

    SIGINT or SIGTERM ends it; then it prints what it counted.
    """
    from relay._core import SimLink

    def link(at_seed: int) -> Link:
        made: Link = SimLink(delay, jitter, loss, burst, dup, reorder, rate, queue, _PACKETS_MAX, at_seed)
        return made

    try:
        impairer = Impairer(a, b, ports, link(seed), link(seed + 1), time.monotonic_ns)
    except (OSError, ValueError) as error:
        raise click.ClickException(str(error)) from None

    def report() -> None:
        if as_json:
            print(json.dumps(impairer.counts()), flush=True)
        else:
            print(_line(impairer.counts()), file=sys.stderr, end="\r" if sys.stderr.isatty() else "\n", flush=True)

    with _stopped_by_signals() as stop, impairer:
        impairer.run(stop, report)
        report()
