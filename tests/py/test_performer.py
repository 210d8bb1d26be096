"""relay/performer.py: in which order actions take effect, and what becomes of those that cannot."""

from __future__ import annotations

import socket

import pytest

from relay import actions as act
from relay.errors import CoreError
from relay.performer import Performer
from relay.units import Address

NOW = 1_000_000_000
PORTS = (30000, 30999)
ADD = act.SessionAdd(3, 11, 12, 1, 4000, 1420, Address("127.0.0.1", 9000))


class Outside:
    """Lane, worker and supervisor in one; `said` is what they were told, in order."""

    def __init__(self) -> None:
        self.said: list[tuple[object, ...]] = []
        self.waiting = 0
        self.room = True

    def session_add(self, slot: int, *conf: object) -> None:
        self.said.append(("add", slot))

    def session_drop(self, slot: int) -> None:
        self.said.append(("drop", slot))

    def heard_elsewhere(self, slot: int, when: int, now: int) -> None:
        self.said.append(("heard", slot, when))

    def send(self, slot: int, payload: bytes, now: int) -> None:
        if not self.room:
            raise CoreError("oversize")
        self.said.append(("sent", slot, payload))

    def post(self, record: bytes) -> None:
        self.waiting += 1

    def flush(self) -> None:
        if self.room:
            self.said += [("command",)] * self.waiting
            self.waiting = 0

    def open_ingress(self, worker: int, slot: int, ip: str, port: int, ports: tuple[int, int]) -> None:
        self.said.append(("ingress", worker, slot, ports))


@pytest.fixture
def outside() -> Outside:
    return Outside()


@pytest.fixture
def performer(outside: Outside) -> Performer:
    hellos = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made = Performer(
        outside, [outside], outside, hellos, PORTS,
        changed=lambda: outside.said.append(("changed",)),
        say=lambda level, event, **fields: outside.said.append((level, event, fields)),
        stuck=lambda slot, now: outside.said.append(("stuck", slot, now)),
        begun=lambda slot: outside.said.append(("begun", slot)),
    )  # fmt: skip
    yield made
    hellos.close()


def test_an_ingress_is_asked_for_only_when_the_commands_before_it_are_in_the_ring(
    performer: Performer, outside: Outside
) -> None:
    outside.room = False
    performer.perform(act.Command(0, bytes(64)), NOW)  # closes the slot's last socket
    performer.perform(act.OpenIngress(0, 7, "127.0.0.1", 0), NOW)
    performer.flush(NOW)
    assert outside.said == []
    outside.room = True
    performer.flush(NOW)
    performer.flush(NOW)
    assert outside.said == [("command",), ("ingress", 0, 7, PORTS)]


def test_only_a_session_that_the_lane_has_is_spoken_of(performer: Performer, outside: Outside) -> None:
    told = [act.SendControl(3, b"x"), act.HeardElsewhere(3, NOW - 5)]
    for action in [*told, ADD, *told, act.SessionDrop(3), *told]:
        performer.perform(action, NOW)
    assert outside.said == [("add", 3), ("begun", 3), ("sent", 3, b"x"), ("heard", 3, NOW - 5), ("drop", 3)]
    assert performer.sessions == set()


def test_a_session_whose_message_cannot_be_sent_is_to_begin_again(performer: Performer, outside: Outside) -> None:
    performer.perform(ADD, NOW)
    outside.room = False
    performer.perform(act.SendControl(3, bytes(9)), NOW)
    assert outside.said == [("add", 3), ("begun", 3), ("stuck", 3, NOW)]


def test_a_hello_that_cannot_leave_is_no_error(performer: Performer, outside: Outside) -> None:
    performer.perform(act.SendDatagram(Address("::1", 9), b"hello"), NOW)  # from a socket that has no IPv6
    assert outside.said == []


def test_the_agent_hears_of_streams_and_of_what_is_to_be_logged(performer: Performer, outside: Outside) -> None:
    performer.perform(act.StreamChanged("s"), NOW)
    performer.perform(act.Log("info", "peer is heard again", {"peer": "a"}), NOW)
    assert outside.said == [("changed",), ("info", "peer is heard again", {"peer": "a"})]
