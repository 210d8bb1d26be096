"""Sessions with keys at both ends: set-up, loss, crossing, restarts, clocks."""

import os

import pytest

from relay.generations import SealedSession
from relay.pace import MS, SECOND
from tests.py.sealed_rig import DAY, Net, met


def test_two_relays_find_each_other_and_agree() -> None:
    net = met(1)
    assert net.run(SECOND, until_up=True)
    net.run(SECOND)
    net.agree()
    assert [end.ups for end in net.ends.values()] == [1, 1]


@pytest.mark.parametrize(("loss", "within"), [(0.3, 2 * SECOND), (0.7, 30 * SECOND)])
def test_a_hundred_of_a_hundred_set_ups_under_loss_are_in_time(loss: float, within: int) -> None:
    took = []
    for seed in range(100):
        net = Net(seed, loss=loss)
        net.boot("a"), net.boot("b")
        began = net.now
        assert net.run(within, until_up=True), seed
        took.append(net.now - began)
    print(f"loss {loss}: median {sorted(took)[50] / 1e9:.2f} s, slowest {max(took) / 1e9:.2f} s")


def test_simultaneous_beginnings_are_one_session_each() -> None:
    for seed in range(1000 if os.environ.get("ZR_FULL") else 150):  # every delay once
        net = Net(seed, delay_ns=(1 + seed % 150) * MS, jitter_ns=(seed % 7) * 10 * MS)
        net.boot("a"), net.boot("b")  # at the same instant
        assert net.run(2 * SECOND, until_up=True), seed
        net.run(net.delay_ns * 2 + 300 * MS)
        assert [end.ups for end in net.ends.values()] == [1, 1], seed
        ((send_a, recv_a),), ((send_b, recv_b),) = (net.ends[name].keys() for name in "ab")
        assert (send_a, recv_a) == (recv_b, send_b), seed
        assert [len(end.slots) for end in net.ends.values()] == [1, 1], seed


@pytest.mark.parametrize("loss", [0.01, 0.3])
def test_a_session_is_rekeyed_by_its_initiator_and_no_datagram_lacks_its_key(loss: float) -> None:
    net = met(2, loss=loss, jitter_ns=30 * MS)
    assert net.run(2 * SECOND, until_up=True)
    net.run(SECOND)
    was = [end.sessions.handshakes.counts["initiations_sent"] for end in net.ends.values()]
    for end in net.ends.values():
        end.shut_out = 0
    seen = set()
    for _ in range(10):
        net.run(125 * SECOND)
        seen.add(net.ends["a"].keys()[0])
    assert len(seen) >= 9
    assert [(end.ups, end.shut_out) for end in net.ends.values()] == [(1, 0), (1, 0)]
    sent = [end.sessions.handshakes.counts["initiations_sent"] for end in net.ends.values()]
    assert any(before == after for before, after in zip(was, sent, strict=True))  # the other only follows
    net.loss = 0.0
    net.agree()


def test_once_the_peer_has_newer_keys_an_agent_keeps_no_older_ones_and_tells_every_lane_T20() -> None:
    net = met(10)
    assert net.run(SECOND, until_up=True)
    for _ in range(3):
        for end in net.ends.values():
            end.told.clear()
        net.run(121 * SECOND)
        for end, peer in zip(net.ends.values(), "ba", strict=True):
            session = end.sessions.peers[peer].session
            assert isinstance(session, SealedSession)
            (kept,) = session.generations
            assert kept.heard
            assert [(told.index, told.keys.initiator) for told in end.told] == [
                (kept.index >> 6, kept.ours),  # by who began it: sent under at once
                (kept.index >> 6, True),  # and now it was heard: nothing from before comes any more
            ]
    net.agree()


def test_a_lane_that_wants_other_keys_gets_them_whichever_side_it_is_on() -> None:
    net = met(3)
    assert net.run(SECOND, until_up=True)
    net.run(SECOND)
    for end in net.ends.values():
        before = end.keys()
        (slot,) = end.slots
        end.sessions.rekey(slot, net.now)
        net.run(SECOND)
        assert end.keys() != before
        net.agree()
    for end in net.ends.values():  # both at once
        (slot,) = end.slots
        end.sessions.rekey(slot, net.now)
        end.turn()
    net.run(2 * SECOND)
    net.agree()
    assert [end.ups for end in net.ends.values()] == [1, 1]


def test_without_rekey_the_keys_end_after_fifteen_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.py.sealed_rig.BEAT_NS", 1500 * MS)  # often enough not to be silent
    net = met(4)
    assert net.run(SECOND, until_up=True)
    sealed = net.ends["a"].sessions
    sealed.handshakes.begin = lambda *args, **how: None  # type: ignore[method-assign]
    net.ends["b"].sessions.handshakes.begin = lambda *args, **how: None  # type: ignore[method-assign]
    first = net.ends["a"].keys()
    net.run(890 * SECOND)
    assert net.ends["a"].keys() == first
    net.run(15 * SECOND)
    assert net.ends["a"].slots == net.ends["b"].slots == {}


def test_a_relay_that_starts_anew_is_a_new_session_and_the_old_one_ends_only_then() -> None:
    net = met(5)
    assert net.run(SECOND, until_up=True)
    net.run(SECOND)
    for name in "abba":
        other = net.ends["ab".replace(name, "")]
        ups = other.ups
        net.boot(name, saved=0)
        assert net.run(2 * SECOND, until_up=True)
        net.run(500 * MS)
        assert other.ups == ups + 1
        net.agree()


