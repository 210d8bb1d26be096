"""Bad input, K30 to K33: media messages of an authenticated peer, against the C core and the control plane."""

from __future__ import annotations

import random
import struct

import pytest

from relay import actions
from relay.commands import decode_event, encode
from relay.control import Control, ControlConf, Peer, Upstream
from relay.messages import Hello, Pull, PullNo, decode_message, encode_hello, encode_message
from relay.units import Address
from relay.workers import FROM_NOW
from tests.py.badinput import (
    BAD_RTP,
    MEDIA_ROWS,
    NOW,
    PEER,
    PEER_INDEX,
    SESSION,
    WINDOW,
    WORKER,
    MediaRow,
    commands,
    envelope,
    forwarder,
    media,
    moved,
    rtp,
    segment,
)

CONV, CHILD_CONV = 7, 8
SUBSCRIBER = Address("127.0.0.1", 7000)
FORMAT = 0 | 5 << 8 | 97 << 16  # audio, Opus, payload type 97
INGRESS = 4


class Pulled:
    """A stream that is pulled over one conversation, with an RTP subscriber and a child."""

    def __init__(self) -> None:
        self.fwd = forwarder()
        commands(
            self.fwd,
            encode("stream_open", 1, stream=0, local=0, epoch=1),
            encode("stream_track", 2, stream=0, track=0, format=FORMAT, clock_rate=48000),
            encode("pull_start", 3, stream=0, session=SESSION, conv=CONV, lane=0),
            encode("sub_add", 4, sub=0, stream=0, tracks=1, layers=0xFFFF, addr=SUBSCRIBER),
            encode("child_add", 5, sub=1, stream=0, session=SESSION, conv=CHILD_CONV, lane_want=1),
        )
        self._sn = self._seq = 0

    def give(self, message: bytes) -> None:
        """One message, in a datagram of its own; the datagram itself is always fine."""
        data = envelope(segment(CONV, self._sn, message), lane=WORKER, counter=self._sn)
        self._sn += 1
        assert self.fwd.link_input(data, PEER.shifted(1).pack(), NOW)

    def outcome(self, message: bytes) -> tuple[dict[str, int], list[bytes]]:
        """The drops and what the subscriber was sent; then one more good packet must pass: the stream continues."""
        before = self.fwd.drops()
        self.give(message)
        sent = [data for sock, addr, data in self.fwd.turn(NOW) if addr == SUBSCRIBER.pack()]
        drops = moved(before, self.fwd.drops())
        assert set(self.fwd.ledgers().values()) == {0}
        assert self.fwd.check()
        return drops, sent

    def passes(self, number: int, **header: int) -> bool:
        """Whether a good packet with this media number reaches the subscriber, unchanged."""
        self._seq += 1
        packet = rtp(self._seq)
        drops, sent = self.outcome(media(number, packet, **header))
        return drops == {} and sent == [packet]


BASE = 100_000  # the highest media number that was seen before a row's messages


@pytest.mark.parametrize("row", MEDIA_ROWS, ids=str)
def test_each_message_is_dropped_for_exactly_this_reason_and_the_stream_continues(row: MediaRow) -> None:
    pulled = Pulled()
    assert pulled.passes(BASE - 1)
    assert pulled.passes(BASE)
    for message in row.make(BASE):
        assert pulled.outcome(message) == ({row.word: 1}, [])
    assert pulled.passes(BASE + 1), "a refused message does not use up its number"


def test_k31_the_window_ends_exactly_there() -> None:
    pulled = Pulled()
    assert pulled.passes(BASE)
    assert pulled.passes(BASE - WINDOW + 1)
    assert not pulled.passes(BASE - WINDOW)


@pytest.mark.parametrize("drop_class", range(7, 16), ids=lambda value: f"K30 class {value}")
def test_a_drop_class_above_6_is_accepted_and_passed_on_as_6(drop_class: int) -> None:
    pulled = Pulled()
    pulled.give(media(0, rtp(1), drop_class=drop_class, hops=2))
    onward = [data for sock, addr, data in pulled.fwd.turn(NOW) if addr == PEER.shifted(2).pack()]
    assert len(onward) == 1
    head = onward[0].index(struct.pack("<I", CHILD_CONV)) + 24
    assert onward[0][head + 2] == 3 << 4 | 6
    assert moved({}, pulled.fwd.drops()) == {}


