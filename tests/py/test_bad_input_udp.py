"""Bad input, U: the envelope. Each case against lanes of the C core and over sockets against a running relay."""

from __future__ import annotations

import random
import socket

import pytest

from relay import _core
from relay.messages import Hello, encode_hello
from relay.sessions import SESSIONS_MAX, Sessions
from relay.units import Address
from tests.py.badinput import (
    AGENT,
    NOW,
    OTHER_PROTOCOLS,
    ROWS,
    SECOND,
    WORKER,
    Lane,
    Row,
    envelope,
    mixed_run,
    moved,
    send_run,
)

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


def test_whatever_a_hello_is_refused_for_is_a_drop_of_the_link_ledger() -> None:
    """The agent hands the word to the lane, which takes no other: one too many peers must not be an exception."""
    addresses = {f"r{n}": Address("127.0.0.1", 1000 + n) for n in range(SESSIONS_MAX + 1)}
    sessions = Sessions("me", 1, 1, {name: [address] for name, address in addresses.items()}, random.Random(1))
    sessions.start(NOW)
    lane = _core.ControlLane(NOW)
    hellos = [(Hello(relay=name, boot_id=2, index=1, lanes=1), address) for name, address in addresses.items()]
    for wrong in (
        Hello(relay="me", boot_id=2, index=1, lanes=1),
        Hello(relay="who", boot_id=2, index=1, lanes=1),
        Hello(relay="r0", boot_id=2, index=1, lanes=1, to=1 << 25),
    ):
        hellos.append((wrong, addresses["r0"]))
    words = []
    for number, (hello, source) in enumerate(hellos):
        data = encode_hello(hello)
        assert lane.input(data, source.pack(), NOW + number * SECOND) == [(data, source.pack())]
        word = sessions.on_datagram(data, source, NOW)
        if word is not None:
            lane.refuse(word)
            words.append(word)
    assert words == ["link_pool", "self", "unknown_peer", "noindex"]
    assert moved({}, lane.drops()) == dict.fromkeys(words, 1)
    assert lane.ledgers()["link"] == 0
