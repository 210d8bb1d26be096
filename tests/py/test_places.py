"""What a place sends to the process that takes it: the order, and as many sockets as the order says."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import time
from collections.abc import Iterator

import pytest

from relay.places import FDPASS, ORDER, UP_FROM_NOTHING_NS, UP_NS, Place
from relay.processes import Child
from relay.watchdog import CHECK_NS, Watchdog

SOCKETS, BUFFER = 300, 16384  # more messages than fit into the buffer, fewer than files may be open
SLEEPER = (sys.executable, "-c", "import time; time.sleep(60)")


@contextlib.contextmanager
def spare() -> Iterator[tuple[Child, socket.socket]]:
    """A process that waits, and the end of its socket at which the test reads for it."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
    child = Child("zr-spare", ours=ours)
    child.spawn(SLEEPER, {}, [])
    ours.setblocking(False)
    process = child.process
    assert process is not None
    try:
        with theirs:
            yield child, theirs
    finally:
        process.kill()
        process.wait()


def opened() -> set[int]:
    return {int(fd) for fd in os.listdir("/proc/self/fd")}


def receive_all(place: Place, theirs: socket.socket) -> tuple[int, list[int]]:
    """What the order counts, and the slots that came with a descriptor."""
    theirs.setblocking(False)
    announced, slots, more = -1, [], True
    while more:
        more = place.flush()
        with contextlib.suppress(BlockingIOError):
            while True:
                data, fds, _, _ = socket.recv_fds(theirs, 64, 4)
                if announced < 0:
                    assert fds == []
                    announced = ORDER.unpack(data)[4]
                    continue
                slots.append(FDPASS.unpack(data)[2])
                (fd,) = fds
                os.close(fd)
    return announced, slots


def kill(place: Place) -> None:
    assert place.process is not None
    place.process.kill()
    place.died(time.monotonic())


def place_with(count: int) -> Place:
    return Place("zr-worker-0", told=True, ingress={slot: os.eventfd(0) for slot in range(count)})


def test_a_socket_closed_behind_the_order_is_sent_as_the_order_said() -> None:
    """The successor reads no command before it has them all; the agent's `ingress_close` is one."""
    before = opened()
    place = place_with(SOCKETS)
    with spare() as (child, theirs):
        place.order(child, fresh=False, waited=True)
        assert place.flush(), "the test wants some that wait"
        closed = place.ingress[SOCKETS - 1]
        place.close_ingress(SOCKETS - 1)
        assert closed in opened()
        assert place.give_ingress(SOCKETS - 2, os.eventfd(0)), "the same number again: both are sent, in order"
        announced, slots = receive_all(place, theirs)
        assert announced == SOCKETS
        assert slots == [*range(SOCKETS), SOCKETS - 2]
        assert sorted(place.ingress) == list(range(SOCKETS - 1))
        place.close_all_ingress()
        kill(place)
    assert opened() == before


def test_a_socket_that_no_order_counts_is_not_sent_once_it_is_closed() -> None:
    before = opened()
    place = place_with(SOCKETS)
    with spare() as (child, theirs):
        place.order(child, fresh=False, waited=True)
        assert place.give_ingress(SOCKETS, os.eventfd(0))
        place.close_ingress(SOCKETS)
        assert receive_all(place, theirs) == (SOCKETS, list(range(SOCKETS)))
        place.close_all_ingress()
        kill(place)
    assert opened() == before


@pytest.mark.parametrize("end", ["death", "gone", "order"])
def test_a_closed_socket_that_could_not_be_sent_is_not_kept(end: str) -> None:
    before = opened()
    place = place_with(SOCKETS)
    with spare() as (child, theirs):
        place.order(child, fresh=False, waited=True)
        place.close_all_ingress()
        assert len(opened() - before) > 100
        if end == "gone":
            theirs.close()
            assert not place.flush()
        elif end == "order":
            left = [place.pidfd, place.ours.detach() if place.ours is not None else -1]
            with spare() as (other, others):
                place.order(other, fresh=False, waited=True)
                assert receive_all(place, others) == (0, [])
                kill(place)
            for fd in left:
                os.close(fd)
        if end != "order":
            kill(place)
    assert opened() == before


class Clock:
    """Asks the watchdog as the supervisor does, and says when it wants the place's process killed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_ns = 1_000 * UP_FROM_NOTHING_NS
        self.dog = Watchdog()
        monkeypatch.setattr("relay._core.clock_now", lambda: self.now_ns)

    def killed_after(self, place: Place, most_ns: int = 2 * UP_FROM_NOTHING_NS) -> int:
        start_ns = self.now_ns
        while self.now_ns - start_ns < most_ns:
            self.now_ns += CHECK_NS
            if self.dog.look(self.now_ns) and self.dog.hangs(0, 1, place.alive_ns(self.now_ns), self.now_ns):
                return self.now_ns - start_ns
        return -1


@pytest.mark.parametrize(
    ("waited", "named", "state", "limit_ns"),
    [
        (True, True, "T", UP_NS),
        (True, True, "S", UP_NS),
        (True, False, "S", UP_FROM_NOTHING_NS),
        (False, True, "S", UP_FROM_NOTHING_NS),
        (True, True, "t", -1),
        (False, False, "t", -1),
    ],
)
def test_who_was_ordered_into_a_place_has_a_time_to_say_that_it_is_up(
    monkeypatch: pytest.MonkeyPatch, waited: bool, named: bool, state: str, limit_ns: int
) -> None:
    monkeypatch.setattr("relay.watchdog.state_of", lambda pid: state)
    monkeypatch.setattr("relay.watchdog.cpu_ns", lambda pid: 0)
    monkeypatch.setattr(Child, "named", lambda child: named)
    clock, place = Clock(monkeypatch), Place("zr-worker-0")
    with spare() as (child, _):
        assert clock.killed_after(place) == -1, "nobody is there"
        place.order(child, fresh=False, waited=waited)
        assert clock.killed_after(place) == limit_ns
        kill(place)


def test_who_is_still_being_sent_its_sockets_is_not_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sent, not queued: one that stands still takes no more than its socket's buffer holds."""
    monkeypatch.setattr("relay.watchdog.state_of", lambda pid: "S")
    clock, place = Clock(monkeypatch), place_with(SOCKETS)
    with spare() as (child, theirs):
        place.order(child, fresh=False, waited=True)
        monkeypatch.setattr(Child, "named", lambda child: True)
        assert clock.killed_after(place, UP_NS - CHECK_NS) == -1
        socket.recv_fds(theirs, 64, 4)
        for _ in range(20):
            _, (fd,), _, _ = socket.recv_fds(theirs, 64, 4)
            os.close(fd)
        place.flush()
        assert place.give_ingress(SOCKETS, os.eventfd(0)), "says nothing about the process"
        assert clock.killed_after(place) == UP_NS
        place.close_all_ingress()
        kill(place)
