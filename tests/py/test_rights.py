"""What peers may do, and what becomes of those that do more; peers that come, change and go while the relay runs."""

from __future__ import annotations

import random
from dataclasses import replace

import msgspec
import pytest

from relay import actions as act
from relay import messages as m
from relay.commands import core_codec
from relay.control import Control, ControlConf, Upstream
from relay.identity import Identity
from relay.peers import Peer
from relay.secret import Secret
from relay.sessions import SessionDown, Sessions
from relay.units import Address
from relay.violations import Violations
from tests.py.fake_mesh import S, body, to
from tests.py.test_pulls import AT, Middle, asked, ok

MS = 1_000_000
PEERS = [Peer(name, [at], ("live/",), ("live/",)) for name, at in AT.items()]


KEYS = Identity(Secret(b"k" * 32), Secret(b"m" * 32), {})


def middle(*peers: Peer) -> Middle:
    """As if its links were sealed: what `Middle` says by hellos, it says under keys."""
    made = Middle(peers=list(peers) or PEERS)
    made.control._desk.conf = replace(made.control._desk.conf, identity=KEYS)
    return made


def say(mid: Middle, name: str, message: m.AnyMessage, now: int = 0) -> str | None:
    return mid.control.on_message(mid.slots[name], m.encode_message(message), now)


def done(mid: Middle) -> tuple[list[act.Action], list[str]]:
    """All actions that are due, and what is logged as an error."""
    actions = mid.control.drain()
    return actions, [action.event for action in actions if isinstance(action, act.Log) and action.level == "error"]


# -- rights ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", ["T15 have", "K35 have"])
def test_a_peer_that_announces_a_stream_outside_its_rights_breaks_the_protocol(case: str) -> None:
    mid = middle()
    done(mid)
    assert say(mid, "down", m.Have(streams={"live/s": 1})) is None
    assert say(mid, "down", m.Have(streams={"live/s": 1, "other/s": 1})) == "rights"
    assert done(mid)[1] == ["have refused: rights"]
    assert mid.control.streams() == []


@pytest.mark.parametrize("stream", ["other/s", "liv", "live", "Live/s"], ids=lambda text: f"K35 pull {text}")
def test_a_pull_outside_the_peers_rights_is_refused_counted_and_said_once_a_second(stream: str) -> None:
    mid = middle()
    mid.control.publish("live/s", body(), 0)
    mid.out()
    errors = []
    for number in range(50):
        assert say(mid, "down", asked(8 + number, stream=stream), number * 40 * MS) is None
        actions, logged = done(mid)
        (answer,) = [m.decode_message(action.payload) for action in actions if isinstance(action, act.SendControl)]
        assert isinstance(answer, m.PullNo)
        assert answer.code == "rights"
        errors += logged
    assert errors == ["pull refused: rights"] * 2
    assert mid.control.rejected() == {"rights": 50}
    assert mid.control.slots_in_use()["children"] == 0


@pytest.mark.parametrize("case", ["K29"])
def test_a_message_of_an_unknown_type_is_answered_and_counted_and_is_no_violation(case: str) -> None:
    mid = middle()
    done(mid)
    for number in range(40):
        said = msgspec.msgpack.encode({"t": "teleport", "r": number, "conv": -1, "list": [[]]})
        assert mid.control.on_message(mid.slots["down"], said, 0) is None
    actions, errors = done(mid)
    answers = [m.decode_message(action.payload) for action in actions if isinstance(action, act.SendControl)]
    assert answers == [m.Unsupported(of="teleport", r=number) for number in range(40)]
    assert mid.control.unsupported() == 40
    assert errors == []
    assert {link.peer: link.state for link in mid.control.links()}["down"] == "up"
    assert say(mid, "down", answers[0]) is None  # and is itself never answered: two relays would go on for ever
    assert done(mid)[0] == []


@pytest.mark.parametrize("said", [b"", b"\xc1", b"\x90", b"\x80", b"\x81\xa1t\x01"], ids=lambda b: f"K29 {b.hex()}")
def test_what_is_no_map_or_has_no_type_is_a_violation(said: bytes) -> None:
    mid = middle()
    done(mid)
    assert mid.control.on_message(mid.slots["down"], said, 0) == "msg"
    actions, _ = done(mid)
    assert actions == []  # no answer
    assert mid.control.unsupported() == 0


@pytest.mark.parametrize("case", ["K34"])
def test_asking_twice_and_stopping_what_is_not_there_change_nothing(case: str) -> None:
    mid = middle()
    mid.control.publish("live/s", body(), 0)
    mid.out()
    added = 0
    for number in range(3):
        mid.hear("down", asked(r=number))
        said, told = mid.out()
        assert [message.r for _, message in said if isinstance(message, m.PullOk)] == [number]
        added += [op for op, _ in told].count("child_add")
    assert added == 1
    for conv in (8, 8, 99):
        mid.hear("down", m.Drop(conv=conv))
    assert [op for op, _ in mid.out()[1]] == ["sub_drop"]
    assert mid.control.slots_in_use()["children"] == 0


