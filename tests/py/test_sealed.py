"""Sessions with keys, seen from one side: what the lanes are told, and when."""

import random
from itertools import pairwise

import pytest

from relay.actions import SendDatagram, SessionAdd, SessionDrop, SessionRekey
from relay.identity import Identity
from relay.noise import KeyPair
from relay.pace import MS, SECOND
from relay.sealed import SealedSessions
from relay.secret import Secret
from relay.sessions import SessionDown, SessionUp
from relay.stamp import Stamps
from relay.units import Address
from tests.py.sealed_rig import WALL

PRIVATE = {name: bytes([number] * 32) for number, name in enumerate("abcd", 1)}
AT = {name: Address("127.0.0.1", 100 * number) for number, name in enumerate("abcd", 1)}


def relay(name: str, peers: str, *, boot: int = 1, cipher: int = 1, addresses: dict | None = None) -> SealedSessions:
    identity = Identity(
        Secret(PRIVATE[name]), Secret(bytes(32)), {peer: KeyPair(PRIVATE[peer]).public for peer in peers}, cipher
    )
    listed = addresses or {peer: [AT[peer]] for peer in peers}
    rng = random.Random(ord(name) + boot)
    return SealedSessions(
        name, boot, 2, listed, rng, identity=identity, stamps=Stamps(WALL + boot, 0), entropy=rng.randbytes
    )


def take(sessions: SealedSessions, kind: type) -> list:
    """The actions of this kind; all are gone then."""
    found = [action for action in sessions.actions if isinstance(action, kind)]
    sessions.actions.clear()
    return found


def shake(first: SealedSessions, second: SealedSessions, now: int, names: str = "ab") -> None:
    """`first` begins, `second` answers; what the lanes are told stays in `actions`."""
    (said,) = (action.data for action in first.actions if isinstance(action, SendDatagram))
    first.actions.clear(), second.actions.clear()
    assert second.on_datagram(said, AT[names[0]], now) is None
    answer = next(action.data for action in second.actions if isinstance(action, SendDatagram))
    assert first.on_datagram(answer, AT[names[1]], now) is None


@pytest.fixture
def pair() -> tuple[SealedSessions, SealedSessions]:
    """Relay a begins and is answered at 1 ms; b has not heard anything under the keys yet."""
    a, b = relay("a", "b"), relay("b", "a", boot=5)
    a.start(0), a.on_timer(0)
    shake(a, b, MS)
    return a, b


def test_who_began_is_up_with_the_answer_and_who_answered_with_the_first_datagram(pair):
    a, b = pair
    (here,), (there,) = take(a, SessionAdd), take(b, SessionAdd)
    assert (here.index, here.peer_index) == (there.peer_index, there.index)
    assert (here.keys.send, here.keys.recv) == (there.keys.recv, there.keys.send)
    assert (here.keys.initiator, there.keys.initiator) == (True, False)
    assert (here.address, there.address, here.lanes) == (AT["b"], AT["a"], 2)
    assert (a.events, b.events) == ([SessionUp("b", 0)], [])
    assert (a.slot_of("b"), b.slot_of("a")) == (0, None)
    b.on_heard(0, 2 * MS)
    assert b.events == [SessionUp("a", 0)]
    (proven,) = take(b, SessionRekey)  # now every lane may send
    assert (proven.index, proven.keys.send, proven.keys.initiator) == (there.index, there.keys.send, True)
    b.on_heard(0, 3 * MS)
    assert b.actions == []


