"""Bad input, U: the envelope. Each case against lanes of the C core and over sockets against a running relay."""

from __future__ import annotations

import socket

import pytest

from relay import _core
from relay.units import Address
from tests.py.badinput import AGENT, NOW, OTHER_PROTOCOLS, ROWS, WORKER, Lane, Row, envelope, mixed_run, moved, send_run

LANES = pytest.mark.parametrize("lane", [WORKER, AGENT], ids=["worker", "agent"])


@pytest.mark.parametrize("row", ROWS, ids=str)
@LANES
def test_each_datagram_is_dropped_for_exactly_this_reason(lane: int, row: Row) -> None:
    target = Lane(lane)
    datagrams = row.make(lane)
    assert target.throw(datagrams) == {row.word: len(datagrams)}
    assert target.stat("link_accepted") == 0
    assert target.heard() in (0, None)
    target.settle()


@pytest.mark.parametrize("protocol", OTHER_PROTOCOLS, ids=str)
@LANES
def test_u38_other_protocols_by_name(lane: int, protocol: str) -> None:
    target = Lane(lane)
    assert target.throw([OTHER_PROTOCOLS[protocol]]) == {"type": 1}
    target.settle()


@pytest.mark.parametrize("case", ["U04"])
@LANES
def test_an_empty_plaintext_is_a_sign_of_life_and_nothing_else(lane: int, case: str) -> None:
    target = Lane(lane)
    assert target.throw([envelope(lane=lane, counter=number) for number in range(100)]) == {}
    assert (target.stat("link_accepted"), target.stat("link_empty")) == (100, 100)
    assert target.heard() in (NOW, None)
    target.settle()


@pytest.mark.parametrize("gro", [True, False], ids=["gro", "plain"])
@pytest.mark.parametrize("case", ["U40"])
def test_a_super_packet_is_split_and_counts_as_its_datagrams_would(case: str, gro: bool) -> None:
    run, expected = mixed_run(AGENT)
    lane = _core.ControlLane(NOW)
    fd = _core.udp_open(Address("127.0.0.1", 0).pack(), gro=gro)
    with socket.socket(fileno=fd) as receiver, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        send_run(sender, run, receiver.getsockname())
        assert lane.receive(receiver.fileno(), NOW) == []
    assert moved({}, lane.drops()) == expected
    assert lane.ledgers()["link"] == 0
    assert lane.stats()["rx_link"] == len(run)
