"""What a place sends to the process that takes it: the order, and as many sockets as the order says."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import time
from collections.abc import Iterator

import pytest

from relay.places import FDPASS, ORDER, Place
from relay.processes import Child

SOCKETS = 2000  # more than fit into a socket's buffer
SLEEPER = (sys.executable, "-c", "import time; time.sleep(60)")


@contextlib.contextmanager
def spare() -> Iterator[tuple[Child, socket.socket]]:
    """A process that waits, and the end of its socket at which the test reads for it."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
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
        place.order(child, fresh=False)
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
        place.order(child, fresh=False)
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
        place.order(child, fresh=False)
        place.close_all_ingress()
        assert len(opened() - before) > 100
        if end == "gone":
            theirs.close()
            assert not place.flush()
        elif end == "order":
            left = [place.pidfd, place.ours.detach() if place.ours is not None else -1]
            with spare() as (other, others):
                place.order(other, fresh=False)
                assert receive_all(place, others) == (0, [])
                kill(place)
            for fd in left:
                os.close(fd)
        if end != "order":
            kill(place)
    assert opened() == before