def test_of_two_answers_the_peer_may_have_either_so_a_worker_that_starts_late_gets_both():
    """The first answer was taken; the second one, to an initiation of half a second later, did not get through."""
    a, b = relay("a", "b"), relay("b", "a", boot=5)
    a.start(0), a.on_timer(0)
    (first,) = [action.data for action in a.actions if isinstance(action, SendDatagram)]
    a.actions.clear()
    a.on_timer(500 * MS)
    (second,) = [action.data for action in a.actions if isinstance(action, SendDatagram)]
    for said in (first, second):
        b.on_datagram(said, AT["a"], 500 * MS)
    answers = [action.data for action in b.actions if isinstance(action, SendDatagram) and action.data[0] == 9]
    (add,), (rekey,) = ([x for x in b.actions if isinstance(x, kind)] for kind in (SessionAdd, SessionRekey))
    assert (b.adds(), b.rekeys()) == ([add], [rekey])
    a.on_datagram(answers[0], AT["b"], 501 * MS)
    (here,) = a.adds()
    assert here.keys.send == add.keys.recv
    b.actions.clear()
    b.on_confirmed(0, add.index, 502 * MS)  # by the agent's lane, which was heard under it
    (proven,) = take(b, SessionRekey)
    assert (proven.index, proven.keys.initiator) == (add.index, True)
    assert [told.index for told in (*b.adds(), *b.rekeys())] == [add.index, rekey.index]
    b.on_confirmed(0, add.index, 503 * MS)
    assert take(b, SessionRekey) == []


def test_secrets_do_not_show_in_what_the_lanes_are_told(pair):
    (add,) = take(pair[0], SessionAdd)
    assert "***" in repr(add)
    assert repr(add.keys.send.reveal()) not in repr(add)
    assert add.keys.send.reveal().hex() not in repr(add)


@pytest.mark.parametrize(("ours", "theirs", "cipher"), [(1, 1, 1), (1, 2, 2), (2, 1, 2), (2, 2, 2)])
def test_aes_is_used_where_both_have_it(ours, theirs, cipher):
    a, b = relay("a", "b", cipher=ours), relay("b", "a", cipher=theirs)
    a.start(0), a.on_timer(0)
    shake(a, b, MS)
    assert [take(end, SessionAdd)[0].keys.cipher for end in (a, b)] == [cipher, cipher]


def test_the_next_keys_of_a_session_come_as_a_rekey_and_are_proven_by_their_index(pair):
    a, b = pair
    b.on_heard(0, 2 * MS)
    a.on_heard(0, 2 * MS), a.rekey(0, SECOND), a.on_timer(SECOND)
    shake(a, b, SECOND)
    (here,), (there,) = take(a, SessionRekey), take(b, SessionRekey)
    assert (here.keys.initiator, there.keys.initiator, here.keys.send) == (True, False, there.keys.recv)
    (old,), (told,) = b.adds(), b.rekeys()
    assert old.keys.initiator  # what a new worker sends with
    assert told == there  # what it must understand as well
    b.on_heard(0, SECOND + MS)
    b.on_confirmed(0, old.index, SECOND + MS)
    assert b.actions == []  # under the keys before: says nothing about these
    b.on_confirmed(0, there.index, SECOND + MS)
    (proven,) = take(b, SessionRekey)
    assert (proven.index, proven.keys.initiator) == (there.index, True)
    assert (b.rekeys(), b.adds()[0].index) == ([], there.index)


def test_the_session_in_use_goes_on_until_the_restarted_peer_is_heard(pair):
    _, b = pair
    b.on_heard(0, 2 * MS)
    again = relay("a", "b", boot=2)
    again.start(0), again.on_timer(0)
    b.events.clear()
    shake(again, b, SECOND)
    assert (b.events, [add.slot for add in take(b, SessionAdd)]) == ([], [1])
    assert b.slot_of("a") == 0
    b.on_heard(1, SECOND + MS)
    assert b.events == [SessionDown("a", 0), SessionUp("a", 1)]
    assert take(b, SessionDrop) == [SessionDrop(0)]


def test_a_candidate_that_is_never_heard_goes_away(pair):
    _, b = pair
    take(b, SessionAdd)
    b.on_timer(10 * SECOND)
    assert b.peers["a"].state == "idle"
    b.on_timer(10 * SECOND + MS)
    assert take(b, SessionDrop) == [SessionDrop(0)]
    assert b.events == []