@pytest.mark.parametrize("case", ["K36"])
def test_the_1025th_stream_on_a_link_is_refused_and_leaves_room_for_others(case: str) -> None:
    mid = middle(*(replace(peer, pull=("",)) for peer in PEERS))
    mid.control.publish("live/s", body(), 0)
    for conv in range(1, 1027):
        mid.hear("down", asked(conv))
    mid.hear("up1", asked(7, route=["up1"]))
    answers = [(name, message) for name, message in mid.out()[0]]
    assert [message.code for _, message in answers if isinstance(message, m.PullNo)] == ["quota"] * 2
    assert sum(isinstance(message, m.PullOk) and name == "up1" for name, message in answers) == 1
    mid.hear("down", m.Drop(conv=5))
    mid.hear("down", asked(2000))
    assert [type(message) for _, message in mid.out()[0]] == [m.PullOk]


def test_rights_that_shrink_end_what_they_no_longer_allow() -> None:
    mid = middle()
    mid.control.publish("live/own", body(), 0)
    mid.control.subscribe("live/far", "x", to(), 0)
    pulls = dict(mid.out()[0])
    mid.hear("up1", ok(pulls["up1"]))
    mid.hear("down", asked(stream="live/own"))
    mid.out()
    less = [replace(PEERS[0], publish=()), PEERS[1], replace(PEERS[2], pull=())]
    mid.control.set_peers(less, S)
    said, told = mid.out()
    assert ("down", m.Gone(conv=8, code="lost")) in said
    assert ("up1", m.Drop(conv=pulls["up1"].conv)) in said
    assert [name for name, message in said if isinstance(message, m.Pull)] == ["up2"]
    assert {"sub_drop", "pull_stop"} <= {op for op, _ in told}
    mid.hear("down", asked(9, stream="live/own"))
    assert [message.code for _, message in mid.out()[0] if isinstance(message, m.PullNo)] == ["rights"]
    mid.control.set_peers(PEERS, 2 * S)
    mid.hear("down", asked(10, stream="live/own"))
    assert [type(message) for _, message in mid.out()[0]] == [m.PullOk]


# -- violations -----------------------------------------------------------------------------------------------------


def test_sixteen_violations_in_ten_seconds_close_a_link_and_fifteen_do_not() -> None:
    found = Violations()
    assert [found.add("p", 1, n * 600 * MS) for n in range(15)] == [0] * 15
    assert found.add("p", 1, 10 * S) == 0  # the first one is ten seconds old
    assert found.add("q", 1, 10 * S) == 0  # another peer's
    assert found.add("p", 1, 10 * S) == S
    assert found.add("p", 15, 10 * S) == 0  # they are counted anew
    assert found.add("p", 0, 10 * S) == 0
    assert found.add("p", 1000, 11 * S) == 2 * S


