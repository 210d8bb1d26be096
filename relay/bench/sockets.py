"""A run over real UDP sockets on loopback, in real time, through an impairer in a process of its own.

A's socket  <-->  impairer  <-->  B's socket          both ends in this process, each with one lane
"""

from __future__ import annotations

import json
import select
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from relay._bench import NEVER, Tally
from relay.bench.case import Case
from relay.bench.ends import End, pair
from relay.bench.figures import Run
from relay.units import NS_PER_S, Address

_DATAGRAM_MAX = 2048
_SOCKET_BUFFER_BYTES = 4 << 20
_START_S = 15.0  # for the impairer's process to come up
_STOP_S = 5.0
_OVERSLEPT_NS = 5_000_000  # a turn this much after its time: the machine was elsewhere
_LEAD_NS = 20_000_000  # from the making of the ends to the first packet

Clock = Callable[[], int]


class Wires(NamedTuple):
    """The ends' bound sockets, and where each finds the other: the impairer's addresses."""

    a: socket.socket
    b: socket.socket
    a_sees_b: Address
    b_sees_a: Address


class _Way:
    """One end on its socket, and what it gave it."""

    def __init__(self, end: End, sock: socket.socket, to: Address, start_ns: int, seconds: int) -> None:
        self.end, self.sock, self.to, self._start_ns = end, sock, tuple(to), start_ns
        self.deadline = start_ns
        self.bytes = self.datagrams = self.unsent = self.overslept = 0
        self.by_second = [0] * seconds

    def turn(self, count: int, clock: Clock) -> None:
        """All that waits on the socket as one batch, then what is due."""
        end, now = self.end, clock()
        self.overslept += now - self.deadline > _OVERSLEPT_NS
        while True:
            try:
                data = self.sock.recv(_DATAGRAM_MAX)
            except BlockingIOError:
                break
            except ConnectionError:
                continue  # an ICMP error for an earlier send
            end.input(data, now)
        end.receive(now)
        end.on_deadline(now)
        if count:
            end.send(count, now)
        for data in end.output(now):
            self._send(data, now)
        self.deadline = end.deadline()

    def _send(self, data: bytes, now: int) -> None:
        self.bytes += len(data)
        self.datagrams += 1
        second = (now - self._start_ns) // NS_PER_S
        if 0 <= second < len(self.by_second):
            self.by_second[second] += len(data)
        try:
            self.sock.sendto(data, self.to)
        except OSError:
            self.unsent += 1  # on this network, a datagram less


def run(case: Case, which: int, clock: Clock, progress: Callable[[float], None] | None = None) -> Run:
    """Run number `which` of the case; `clock` gives monotonic nanoseconds. OSError when sockets or child fail."""
    with bound() as a, bound() as b, _impairer(case, which, address_of(a), address_of(b)) as (a_sees_b, b_sees_a):
        return drive(case, Wires(a, b, a_sees_b, b_sees_a), clock, progress)


def drive(case: Case, wires: Wires, clock: Clock, progress: Callable[[float], None] | None = None) -> Run:
    """The run over sockets that are there already, whatever lies between them."""
    tally = Tally(case.packets, size=case.size, frame=case.frame, deadline_ns=case.deadline_ns)
    start = clock() + _LEAD_NS
    ends = pair(case, tally, wires.a_sees_b, wires.b_sees_a, clock())
    a = _Way(ends[0], wires.a, wires.a_sees_b, start, case.span_s)
    b = _Way(ends[1], wires.b, wires.b_sees_a, start, case.span_s)
    frames, frame, told = -(-case.packets // case.frame), 0, 0
    send_at, end_at = start, start + case.span_ns
    while (now := clock()) < end_at:
        wake_at = min(send_at, a.deadline, b.deadline, end_at)
        # select() counts microseconds; epoll_wait would round up to milliseconds.
        readable, _, _ = select.select([a.sock, b.sock], [], [], max(0, wake_at - now) / 1e9)
        now = clock()
        count = 0
        if now >= send_at:
            count = min(case.frame, case.packets - tally.sent)
            frame += 1
            send_at = start + case.frame_at_ns(frame) if frame < frames else NEVER
        if count or a.deadline <= now or a.sock in readable:
            a.turn(count, clock)
        if b.deadline <= now or b.sock in readable:
            b.turn(0, clock)
        if progress is not None and (second := (now - start) // NS_PER_S) > told:
            progress(second - told)
            told = second
    counts = {
        name: way.end.counts() | {"unsent": way.unsent, "overslept": way.overslept}
        for name, way in (("sender", a), ("receiver", b))
    }
    return Run.of(case, tally, start, (a.bytes, a.datagrams), (b.bytes, b.datagrams), a.by_second, counts)


def bound() -> socket.socket:
    """A socket on a free loopback port."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setblocking(False)
    for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
        sock.setsockopt(socket.SOL_SOCKET, option, _SOCKET_BUFFER_BYTES)
    sock.bind(("127.0.0.1", 0))
    return sock


def address_of(sock: socket.socket) -> Address:
    return Address(*sock.getsockname()[:2])


@contextmanager
def _impairer(case: Case, which: int, a: Address, b: Address) -> Iterator[tuple[Address, Address]]:
    """Where A finds B and B finds A while the block runs. The child ends when this process does, whatever happens."""
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            command = [sys.executable, "-m", "relay.bench.between", str(theirs.fileno())]
            child = subprocess.Popen(command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)
        try:
            ours.settimeout(_START_S)
            seeds = case.seeds(which)
            ours.sendall(
                json.dumps(
                    {
                        "a": str(a),
                        "b": str(b),
                        "delay_ns": case.delay_ns,
                        "losses": [case.loss, case.rloss],
                        "burst": case.burst,
                        "rate_bps": case.rate_bps,
                        "queue_bytes": case.queue_bytes,
                        "packets_max": case.link_packets,
                        "seeds": seeds,
                    }
                ).encode()
                + b"\n"
            )
            with ours.makefile("r") as answers:
                try:
                    said = json.loads(answers.readline() or "{}")
                except TimeoutError:
                    said = {}
                if "a" not in said:
                    raise OSError(said.get("error", "the impairer's process did not start"))
                yield Address.parse(said["a"]), Address.parse(said["b"])
        finally:
            ours.close()
            try:
                child.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