def test_initiations_within_400_ms_get_one_and_the_same_answer():
    a, b = relay("a", "b"), relay("b", "a")
    a.start(0)
    answers, told = [], []
    for now in (0, 134, 268, 402):
        a.on_timer(now * MS)
        said = take(a, SendDatagram)[-1].data
        assert b.on_datagram(said, AT["a"], now * MS) is None
        told += [type(action) for action in b.actions if not isinstance(action, SendDatagram)]
        answers.append(take(b, SendDatagram)[-1].data)
    assert (len(set(answers[:3])), len(set(answers))) == (1, 2)
    assert told == [SessionAdd, SessionRekey]
    assert a.on_datagram(answers[3], AT["b"], 500 * MS) is None
    for late in answers:
        assert a.on_datagram(late, AT["b"], 500 * MS) == "noindex"
    assert a.slot_of("b") == 0


def test_initiations_go_to_each_address_in_turn_fast_then_slow_and_never_end():
    other = Address("127.0.0.7", 7)
    a = relay("a", "b", addresses={"b": [AT["b"], other]})
    a.start(0)
    times, to, now = [], [], 0
    while now < 120 * SECOND:
        now = a.deadline()
        a.on_timer(now)
        for action in take(a, SendDatagram):
            times.append(now)
            to.append(action.address)
    assert to[:4] == [AT["b"], other, AT["b"], other]
    assert 22 <= sum(time < 3 * SECOND for time in times) <= 45
    assert 90 <= sum(3 * SECOND <= time < 33 * SECOND for time in times) <= 180
    assert max(b - a for a, b in pairwise(times)) <= 5 * SECOND


def test_one_peer_too_many_is_refused_and_what_it_took_is_given_back(monkeypatch):
    monkeypatch.setattr("relay.sessions.SESSIONS_MAX", 1)
    b = relay("b", "ac")
    for name, word in (("a", None), ("c", "link_pool")):
        end = relay(name, "b")
        end.start(0), end.on_timer(0)
        assert b.on_datagram(take(end, SendDatagram)[0].data, AT[name], MS) == word
    assert len(b.handshakes.indices) == 1
    assert len(take(b, SessionAdd)) == 1


def test_of_initiations_that_waited_the_newest_ones_count():
    """A relay that starts finds seconds of them in its socket; those its peer has forgotten are answered in vain."""
    a, b = relay("a", "b"), relay("b", "a")
    a.start(0)
    waiting, now = [], 0
    while now < 2 * SECOND:
        a.on_timer(now)
        waiting += take(a, SendDatagram)
        now += 10 * MS
    for said in waiting:
        assert b.on_datagram(said.data, AT["a"], now) is None
    for answer in take(b, SendDatagram):
        a.on_datagram(answer.data, AT["b"], now)
    assert a.slot_of("b") is not None
    (here,), theirs = a.adds(), [g.index >> 6 for g in b.peers["a"].candidate.generations]
    assert here.peer_index == theirs[-1]


@pytest.mark.parametrize("arrives", [0, 1])
def test_a_worker_that_comes_up_learns_every_generation_that_the_peer_may_use(arrives):
    """Two initiations were answered, one answer arrived: only the peer knows which, until it is heard."""
    a, b = relay("a", "b"), relay("b", "a")
    a.start(0)
    answers = []
    for now in (0, SECOND):
        a.on_timer(now)
        (said,) = take(a, SendDatagram)[-1:]
        assert b.on_datagram(said.data, AT["a"], now) is None
        answers += take(b, SendDatagram)[-1:]
    assert a.on_datagram(answers[arrives].data, AT["b"], SECOND) is None
    (used,) = a.adds()
    assert used.peer_index in {told.index for told in [*b.adds(), *b.rekeys()]}
