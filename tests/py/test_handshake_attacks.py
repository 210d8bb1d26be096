"""What others send: strangers, replays, other keys, cookies. None of it may alter a session or one that begins."""

import os
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay import _core, xchacha
from relay.actions import SendDatagram
from relay.handshake import Handshakes
from relay.handshake_wire import ZRELAY, Macs, Params, mac
from relay.identity import Identity
from relay.noise import KeyPair
from relay.pace import MS, SECOND
from relay.secret import Secret
from relay.stamp import Stamps
from relay.units import Address
from tests.py.sealed_rig import Data, Net, met

HANDSHAKES = 1000 if os.environ.get("ZR_FULL") else 200


def stranger(net: Net, private: bytes, to: str = "b", mesh: bytes | None = None) -> bytes:
    """An initiation by somebody with this static key, sealed for `to`."""
    public = KeyPair(net.private[to]).public
    identity = Identity(Secret(private), Secret(net.mesh if mesh is None else mesh), {to: public})
    machine = Handshakes(
        identity, {to: [net.addresses[to]]}, Params(), Stamps(net.now, 0), net.rng, entropy=net.rng.randbytes
    )
    machine.begin(to, 0)
    machine.on_timer(0)
    return machine.out[0].data


def flipped(data: bytes, at: int, bit: int) -> bytes:
    changed = bytearray(data)
    changed[at % len(data)] ^= 1 << bit
    return bytes(changed)


def attack(net: Net, forged: list[bytes]) -> None:
    """Whatever is under way again, in pieces, with a bit flipped, and back to where it came from; then the forged."""
    for source, to, data in net.tape[-4:]:
        if isinstance(data, bytes):
            at = net.rng.randrange(len(data))
            for wrong in (data, data[:at], flipped(data, at, net.rng.randrange(8))):
                net.inject(source, to, wrong)
            net.inject(to, source, data)
    for data in forged:
        net.inject(net.addresses["a"], net.addresses["b"], data)


