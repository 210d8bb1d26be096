"""Sealed sessions while peers and keys change: taken out, put back, with another key, closed for a while."""

from __future__ import annotations

import random

import pytest

from relay.actions import SendDatagram, SessionAdd, SessionDrop
from relay.identity import Identity
from relay.noise import KeyPair
from relay.pace import MS, SECOND
from relay.sealed import SealedSessions
from relay.secret import Secret
from relay.sessions import SessionDown
from relay.stamp import Stamps
from relay.units import Address
from tests.py.sealed_rig import WALL, Net, met

STRANGER = KeyPair(bytes(range(32))).public


def up(seed: int = 3) -> Net:
    net = met(seed)
    assert net.run(3 * SECOND, until_up=True)
    net.run(SECOND)
    return net


def key(net: Net, name: str) -> bytes:
    return KeyPair(net.private[name]).public


def set_peers(net: Net, at: str, public: bytes | None, *, address: Address | None = None) -> None:
    """What relay `at` is told of the other one; None: nothing."""
    other = "ab".replace(at, "")
    sessions = net.ends[at].sessions
    listed = {} if public is None else {other: [address or net.addresses[other]]}
    sessions.set_peers(listed, {} if public is None else {other: public}, net.now)
    net.ends[at].turn()


@pytest.mark.parametrize("case", ["T20"])
def test_a_peer_that_is_taken_out_is_a_stranger_at_once(case: str) -> None:
    net = up()
    a, b = net.ends["a"], net.ends["b"]
    heard = a.heard
    set_peers(net, "a", None)
    assert (a.slots, a.sessions.adds(), a.sessions.deadline()) == ({}, [], None)
    net.run(30 * SECOND)
    assert a.heard == heard
    assert set(a.words) <= {"noindex", "unknown_peer"}
    assert "unknown_peer" in a.words  # it asks again, and is answered nothing
    sent = [datagram for source, _, datagram in net.tape if source == a.address and isinstance(datagram, bytes)]
    before = len(sent)
    net.run(10 * SECOND)
    assert len([d for source, _, d in net.tape if source == a.address and isinstance(d, bytes)]) == before
    assert not b.up
    set_peers(net, "a", key(net, "b"))
    assert net.run(10 * SECOND, until_up=True)
    net.agree()


def test_a_peer_with_another_key_is_cut_off_until_it_has_that_key() -> None:
    net = up()
    set_peers(net, "a", STRANGER)
    assert net.ends["a"].slots == {}
    assert not net.run(15 * SECOND, until_up=True)
    net.private["b"] = bytes(range(32))
    net.boot("b", saved=WALL + 3600 * SECOND)
    assert net.run(10 * SECOND, until_up=True)
    net.agree()


def test_our_own_new_key_ends_no_session_and_is_used_from_the_next_handshake_on() -> None:
    net = up()
    a, b = net.ends["a"], net.ends["b"]
    slots = (set(a.slots), set(b.slots))
    net.private["a"] = bytes(range(32))
    a.sessions.set_identity(net.identity("a"))
    net.run(30 * SECOND)
    assert (set(a.slots), set(b.slots)) == slots
    assert a.up
    assert b.up
    set_peers(net, "b", STRANGER)  # the map follows
    assert net.run(15 * SECOND)
    net.agree()


def test_the_mesh_key_changes_on_one_relay_after_the_other_and_no_datagram_is_lost() -> None:
    net = up()
    a, b = net.ends["a"], net.ends["b"]
    slots = (set(a.slots), set(b.slots))
    first = a.keys()
    a.sessions.set_identity(net.identity("a", mesh=b"m" * 32))
    net.run(200 * SECOND)  # beyond a rekey, which fails
    assert a.keys() == first
    b.sessions.set_identity(net.identity("b", mesh=b"m" * 32))
    net.run(200 * SECOND)
    assert a.keys() != first
    assert (set(a.slots), set(b.slots)) == slots
    net.agree()