@pytest.mark.parametrize("hops", range(9), ids=lambda value: f"K30 {value} hops")
def test_up_to_8_hops_are_fine(hops: int) -> None:
    assert Pulled().passes(0, hops=hops)


@pytest.mark.parametrize("word", BAD_RTP, ids=lambda word: f"K33 ingress {word}")
def test_bad_rtp_of_a_publisher_is_dropped_and_the_stream_continues(word: str) -> None:
    fwd = forwarder()
    publisher = Address("127.0.0.1", 9000).pack()
    commands(
        fwd,
        encode("stream_open", 1, stream=0, local=1, epoch=1),
        encode("stream_track", 2, stream=0, track=0, format=FORMAT, clock_rate=48000),
        encode("ingress_bind", 3, ingress=INGRESS, stream=0, learn=1),
        encode("sub_add", 4, sub=0, stream=0, tracks=1, layers=0xFFFF, addr=SUBSCRIBER),
    )
    for packet in BAD_RTP[word]:
        assert not fwd.ingress_input(INGRESS, packet, publisher, NOW)
    assert moved({}, fwd.drops()) == {word: len(BAD_RTP[word])}
    assert fwd.turn(NOW) == []
    assert fwd.ingress_input(INGRESS, rtp(1), publisher, NOW)
    assert fwd.turn(NOW) == [(1, SUBSCRIBER.pack(), rtp(1))]
    assert set(fwd.ledgers().values()) == {0}
    assert fwd.check()


def answer_to_pull(route: list[str]) -> tuple[list[PullNo], list[str]]:
    """Relay "a", between upstream "up" and child "b", is asked by b for a stream that it would have to pull.

    What it refuses, and the codes of its alarms.
    """
    peers = [Peer("b", [PEER]), Peer("up", [Address("127.0.0.1", 6100)])]
    conf = ControlConf("a", 1, peers=peers, upstreams=[Upstream("up")])
    control = Control(conf, random.Random(1), progress=lambda worker, slot: (0, 0))
    control.start(NOW)
    control.on_worker_up(0, NOW)
    control.drain()
    hello = encode_hello(Hello(relay="b", boot_id=5, index=PEER_INDEX, lanes=1))
    assert control.on_datagram(hello, PEER, NOW) is None
    adds = [action for action in control.drain() if isinstance(action, actions.SessionAdd)]
    assert len(adds) == 1
    pull = Pull(r=1, stream="cam", conv=9, lane=0, route=route)
    assert control.on_message(adds[0].slot, encode_message(pull), NOW) is None
    done = control.drain()
    answers = [decode_message(action.payload) for action in done if isinstance(action, actions.SendControl)]
    alarms = [action.fields.get("code", "") for action in done if isinstance(action, actions.Log)]
    refused = [answer for answer in answers if isinstance(answer, PullNo)]
    assert sum(control.rejected().values()) == len(refused)
    return refused, alarms


@pytest.mark.parametrize("route", [["a"], ["b", "a"], ["b", "c", "a", "d"]], ids=lambda route: f"K32 {'-'.join(route)}")
def test_our_own_id_in_a_pulls_route_is_answered_loop_and_alarmed(route: list[str]) -> None:
    answers, alarms = answer_to_pull(route)
    assert [(answer.r, answer.code) for answer in answers] == [(1, "loop")]
    assert alarms == ["ZR1003"]


def test_k32_without_our_id_it_is_no_loop() -> None:
    answers, alarms = answer_to_pull(["b"])
    assert "loop" not in [answer.code for answer in answers]
    assert alarms == []


@pytest.mark.parametrize("ahead", [1, 5000, FROM_NOW], ids=["K38-next", "K38-far", "K38-epoch"])
def test_a_pull_that_wants_to_go_on_from_the_future_is_served_from_now_and_counted(ahead: int) -> None:
    """An epoch still to come is FROM_NOW by the time it is a command: tests/py/test_control.py."""
    pulled = Pulled()
    assert pulled.passes(BASE)
    following = BASE + 1
    wanted = ahead if ahead == FROM_NOW else following + ahead
    fields = {"sub": 3, "stream": 0, "session": SESSION, "conv": 77, "lane_want": 0, "from": wanted}
    pulled.fwd.command(encode("child_add", 9, **fields))
    pulled.fwd.turn(NOW)
    (done,) = [event for event in map(decode_event, pulled.fwd.events()) if event.op == "done"]
    assert (done.rc, done.fields["value"]) == (0, following)
    assert pulled.fwd.stats()["resume_ahead"] == 1
    assert pulled.passes(following)
