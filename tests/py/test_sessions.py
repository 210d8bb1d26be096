"""The start, life and end of sessions, seen from one side."""

import random
from itertools import pairwise

import pytest

from relay.actions import SendDatagram, SessionAdd, SessionDrop
from relay.messages import Hello, decode_hello, encode_hello
from relay.sessions import MS, SECOND, SessionDown, Sessions, SessionUp
from relay.units import Address

HERE, THERE = Address("127.0.0.1", 100), Address("127.0.0.1", 200)


@pytest.fixture
def sessions():
    made = Sessions("a", 1, 2, {"b": [THERE]}, random.Random(3))
    made.start(0)
    made.on_timer(0)
    return made


def sent(sessions):
    said = [decode_hello(action.data) for action in sessions.actions if isinstance(action, SendDatagram)]
    sessions.actions.clear()
    return said


def hello(**more):
    return encode_hello(Hello(**({"relay": "b", "boot_id": 9, "index": 77, "lanes": 3} | more)))


def up(sessions, now=0):
    ours = sent(sessions)[-1]
    assert sessions.on_datagram(hello(to=ours.index), THERE, now) is None
    return ours


def test_an_answer_to_our_hello_is_a_session(sessions):
    ours = up(sessions)
    (added,) = [action for action in sessions.actions if isinstance(action, SessionAdd)]
    assert added == SessionAdd(0, ours.index, 77, 3, 4000, 1420, THERE)
    assert sessions.events == [SessionUp("b", 0)]
    assert sessions.slot_of("b") == 0


def test_a_hello_is_answered_every_time_but_is_one_session(sessions):
    first = sent(sessions)[-1]
    for _ in range(3):
        assert sessions.on_datagram(hello(), THERE, 5) is None
    assert [action for action in sessions.actions if isinstance(action, SessionDrop)] == []
    assert [(said.to, said.index) for said in sent(sessions)] == [(77, first.index)] * 3
    assert sessions.events == [SessionUp("b", 0)]


@pytest.mark.parametrize(
    ("data", "source", "word"),
    [
        (hello(relay="a"), THERE, "self"),
        (hello(relay="x"), THERE, "unknown_peer"),
        (hello(), HERE, "unknown_peer"),
        (hello(to=5), THERE, "noindex"),
        (b"\x08\0\0", THERE, "length"),
        (b"\x08\0\0\0\xc0", THERE, "msg"),
        (hello()[:-3], THERE, "msg"),
    ],
)
def test_a_datagram_that_starts_no_session_is_refused_by_its_word(sessions, data, source, word):
    assert sessions.on_datagram(data, source, 0) == word
    assert sessions.events == []


def test_retries_are_fast_then_slow_and_never_end(sessions):
    times, now = [], 0
    while now < 120 * SECOND:
        now = sessions.deadline()
        sessions.on_timer(now)
        times.append(now)
    early = sum(time < 3 * SECOND for time in times)
    assert 22 <= early <= 45
    middle = sum(3 * SECOND <= time < 33 * SECOND for time in times)
    assert 90 <= middle <= 180
    assert max(b - a for a, b in pairwise(times)) <= 5 * SECOND


def test_two_seconds_of_silence_greet_again_and_ten_end_the_session(sessions):
    ours = up(sessions)
    sent(sessions)
    sessions.on_timer(1999 * MS)
    assert sessions.peers["b"].state == "up"
    sessions.on_timer(2000 * MS)
    assert sessions.peers["b"].state == "silent"
    assert [said.index for said in sent(sessions)] == [ours.index]
    sessions.on_timer(10 * SECOND)
    assert sessions.peers["b"].state == "down"
    assert sessions.events[-1] == SessionDown("b", 0)
    assert sent(sessions)[-1].index != ours.index


def test_the_same_peer_answering_after_silence_keeps_the_session(sessions):
    ours = up(sessions)
    sessions.on_timer(3 * SECOND)
    sessions.on_datagram(hello(to=ours.index), THERE, 3 * SECOND)
    assert sessions.peers["b"].state == "up"
    assert sessions.events == [SessionUp("b", 0)]


def test_a_new_boot_id_is_a_new_session_and_the_old_one_never_returns(sessions):
    up(sessions)
    sessions.on_datagram(hello(boot_id=10, index=78), THERE, SECOND)
    assert sessions.events == [SessionUp("b", 0), SessionDown("b", 0), SessionUp("b", 1)]
    assert sessions.on_datagram(hello(), THERE, SECOND) == "old"
    kinds = [type(action) for action in sessions.actions if isinstance(action, SessionAdd | SessionDrop)]
    assert kinds == [SessionAdd, SessionDrop, SessionAdd]
    first, second = (action for action in sessions.actions if isinstance(action, SessionAdd))
    assert first.index != second.index


def test_who_made_a_session_from_a_hello_greets_until_it_is_heard(sessions):
    sessions.on_datagram(hello(), THERE, 0)
    sent(sessions)
    sessions.on_timer(sessions.deadline())
    assert [said.to for said in sent(sessions)] == [None]
    sessions.on_heard(0, 200 * MS)
    assert sessions.deadline() == 200 * MS + 2 * SECOND


def test_two_sides_that_replace_their_session_at_the_same_moment_find_each_other():
    ends = {name: Sessions(name, 5, 1, {}, random.Random(name)) for name in "ab"}
    at = {"a": HERE, "b": THERE}
    for name, other in ("ab", "ba"):
        ends[name] = Sessions(name, 5, 1, {other: [at[other]]}, random.Random(ord(name)))
        ends[name].start(0)
        lost = hello(relay=other, boot_id=5, index=1000 + ord(name))  # of a session that the other side has lost
        ends[name].on_datagram(lost, at[other], 0)
        ends[name].actions.clear()
        ends[name].on_timer(2 * SECOND)  # silence, seen by both at once
    now = 2 * SECOND
    while now < 3 * SECOND:
        said = [(name, ends[name].actions[:]) for name in "ab"]
        for name, actions in said:
            del ends[name].actions[: len(actions)]
        for name, actions in said:
            for action in actions:
                if isinstance(action, SendDatagram):
                    ends["ab".replace(name, "")].on_datagram(action.data, at[name], now)
        now += 10 * MS
        for end in ends.values():
            end.on_timer(now)
    (a,), (b,) = ends["a"].adds(), ends["b"].adds()
    assert (a.index, a.peer_index) == (b.peer_index, b.index)


def test_a_reset_session_is_begun_again_with_another_index(sessions):
    ours = up(sessions)
    sent(sessions)
    sessions.reset(0, SECOND)
    sessions.on_timer(SECOND)
    assert sessions.events[-1] == SessionDown("b", 0)
    (again,) = sent(sessions)
    assert again.index != ours.index
    assert sessions.on_datagram(hello(index=78, to=again.index), THERE, SECOND) is None
    assert sessions.slot_of("b") == 1