def test_a_reset_and_a_clone_begin_again_as_a_new_session_at_both_ends() -> None:
    net = met(6)
    assert net.run(SECOND, until_up=True)
    net.run(SECOND)
    for act in ("reset", "discard_all"):
        a = net.ends["a"]
        old, ups, (slot,) = a.keys(), [end.ups for end in net.ends.values()], a.slots
        a.sessions.reset(slot, net.now) if act == "reset" else a.sessions.discard_all(net.now)
        a.turn()
        assert a.slots == {}
        net.run(2 * SECOND)
        net.agree()
        assert a.keys() != old
        assert [end.ups for end in net.ends.values()] == [up + 1 for up in ups]


def silent(net: Net) -> list[bool]:
    return [end.sessions.peers[peer].state == "silent" for end, peer in zip(net.ends.values(), "ba", strict=True)]


@pytest.mark.parametrize("seconds", [15, 300])
def test_silence_keeps_the_keys_and_they_go_on_as_soon_as_anything_comes_through(seconds: int) -> None:
    net = met(7)
    assert net.run(SECOND, until_up=True)
    net.run(SECOND)
    kept, net.loss = net.ends["a"].keys(), 1.0
    sent = [end.sessions.handshakes.counts["initiations_sent"] for end in net.ends.values()]
    net.run(2500 * MS)
    assert silent(net) == [True, True]
    net.run(seconds * SECOND)
    assert silent(net) == [True, True]
    tried = [end.sessions.handshakes.counts["initiations_sent"] for end in net.ends.values()]
    assert all(after - before >= 40 for before, after in zip(sent, tried, strict=True))  # all the while
    assert net.ends["a"].keys() == kept
    net.loss = 0.0
    assert net.run(300 * MS, until_up=True)  # a heartbeat and its way
    net.agree()
    assert [end.ups for end in net.ends.values()] == [1, 1]
    assert sum(end.shut_out for end in net.ends.values()) == 0


def test_a_hole_of_one_direction_keeps_the_keys_whoever_initiates_meanwhile() -> None:
    """The end that hears answers each initiation anew: none of these keys takes the place of those in use."""
    for mute in "ab":
        net = met(7)
        assert net.run(SECOND, until_up=True)
        net.run(SECOND)
        kept = net.ends["a"].keys()
        net.mute = net.addresses[mute]
        net.run(15 * SECOND)
        assert net.ends[mute].sessions.handshakes.counts["agreed_responder"] >= 10
        assert net.ends["a"].keys() == kept
        assert [len(end.slots) for end in net.ends.values()] == [1, 1]
        (row,) = net.ends[mute].sessions.adds()  # a new worker is told those in use
        assert row.keys is not None
        assert (row.keys.send.reveal(), row.keys.recv.reveal()) == net.ends[mute].keys()[0]
        net.mute = None
        assert net.run(300 * MS, until_up=True)
        net.run(SECOND)
        net.agree()
        assert [end.ups for end in net.ends.values()] == [1, 1]


def test_silence_ends_with_the_keys_after_fifteen_minutes() -> None:
    net = met(7)
    assert net.run(SECOND, until_up=True)
    net.run(SECOND)
    net.loss = 1.0
    net.run(890 * SECOND)
    assert [len(end.slots) for end in net.ends.values()] == [1, 1]
    net.run(12 * SECOND)
    assert net.ends["a"].slots == net.ends["b"].slots == {}
    net.loss = 0.0
    assert net.run(6 * SECOND, until_up=True)
    net.agree()


def rekey_from_both(net: Net) -> None:
    """So that each has seen a stamp of the other."""
    net.run(SECOND)
    for end in net.ends.values():
        (slot,) = end.slots
        end.sessions.rekey(slot, net.now)
        net.run(SECOND)


@pytest.mark.parametrize("who", "ab")
@pytest.mark.parametrize("wall", [-DAY, DAY])
def test_a_clock_a_day_off_costs_a_round_trip_not_an_outage(who: str, wall: int) -> None:
    """Also when what was saved is lost with it, and when the clock is set right afterwards."""
    net = met(8)
    assert net.run(SECOND, until_up=True)
    rekey_from_both(net)
    for shift in (wall, 0):
        net.boot(who, wall=shift)
        began = net.now
        assert net.run(SECOND, until_up=True), (who, shift)
        print(f"{who} {shift}: {(net.now - began) / 1e6} ms")
        net.run(SECOND)
        net.agree()


def test_a_stamp_too_old_is_answered_once_and_only_to_whom_it_was_sealed() -> None:
    net = met(9, delay_ns=5 * MS)
    assert net.run(SECOND, until_up=True)
    rekey_from_both(net)
    late = net.boot("a", wall=-DAY)
    assert net.run(SECOND, until_up=True)
    assert late.sessions.handshakes.counts["stamps_taken"] == 1
    assert late.sessions.handshakes.counts["initiations_sent"] == 2
    told = [data for _, _, data in net.tape if isinstance(data, bytes) and data[0] == 0x0A]
    assert [len(data) for data in told] == [64]
    for byte in (8, 10, 40, 63):
        (slot,) = late.slots
        late.sessions.rekey(slot, net.now)
        late.turn()  # another initiation is under way: this one's answer is nothing to it
        index = next(iter(late.sessions.handshakes.peers["b"].pending))
        wrong = bytearray(told[0][:4] + index.to_bytes(4, "little") + told[0][8:])
        wrong[byte] ^= 2
        assert late.sessions.on_datagram(bytes(wrong), net.addresses["b"], net.now) == "cookie"
    net.run(2 * SECOND)
    net.agree()