def test_what_an_attacker_sends_during_many_handshakes_ends_none_of_them() -> None:
    """T05: unknown static key, another mesh key, truncated, changed, replayed, reflected, from the right address."""
    keys = Net(0)
    forged = [stranger(keys, bytes(range(32))), stranger(keys, keys.private["a"], mesh=bytes(32))]
    took, refused = [], set()
    for seed in range(HANDSHAKES):
        net = Net(seed, delay_ns=10 * MS)
        net.private, net.mesh = keys.private, keys.mesh
        for name in "ab":
            net.boot(name)
        began = net.now
        attack(net, forged)
        while not net.run(10 * MS, until_up=True):
            assert net.now - began < SECOND, seed
            attack(net, forged)
        took.append(net.now - began)
        net.run(150 * MS)
        ((send_a, recv_a),), ((send_b, recv_b),) = (net.ends[name].keys() for name in "ab")
        assert (send_a, recv_a) == (recv_b, send_b), seed
        refused |= {word for end in net.ends.values() for word in end.words}
    took.sort()
    median, late = took[HANDSHAKES // 2], took[HANDSHAKES * 99 // 100]
    print(f"median {median / 1e6} ms, p99 {late / 1e6} ms, refused: {sorted(refused)}")
    assert {"unknown_peer", "mac1", "length", "self", "stamp", "noindex"} <= refused
    assert late <= SECOND


def test_ten_thousand_old_initiations_disrupt_nothing() -> None:
    """T11, U24: each is refused, the session stays as it is; at most 20 a second say which stamp was seen last."""
    net = met(11)
    assert net.run(SECOND, until_up=True)
    for _ in range(20):
        for end in net.ends.values():
            (slot,) = end.slots
            end.sessions.rekey(slot, net.now)
        net.run(2 * SECOND)
    net.agree()
    tape = [(s, t, d) for s, t, d in net.tape if isinstance(d, bytes) and d[0] == 0x08]
    assert len(tape) >= 20
    keys = [end.keys() for end in net.ends.values()]
    sent = [end.sessions.handshakes.counts["responses_sent"] for end in net.ends.values()]
    for end in net.ends.values():
        end.words.clear()
    for number in range(10_000):
        source, to, data = tape[number % len(tape)]
        net.inject(source, to, data, delay_ns=number * MS // 10)
    net.run(2 * SECOND)
    words = [word for end in net.ends.values() for word in end.words]
    assert words.count("stamp") == 10_000
    assert set(words) <= {"stamp", "cookie"}  # told to a peer that did not ask
    told = [end.sessions.handshakes.counts["stamps_told"] for end in net.ends.values()]
    assert max(told) <= 21 * 2
    assert [end.keys() for end in net.ends.values()] == keys
    assert [end.sessions.handshakes.counts["responses_sent"] for end in net.ends.values()] == sent
    net.agree()


def test_initiations_of_before_a_restart_do_not_touch_the_session_after_it() -> None:
    """The restarted side has forgotten which stamps it saw; what it makes of a replay is never in use."""
    net = met(12)
    assert net.run(SECOND, until_up=True)
    net.run(SECOND)
    tape = [(s, t, d) for s, t, d in net.tape if isinstance(d, bytes) and d[0] == 0x08]
    net.boot("b")
    net.boot("a")
    for _ in range(5):
        for source, to, data in tape:
            net.inject(source, to, data, delay_ns=int(net.rng.random() * SECOND))
        net.run(300 * MS)
    assert net.run(2 * SECOND, until_up=True)
    net.run(12 * SECOND)
    net.agree()
    assert [len(end.slots) for end in net.ends.values()] == [1, 1]


def test_recorded_initiations_do_not_silence_two_relays_that_have_both_restarted() -> None:
    net = met(18)
    assert net.run(SECOND, until_up=True)
    for _ in range(12):
        for end in net.ends.values():
            (slot,) = end.slots
            end.sessions.rekey(slot, net.now)
        net.run(2 * SECOND)
    tape = [(s, t, d) for s, t, d in net.tape if isinstance(d, bytes) and d[0] == 0x08]
    net.loss = 1.0
    net.boot("a"), net.boot("b")
    lasts = {to: [d for _, t, d in tape if t == to] for to in net.addresses.values()}
    for number in range(10):  # one to each, in their order, every 300 ms: each is new to who has forgotten
        for to, datagrams in lasts.items():
            source = next(address for address in net.addresses.values() if address != to)
            net.inject(source, to, datagrams[min(number, len(datagrams) - 1)])
        if number == 1:
            net.loss = 0.0
        if net.run(300 * MS, until_up=True):
            break
    assert number < 9
    net.run(15 * SECOND)
    net.agree()


def row(id: str, what: str, word: str) -> Any:
    return pytest.param(what, word, id=f"{id} {what}")


def test_another_mesh_key_is_no_session_and_no_answer() -> None:
    net = Net(13)
    net.boot("a", mesh=bytes(32))
    net.boot("b")
    assert not net.run(3 * SECOND, until_up=True)
    assert {word for end in net.ends.values() for word in end.words} == {"mac1"}
    assert not any(isinstance(data, Data) or data[0] != 0x08 for _, _, data in net.tape)


@pytest.mark.parametrize(
    ("what", "word"),
    [
        row("U22", "unknown static", "unknown_peer"),
        row("U25", "low order", "dh"),
        ("own static", "self"),
        row("U31", "reflected", "self"),
        ("another address", "unknown_peer"),
        row("U20", "truncated", "length"),
        ("type", "type"),
        row("U21", "mac1", "mac1"),
        ("body", "auth"),
        row("U30", "response to nothing", "noindex"),
        row("U30", "response twice", "noindex"),
        row("U29", "cookie to nothing", "cookie"),
    ],
)
def test_each_bad_handshake_datagram_is_refused_by_its_word_and_changes_nothing(what: str, word: str) -> None:
    net = met(14)
    assert net.run(SECOND, until_up=True)
    net.run(SECOND)
    b, here = net.ends["b"], net.addresses["a"]
    to_b = [d for _, t, d in net.tape if isinstance(d, bytes) and t == net.addresses["b"]]
    by_b = [d for s, _, d in net.tape if isinstance(d, bytes) and s == net.addresses["b"]]
    macs = Macs(ZRELAY, KeyPair(net.private["b"]).public, net.mesh)
    good = next(d for d in [*to_b, stranger(net, net.private["a"])] if d[0] == 0x08)
    (slot,) = b.slots
    if what == "reflected":
        b.sessions.rekey(slot, net.now)
        net.loss = 1.0
        b.turn()
        by_b = [d for s, _, d in net.tape if isinstance(d, bytes) and s == net.addresses["b"]]
    data = {
        "unknown static": lambda: stranger(net, bytes(range(32))),
        "low order": lambda: macs.finish(good[:8] + bytes(32) + good[40:-32], None),
        "own static": lambda: stranger(net, net.private["b"]),
        "reflected": lambda: [d for d in by_b if d[0] == 0x08][-1],
        "another address": lambda: stranger(net, net.private["a"]),
        "truncated": lambda: good[:-1],
        "type": lambda: b"\x07" + good[1:],
        "mac1": lambda: good[:-20] + bytes(20),
        "body": lambda: macs.finish(good[:100] + bytes(4) + good[104:-32], None),
        "response to nothing": lambda: b"\x09\0\0\0" + bytes(112),
        "response twice": lambda: next(d for d in [*to_b, b"\x09\0\0\0" + bytes(112)] if d[0] == 0x09),
        "cookie to nothing": lambda: b"\x0a\0\0\0" + bytes(60),
    }[what]()
    keys, pending = b.keys(), list(b.sessions.handshakes.peers["a"].pending)
    source = Address("127.0.0.9", 9) if what == "another address" else here
    assert b.sessions.on_datagram(data, source, net.now) == word
    assert b.sessions.actions == []
    assert b.keys() == keys
    assert list(b.sessions.handshakes.peers["a"].pending) == pending
    net.loss = 0.0
    net.run(2 * SECOND)
    net.agree()


def test_another_psk_is_noticed_by_the_initiator_and_nobody_gets_a_session() -> None:
    """U23: the responder cannot know. What it made is never heard, so it goes away by itself."""
    net = Net(15)
    net.boot("a"), net.boot("b")
    net.ends["b"].sessions.handshakes._psk = bytes(32)
    assert not net.run(15 * SECOND, until_up=True)
    assert net.ends["a"].words.count("auth") + net.ends["b"].words.count("auth") > 10
    assert [end.ups for end in net.ends.values()] == [0, 0]
    assert sum(len(end.slots) for end in net.ends.values()) <= 1


def test_a_cookie_is_taken_once_and_proves_the_address_for_two_minutes() -> None:
    net = Net(16, loss=1.0)
    a, public = net.boot("a"), KeyPair(net.private["b"]).public
    macs, cookie, nonce = Macs(ZRELAY, public, net.mesh), bytes(range(16)), bytes(range(24))
    asked = a_datagram(net)
    sealed = xchacha.seal(macs.cookie_key, nonce, cookie, asked[-32:-16])
    reply = b"\x0a\0\0\0" + asked[4:8] + nonce + sealed
    there = net.addresses["b"]
    assert a.sessions.on_datagram(reply[:-1] + bytes((reply[-1] ^ 1,)), there, net.now) == "cookie"
    assert a.sessions.on_datagram(reply, Address("127.0.0.9", 9), net.now) == "cookie"
    assert a.sessions.on_datagram(reply, there, net.now) is None
    assert a.sessions.on_datagram(reply, there, net.now) == "cookie"
    a.turn()
    began = net.now
    net.run(100 * MS)
    data = a_datagram(net)
    assert data[-16:] == mac(cookie, data[:-16])
    net.run(119 * SECOND)
    data = a_datagram(net)
    assert data[-16:] == mac(cookie, data[:-16])
    net.run(began + 130 * SECOND - net.now)
    assert a_datagram(net)[-16:] == bytes(16)


def a_datagram(net: Net) -> bytes:
    """The newest one of "a"."""
    data = net.tape[-1][2]
    assert isinstance(data, bytes)
    return data


def test_eight_initiations_can_be_answered_and_no_more_are_kept() -> None:
    net = Net(17, loss=1.0)
    a = net.boot("a")
    net.run(3 * SECOND)
    machine = a.sessions.handshakes
    assert len(machine.peers["b"].pending) == len(machine.indices) == 8
    net.loss = 0.0
    sent = [data for _, _, data in net.tape]
    b = net.boot("b")
    b.sessions.handshakes.forget("a")  # it only answers
    for data, word in ((sent[-9], "noindex"), (sent[-8], None)):
        b.sessions.handshakes.out.clear()
        assert b.sessions.handshakes.on_datagram(data, net.addresses["a"], net.now) is None
        b.sessions.handshakes.peers["a"].answer = None  # no hold: answer each by itself
        answer = b.sessions.handshakes.out[-1].data
        assert a.sessions.on_datagram(answer, net.addresses["b"], net.now) == word
    assert a.up
    assert len(machine.peers["b"].pending) == 7  # newer ones: an answer to them may be under way


LINK_WORDS = {id for id, ledger, *_ in _core.DROPS if ledger == "link"}
FUZZED = met(19)
FUZZED.run(SECOND)
SEEN = [data for _, _, data in FUZZED.tape if isinstance(data, bytes)]


@settings(max_examples=400, deadline=None)
@given(
    st.one_of(
        st.binary(max_size=200),
        st.builds(lambda kind, body: bytes((kind, 0, 0, 0)) + body, st.integers(8, 10), st.binary(max_size=180)),
        st.builds(flipped, st.sampled_from(SEEN), st.integers(0, 200), st.integers(0, 7)),
    )
)
def test_whatever_arrives_is_refused_by_a_word_of_the_link_ledger_and_changes_nothing(data: bytes) -> None:
    """The agent hands the word to its lane, which knows no other. mac2 is the gate's: a bit of it makes a replay."""
    for end, peer in zip(FUZZED.ends.values(), "ba", strict=True):
        keys = end.keys()
        assert end.sessions.on_datagram(data, FUZZED.addresses[peer], FUZZED.now) in LINK_WORDS
        assert end.keys() == keys
        for action in end.sessions.actions:
            assert isinstance(action, SendDatagram)
            assert len(action.data) == 64  # to an initiation of before: which stamp was seen last
        end.sessions.actions.clear()