@pytest.mark.parametrize("who", ["a", "b"])
def test_a_link_that_is_closed_stays_so_for_as_long_as_it_was_said(who: str) -> None:
    net = up()
    end = net.ends[who]
    (slot,) = end.slots
    end.sessions.close(slot, net.now, 4 * SECOND)
    end.turn()
    assert end.slots == {}
    before = len(net.tape)
    closed = net.now
    assert not net.run(4 * SECOND - 10 * MS, until_up=True)
    assert not [d for source, _, d in net.tape[before:] if source == end.address and isinstance(d, bytes)]
    assert end.slots == {}
    assert net.run(10 * SECOND, until_up=True)
    assert net.now >= closed + 4 * SECOND
    net.run(3 * SECOND)
    net.agree()


def test_a_peer_that_moved_is_met_at_its_new_address_and_one_more_address_changes_nothing() -> None:
    net = up()
    a, b = net.ends["a"], net.ends["b"]
    slots = set(a.slots)
    a.sessions.set_peers({"b": [b.address, Address("127.0.0.9", 9)]}, {"b": key(net, "b")}, net.now)
    a.turn()
    assert set(a.slots) == slots
    elsewhere = Address("127.0.0.3", 300)
    set_peers(net, "a", key(net, "b"), address=elsewhere)
    assert a.slots == {}
    net.addresses["b"] = net.others["a"] = b.address = elsewhere
    assert net.run(15 * SECOND, until_up=True)


def test_peers_come_and_go_and_nothing_of_them_is_left() -> None:
    rng = random.Random(4)
    privates = {name: rng.randbytes(32) for name in "bcdefgh"}
    publics = {name: KeyPair(private).public for name, private in privates.items()}
    places = {name: Address("127.0.0.1", 1000 + number) for number, name in enumerate(publics)}
    ours = Identity(Secret(rng.randbytes(32)), Secret(bytes(32)), {})
    sessions = SealedSessions("a", 1, 1, {}, rng, identity=ours, stamps=Stamps(WALL, 0), entropy=rng.randbytes)
    sessions.start(0)
    opened = dropped = 0
    for number in range(60):
        now = number * SECOND
        names = [name for name in publics if rng.random() < 0.5]
        sessions.set_peers({name: [places[name]] for name in names}, publics, now)
        sessions.on_timer(now)
        assert set(sessions.peers) == set(sessions.handshakes.peers) == set(names)
        for name in names:
            theirs = Identity(Secret(privates[name]), Secret(bytes(32)), {"a": sessions.handshakes.public})
            other = SealedSessions(
                name, number, 1, {"a": [Address("127.0.0.1", 1)]}, rng, identity=theirs,
                stamps=Stamps(WALL + now, 0), entropy=rng.randbytes,
            )  # fmt: skip
            other.start(0)
            other.on_timer(0)
            (said,) = (action.data for action in other.actions if isinstance(action, SendDatagram))
            sessions.on_datagram(said, places[name], now)
        opened += sum(isinstance(action, SessionAdd) for action in sessions.actions)
        dropped += sum(isinstance(action, SessionDrop) for action in sessions.actions)
        sessions.actions.clear()
    assert opened > 100
    sessions.set_peers({}, {}, 100 * SECOND)
    dropped += sum(isinstance(action, SessionDrop) for action in sessions.actions)
    assert opened == dropped
    assert (sessions.adds(), sessions.deadline(), len(sessions._slots), sessions._by_slot) == ([], None, 0, {})
    assert (len(sessions.handshakes.indices), sessions.handshakes._pending, sessions.handshakes._answered) == (
        0,
        {},
        {},
    )


def test_who_goes_is_told_as_a_session_that_went_down() -> None:
    net = up()
    sessions = net.ends["a"].sessions
    (slot,) = net.ends["a"].slots
    sessions.set_peers({}, {}, net.now)
    assert sessions.events == [SessionDown("b", slot)]
