"""Bad input, U: the envelope. Each case against lanes of the C core and over sockets against a running relay."""

from __future__ import annotations

import random
import socket
import struct

import pytest

from relay import _core
from relay.actions import SessionKeys
from relay.messages import Hello, encode_hello
from relay.secret import Secret
from relay.sessions import SESSIONS_MAX, Sessions
from relay.units import Address
from tests.py.badinput import (
    AGENT,
    INDEX,
    NOW,
    OTHER_PROTOCOLS,
    PEER_INDEX,
    ROWS,
    SECOND,
    SESSION,
    SESSION_MTU,
    WORKER,
    Lane,
    Row,
    envelope,
    mixed_run,
    moved,
    send_run,
)
from tests.py.sealer import Sealer

SO_NO_CHECK = 11  # asm-generic/socket.h
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


@pytest.mark.parametrize("case", ["U39"])
def test_what_a_wrong_checksum_lets_through_the_seal_does_not(case: str) -> None:
    """None: the kernel passes it on. A wrong one: it does not. A right one over changed bytes: not ours."""
    keys = SessionKeys(1, Secret(b"t" * 32), Secret(b"u" * 32), True)
    ours = SessionKeys(1, keys.recv, keys.send, True)
    lane = _core.ControlLane(NOW, rate_idle=0)
    sealer = Sealer(keys, INDEX, lane=AGENT, to_lane=AGENT)
    with (
        socket.socket(fileno=_core.udp_open(Address("127.0.0.1", 0).pack())) as receiver,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
    ):
        sender.bind(("127.0.0.1", 0))
        peer, to = Address(*sender.getsockname()), receiver.getsockname()
        lane.session_add(SESSION, INDEX, PEER_INDEX, 2, 0, SESSION_MTU, peer.pack(), NOW, ours.row(NOW))

        def outcome() -> tuple[int, int, dict[str, int]]:
            assert lane.receive(receiver.fileno(), NOW) == []
            return lane.stats()["rx_link"], lane.stats()["link_accepted"], moved({}, lane.drops())

        sender.sendto(sealer.seal(), to)
        assert outcome() == (1, 1, {})
        sender.setsockopt(socket.SOL_SOCKET, SO_NO_CHECK, 1)
        sender.sendto(sealer.seal(), to)
        assert outcome() == (2, 2, {})
        sender.setsockopt(socket.SOL_SOCKET, SO_NO_CHECK, 0)
        changed = bytearray(sealer.seal(bytes(8)))
        changed[20] ^= 1
        sender.sendto(changed, to)
        assert outcome() == (3, 2, {"auth": 1})
        try:
            raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP)
        except PermissionError:
            pytest.skip("a datagram with a wrong checksum: run as root")
        with raw:
            data = sealer.seal()
            raw.sendto(struct.pack(">HHHH", peer.port, to[1], 8 + len(data), 0xBAD1) + data, (to[0], 0))
        assert outcome() == (3, 2, {"auth": 1})
        sender.sendto(data, to)
        assert outcome() == (4, 3, {"auth": 1})


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