def test_a_link_stays_closed_longer_each_time_up_to_a_minute_and_is_forgiven_after_ten() -> None:
    found, now, closed = Violations(), 0, []
    for _ in range(9):
        now += 30 * S
        closed.append(found.add("p", 16, now) // S)
    assert closed == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert found.add("p", 16, now + 600 * S) == S
    found.forget_all_but(["q"])
    assert found.add("p", 16, now + 601 * S) == S


@pytest.mark.parametrize("payload", [b"\xc1", b"\x80", m.encode_message(m.Have(streams={"x": 1}))])
def test_a_peer_that_breaks_the_protocol_16_times_loses_its_session_and_comes_back_later(payload: bytes) -> None:
    mid = middle()
    mid.control.publish("live/s", body(), 0)
    mid.hear("down", asked())
    mid.out()
    slot = mid.slots["down"]
    for number in range(15):
        assert mid.control.on_message(slot, payload, number * MS) is not None
        assert not [action for action in done(mid)[0] if isinstance(action, act.SessionDrop)]
    assert mid.control.on_message(slot, payload, 20 * MS) is not None
    actions, errors = done(mid)
    assert [action.slot for action in actions if isinstance(action, act.SessionDrop)] == [slot]
    assert "link closed: violations" in errors
    assert mid.control.slots_in_use()["children"] == 0
    assert mid.control.on_message(slot, payload, 21 * MS) is None  # nobody's session
    again = m.encode_hello(m.Hello(relay="down", boot_id=6, index=70, lanes=1))
    assert mid.control.on_datagram(again, AT["down"], 20 * MS + S - 1) == "closed"
    assert mid.control.on_datagram(again, AT["down"], 20 * MS + S) is None
    assert [action for action in done(mid)[0] if isinstance(action, act.SessionAdd)]


def test_what_a_worker_counts_and_what_is_heard_here_add_up() -> None:
    mid = middle()
    mid.out()
    for count, state in ((7, "up"), (8, "up")):
        told = core_codec().encode_event("violations", session=mid.slots["up1"], count=count)
        mid.control.on_event(0, core_codec().decode_event(told), 0)
        assert mid.control.links()[0].state == state
    assert say(mid, "up1", m.Have(streams={"x": 1})) == "rights"
    assert mid.control.links()[0].state == "down"


def test_in_plaintext_violations_close_nothing_for_anybody_may_have_sent_them() -> None:
    mid = Middle(peers=PEERS)
    mid.out()
    for _ in range(40):
        assert say(mid, "up1", m.Have(streams={"x": 1})) == "rights"
    mid.control.on_violations(mid.slots["up1"], 100, 0)
    assert mid.control.links()[0].state == "up"


def test_other_peers_keep_their_sessions_when_one_is_closed() -> None:
    mid = middle()
    mid.out()
    mid.control.on_violations(mid.slots["up1"], 16, 0)
    assert {link.peer: link.state for link in mid.control.links()} == {"up1": "down", "up2": "up", "down": "up"}


# -- peers that come and go -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", ["T20"])
def test_a_peer_that_is_taken_out_has_no_session_from_that_moment_on(case: str) -> None:
    mid = middle()
    mid.control.publish("live/own", body(), 0)
    mid.control.subscribe("live/far", "x", to(), 0)
    pulls = dict(mid.out()[0])
    mid.hear("up1", ok(pulls["up1"]))
    mid.hear("down", asked(stream="live/own"))
    mid.out()
    mid.control.set_peers([peer for peer in PEERS if peer.id == "up2"], S)
    actions = mid.control.drain()
    gone = {action.slot for action in actions if isinstance(action, act.SessionDrop)}
    assert gone == {mid.slots["up1"], mid.slots["down"]}
    told = [action for action in actions if isinstance(action, act.Command)]
    assert [link.peer for link in mid.control.links()] == ["up2"]
    assert mid.control.slots_in_use()["children"] == 0
    assert told
    for name in ("up1", "down"):
        again = m.encode_hello(m.Hello(relay=name, boot_id=5, index=99, lanes=1))
        assert mid.control.on_datagram(again, AT[name], S) == "unknown_peer"
        assert mid.control.on_message(mid.slots[name], m.encode_message(asked(11)), S) is None
    assert not [action for action in mid.control.drain() if isinstance(action, act.SendControl)]


def sessions(*names: str) -> Sessions:
    made = Sessions("a", 1, 2, {name: [AT["up1"]] for name in names}, random.Random(3))
    made.start(0)
    for name in names:
        hello = m.encode_hello(m.Hello(relay=name, boot_id=9, index=77, lanes=3))
        assert made.on_datagram(hello, AT["up1"], 0) is None
    made.actions.clear()
    made.events.clear()
    return made


def test_a_peer_that_moved_is_greeted_at_its_new_address_and_a_new_one_at_all() -> None:
    found = sessions("b")
    elsewhere, third = Address("127.0.0.1", 900), Address("127.0.0.1", 901)
    found.set_peers({"b": [AT["up1"], elsewhere]}, {}, S)
    assert (found.events, found.actions) == ([], [])  # its session goes on where it is
    found.set_peers({"b": [elsewhere], "d": [third]}, {}, 2 * S)
    assert found.events == [SessionDown("b", 0)]
    found.actions.clear()
    found.on_timer(2 * S)
    assert [action.address for action in found.actions if isinstance(action, act.SendDatagram)] == [elsewhere, third]


def test_peers_may_come_and_go_a_thousand_times_and_nothing_is_left() -> None:
    found = sessions("b")
    rng = random.Random(5)
    for number in range(1000):
        names = [name for name in "bcdefgh" if rng.random() < 0.5]
        found.set_peers({name: [AT["up1"]] for name in names}, {}, number * S)
        found.on_timer(number * S)
        for name in names:
            hello = m.encode_hello(m.Hello(relay=name, boot_id=number, index=number, lanes=1))
            assert found.on_datagram(hello, AT["up1"], number * S) is None
        assert set(found.peers) == set(names)
        assert {peer for peer in names if found.slot_of(peer) is not None} == set(names)
    found.set_peers({}, {}, 2000 * S)
    assert (found.adds(), found.deadline(), len(found._slots), len(found._indices)) == ([], None, 0, 0)


def test_a_map_without_an_upstream_leaves_its_streams_waiting_until_it_is_back() -> None:
    conf = ControlConf("mid", 1, peers=[], upstreams=[Upstream("up1")])
    control = Control(conf, random.Random(1), progress=lambda worker, slot: (0, 0))
    control.on_worker_up(0, 0)
    control.subscribe("live/s", "x", to(), 0)
    control.set_peers(PEERS, S)
    hello = m.encode_hello(m.Hello(relay="up1", boot_id=5, index=1, lanes=1))
    assert control.on_datagram(hello, AT["up1"], S) is None
    asked_for = [m.decode_message(action.payload) for action in control.drain() if isinstance(action, act.SendControl)]
    assert [message.stream for message in asked_for if isinstance(message, m.Pull)] == ["live/s"]
