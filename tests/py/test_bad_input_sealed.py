"""Bad input with keys, U08 to U36, K29 and K34 to K37, over real sockets against one running relay with sealed links.

The same rows against the C core: tests/c/lane_keys_test.c, lane_generations_test.c, lane_probe_test.c; in one process:
tests/py/test_gate.py, test_handshake_attacks.py, test_rights.py. Each row ends in its counter and no other, is not
answered, and the link stays up; rows on lanes are run against the worker's port and the agent's.
"""

from __future__ import annotations

import asyncio
import random
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

import msgspec
import pytest

from relay import _core, xchacha
from relay.client import stream_path
from relay.errors import CoreError
from relay.handshake_wire import COOKIE_REPLY_BYTES, mac
from relay.messages import Drop, Have, Pull, PullNo, PullOk, Unsupported
from tests.net.rtp import publish_body
from tests.py.badinput import AGENT, WINDOW, WORKER, moved, segment, send_run
from tests.py.raw_udp import raw_udp
from tests.py.running_relay import PEER_ID, port_of
from tests.py.sealed_live import LANES, HandLane, SealedRelay

pytestmark = pytest.mark.net

LANE_IDS = pytest.mark.parametrize("to", [WORKER, AGENT], ids=["worker", "agent"])
BODY = segment(0x7777, 0, b"for a stream that is not here")
FAR = 1 << 40
STREAMS_MAX = 1024  # of one link
HELLO, ANSWER, COOKIE = 0x08, 0x09, 0x0A


@pytest.fixture(scope="module")
def live() -> Iterator[SealedRelay]:
    relay = SealedRelay()
    try:
        relay.start()
        yield relay
    finally:
        relay.stop()


def flipped(data: bytes, bit: int) -> bytes:
    at, mask = bit // 8, 1 << bit % 8
    return data[:at] + bytes([data[at] ^ mask]) + data[at + 1 :]


def forged(data: bytes) -> bytes:
    return flipped(data, 8 * len(data) - 2)


Made: TypeAlias = list[bytes]


@dataclass(frozen=True)
class Row:
    """A case: what our lane says when it has said the datagrams 0 and 1, and the word for each."""

    id: str
    word: str
    make: Callable[[HandLane], Made]
    epoch: int = 0  # that it has said them in

    def __str__(self) -> str:
        return self.id


def at(lane: HandLane, counter: int, body: bytes = b"", epoch: int = 0) -> bytes:
    sealer = lane.epoch(epoch)
    sealer.counter = counter
    return sealer.seal(body)


ROWS = [
    Row(
        "U08", "auth", lambda lane: [at(lane, 2)[:16] + random.Random(size).randbytes(size) for size in (16, 64, 1400)]
    ),
    Row("U09 counter", "auth", lambda lane: [flipped(at(lane, 2), bit) for bit in range(64, 128)]),
    Row("U09 epoch", "auth", lambda lane: [flipped(at(lane, 2), bit) for bit in range(16, 32)]),
    Row("U09 index", "noindex", lambda lane: [flipped(at(lane, 2), bit) for bit in range(38, 64)]),
    Row("U09 our lane", "lane", lambda lane: [flipped(at(lane, 2), bit) for bit in range(32, 38)]),
    Row("U09 its lane", "lane", lambda lane: [flipped(at(lane, 2), bit) for bit in (14, 15)]),
    Row("U09 type", "type", lambda lane: [flipped(at(lane, 2), bit) for bit in (3, 4, 5, 6, 7)]),
    Row("U09 version", "version", lambda lane: [flipped(at(lane, 2), 2)]),
    Row("U10", "auth", lambda lane: [at(lane, 2, BODY)[:-cut] for cut in range(1, 16)]),
    Row("U11", "auth", lambda lane: [at(lane, 2, body) + b"\0" for body in (b"", BODY)]),
    Row("U12", "replay", lambda lane: [at(lane, 1), at(lane, 0), at(lane, 1)]),
    Row("U16", "lane", lambda lane: [lane.of_number(number).seal() for number in (LANES, 62, 64, 255)]),
    Row("U17", "lane", lambda lane: [at(lane, 2, epoch=epoch) for epoch in (0, 1, 3)], epoch=5),
    Row("U33", "link_oversize", lambda lane: [at(lane, 2, bytes(size - 32)) for size in (1501, 1800, 2047)]),
]


@pytest.mark.parametrize("row", ROWS, ids=str)
@LANE_IDS
def test_each_datagram_is_dropped_for_exactly_this_reason(live: SealedRelay, to: int, row: Row) -> None:
    with live.hand.hand(to) as lane:
        sealer = lane.epoch(row.epoch)
        live.run(live.accepted(lane, sealer, 2))
        datagrams = row.make(lane)
        assert live.run(live.from_lane(lane, datagrams)) == {row.word: len(datagrams)}
        live.whole(lane.sock)
        live.run(live.accepted(lane, sealer))  # number 2: neither its window nor its keys have moved


@LANE_IDS
def test_a_counter_far_ahead_moves_the_window_and_those_before_it_are_old_U13_U14(live: SealedRelay, to: int) -> None:
    with live.hand.hand(to) as lane:
        live.run(live.accepted(lane, lane.sealer, 2))
        lane.sealer.counter = WINDOW + 2
        live.run(live.accepted(lane, lane.sealer))
        assert live.run(live.from_lane(lane, [at(lane, 1), at(lane, 2)])) == {"old": 2}
        live.run(live.accepted(lane, lane.sealer, 2))
        lane.sealer.counter = FAR
        live.run(live.accepted(lane, lane.sealer))
        assert live.run(live.from_lane(lane, [at(lane, WINDOW + 5), at(lane, FAR - WINDOW)])) == {"old": 2}
        live.whole(lane.sock)


@LANE_IDS
def test_a_valid_datagram_from_an_unlisted_address_is_heard_and_nothing_goes_there_U36(
    live: SealedRelay, to: int
) -> None:
    with live.hand.hand(to) as lane, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as elsewhere:
        elsewhere.bind(("127.0.0.9", 0))
        before = live.run(live.status())["totals"]["roam_refused"]
        there, lane.sock = lane.sock, elsewhere
        live.run(live.accepted(lane, lane.sealer, 3))
        lane.sock = there
        assert live.run(live.status())["totals"]["roam_refused"] == before + 3
        assert live.run(live.from_socket(elsewhere, [forged(at(lane, 3))], to)) == {"auth": 1}
        live.run(live.accepted(lane, lane.sealer))
        assert live.run(live.status())["totals"]["roam_refused"] == before + 3
        assert live.run(live.link())["address"] == str(live.hand.data)
        live.whole(elsewhere)


@pytest.mark.parametrize("source", ["port 0", "our own address"], ids=lambda text: f"U35 {text}")
@LANE_IDS
def test_a_source_that_can_be_nobodys_is_refused_whatever_it_says(live: SealedRelay, to: int, source: str) -> None:
    ours = port_of(live.relay.data, to)
    with live.hand.hand(to) as lane, raw_udp() as raw:
        live.run(live.accepted(lane, lane.sealer, 2))

        async def send() -> None:
            for counter in (2, 3):
                raw.send(("127.0.0.1", 0) if source == "port 0" else ours, ours, at(lane, counter))

        assert live.run(live.drops_after(send, 2)) == {"src": 2}
        live.whole(lane.sock)
        live.run(live.accepted(lane, lane.sealer))


@LANE_IDS
def test_forged_epochs_are_derived_at_most_a_hundred_times_a_second_U18(live: SealedRelay, to: int) -> None:
    with live.hand.hand(to) as lane:
        live.run(live.accepted(lane, lane.sealer, 2))
        datagrams = [forged(at(lane, counter, epoch=1)) for counter in range(1000)]
        began = time.monotonic()
        drops = live.run(live.from_lane(lane, datagrams))
        most = 100 + 100 * (time.monotonic() - began)
        assert drops.keys() == {"auth", "ratelimit"}
        assert sum(drops.values()) == 1000
        assert drops["auth"] <= most
        live.whole(lane.sock)
        live.run(live.accepted(lane, lane.sealer))
        live.run(asyncio.sleep(0.3))  # thirty tries for who comes next


# -- handshakes: the agent's port ------------------------------------------------------------------------------------


def good(live: SealedRelay, kind: int) -> bytes:
    """A message of that kind with the right MACs, of nothing."""
    size = {HELLO: 180, ANSWER: 116}[kind]
    return live.hand.macs.finish(bytes([kind, 0, 0, 0]) + random.Random(kind).randbytes(size - 36), None)


def from_agent(live: SealedRelay, datagrams: Made) -> dict[str, int]:
    """As if the peer's agent had sent them; what it hears meanwhile, the rig reads."""
    return live.run(live.from_socket(live.hand.agent, datagrams, AGENT))


def from_stranger(live: SealedRelay, datagrams: Made) -> dict[str, int]:
    return live.run(live.from_socket(live.stranger, datagrams, AGENT))


@pytest.mark.parametrize(
    ("word", "make"),
    [
        pytest.param("length", lambda live: [good(live, HELLO)[:-1], good(live, HELLO) + b"\0"], id="U20"),
        pytest.param("length", lambda live: [good(live, ANSWER)[:-1], good(live, ANSWER) + b"\0"], id="U20 response"),
        pytest.param("mac1", lambda live: [flipped(good(live, HELLO), bit) for bit in (9, 700, 8 * 150)], id="U21"),
        pytest.param("unknown_peer", lambda live: [live.hand.initiation(private=bytes(range(32)))], id="U22"),
        pytest.param("cookie", lambda live: [bytes([COOKIE]) + bytes(COOKIE_REPLY_BYTES - 1)], id="U29"),
        pytest.param("noindex", lambda live: [good(live, ANSWER)], id="U30 unknown index"),
        pytest.param("mac1", lambda live: [data for data in live.hand.got if data[0] == HELLO][-1:], id="U31"),
    ],
)
def test_a_bad_handshake_message_of_a_stranger_is_refused_in_silence(
    live: SealedRelay, word: str, make: Callable[[SealedRelay], Made]
) -> None:
    """U31: what the relay sent is made for another's key, so its own gate has refused it before anybody looks whose."""
    datagrams = make(live)
    assert from_stranger(live, datagrams) == {word: len(datagrams)}
    live.whole()


@pytest.mark.parametrize(
    ("word", "make"),
    [
        pytest.param("unknown_peer", lambda live: live.hand.initiation(private=bytes(range(32))), id="U22"),
        pytest.param("dh", lambda live: low_order(live), id="U25"),
        pytest.param("noindex", lambda live: answer_of(live), id="U30 twice"),
        pytest.param("auth", lambda live: changed(live), id="U24 changed"),
    ],
)
def test_a_bad_handshake_message_from_the_peers_address_changes_nothing(
    live: SealedRelay, word: str, make: Callable[[SealedRelay], bytes]
) -> None:
    keys, got = live.hand.index, len(live.hand.got)
    assert from_agent(live, [make(live)]) == {word: 1}
    assert (live.hand.index, len(live.hand.got)) == (keys, got)
    live.whole()


def low_order(live: SealedRelay) -> bytes:
    body = live.hand.initiation()
    return live.hand.macs.finish(body[:8] + bytes(32) + body[40:-32], None)


def changed(live: SealedRelay) -> bytes:
    body = live.hand.initiation()
    return live.hand.macs.finish(flipped(body[:-32], 8 * 120), None)


def answer_of(live: SealedRelay) -> bytes:
    """The response that made the session."""
    return [data for data in live.hand.sent if data[0] == ANSWER][-1]


def test_a_thousand_initiations_in_one_go_from_one_source_are_five_and_twenty_a_second_U26(live: SealedRelay) -> None:
    stranger = [live.hand.initiation(private=bytes(range(32)))] * 1000
    began = time.monotonic()
    drops = from_stranger(live, stranger)
    most = 5 + 20 * (time.monotonic() - began)
    assert drops.keys() == {"unknown_peer", "ratelimit"}
    assert sum(drops.values()) == 1000
    assert 5 <= drops["unknown_peer"] <= most
    live.whole()


def test_an_initiation_is_good_once_U24_and_another_secret_of_the_mesh_makes_no_session_U23(live: SealedRelay) -> None:
    live.run(asyncio.sleep(0.3))
    hand = live.hand
    index = hand.index
    now = _core.clock_now()
    (slot,) = (peer.session.slot for peer in hand.sessions.peers.values() if peer.session is not None)
    hand.sessions.rekey(slot, now)

    async def renewed() -> None:
        async with asyncio.timeout(10):
            while hand.index == index:
                await asyncio.sleep(0.005)

    live.run(renewed())
    asked = [data for data in hand.sent if data[0] == HELLO][-1]
    assert from_agent(live, [asked]) == {"stamp": 1}  # U24

    index, got = hand.index, len(hand.got)
    wrong = hand.initiation(psk=bytes(32))

    async def answered() -> None:
        hand.agent.sendto(wrong, port_of(live.relay.data, AGENT))
        async with asyncio.timeout(10):
            while len(hand.got) == got:
                await asyncio.sleep(0.005)

    before = live.run(live.drops())
    live.run(answered())  # U23: the responder cannot know; what it made is never heard
    assert [data[0] for data in hand.got[got:]] == [ANSWER]
    assert moved(before, live.run(live.drops())) == {}
    assert hand.index == index
    with hand.hand(WORKER) as lane:  # and what there was goes on
        live.run(live.accepted(lane, lane.sealer))
    live.whole()


def test_under_load_who_cannot_be_heard_gets_a_cookie_and_no_session_U27_U28(live: SealedRelay) -> None:
    """Eighty sources at once empty the bucket of all; replies are no longer than 0.45 of what came."""
    message = live.hand.initiation(private=bytes(range(32)))
    sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(80)]
    there = port_of(live.relay.data, AGENT)
    count = len(sockets) * 5

    async def send() -> None:
        for sock in sockets:
            sock.setblocking(False)
            send_run(sock, [message] * 5, there)

    drops = live.run(live.drops_after(send, count))
    assert drops.keys() <= {"unknown_peer", "mac2", "ratelimit"}
    assert sum(drops.values()) == count
    assert drops["mac2"] > 0
    replies = [reply for sock in sockets for reply in heard(sock)]
    assert 0 < len(replies) <= drops["mac2"]
    assert {(reply[0], len(reply)) for reply in replies} == {(COOKIE, COOKIE_REPLY_BYTES)}
    assert sum(map(len, replies)) <= 0.45 * count * len(message)
    loads = live.run(live.status())["totals"]["gate_loads"]
    assert loads >= 1

    # U28. The cookie that one source was sent, from another one, still under load.
    asker, other = sockets[0], sockets[1]
    cookied = live.run(cookie_of(live, asker, message))
    assert from_socket_of(live, other, cookied) == {"mac2": 1}
    assert from_socket_of(live, asker, cookied) == {"unknown_peer": 1}
    for sock in sockets:
        sock.close()
    live.run(asyncio.sleep(1.1))  # ZR_GATE_LOADED: those who follow need no cookie
    live.whole()


def heard(sock: socket.socket) -> Iterator[bytes]:
    while True:
        try:
            yield sock.recv(2048)
        except BlockingIOError:
            return


def from_socket_of(live: SealedRelay, sock: socket.socket, data: bytes) -> dict[str, int]:
    return live.run(live.from_socket(sock, [data], AGENT))


async def cookie_of(live: SealedRelay, sock: socket.socket, message: bytes) -> bytes:
    """The same message with the MAC2 that its source can make."""
    async with asyncio.timeout(10):
        while not (replies := list(heard(sock))):
            sock.sendto(message, port_of(live.relay.data, AGENT))
            await asyncio.sleep(0.05)
    reply = replies[-1]
    cookie = xchacha.open_(live.hand.macs.cookie_key, reply[8:32], reply[32:], message[-32:-16])
    return message[:-16] + mac(cookie, message[:-16])


# -- control messages ------------------------------------------------------------------------------------------------


def publish(live: SealedRelay, stream: str) -> None:
    live.run(live.client.put(stream_path(stream), publish_body()))


def ask(live: SealedRelay, r: int, conv: int, stream: str) -> None:
    live.hand.say(Pull(r=r, stream=stream, conv=conv, lane=0, route=[PEER_ID]))


def test_an_unknown_message_is_answered_and_what_is_none_is_a_violation_K29(live: SealedRelay) -> None:
    before = live.run(live.drops())
    live.hand.say(msgspec.msgpack.encode({"t": "teleport", "r": 7}))
    answer = live.run(live.hand.message(Unsupported))
    assert (answer.of, answer.r) == ("teleport", 7)
    assert moved(before, live.run(live.drops())) == {}

    async def nonsense() -> None:
        for said in (b"\xc1", b"\x90", b"\x80"):
            live.hand.say(said)

    assert live.run(live.drops_after(nonsense, 3)) == {"msg": 3}
    live.whole()


def test_asking_twice_and_leaving_what_is_not_there_change_nothing_K34(live: SealedRelay) -> None:
    publish(live, "live/k34")
    before = live.run(live.drops())
    for r in (1, 2):
        ask(live, r, 8, "live/k34")
        answer = live.run(live.hand.message(PullOk))
        assert (answer.r, answer.conv) == (r, 8)
    for conv in (99, 8, 8):
        live.hand.say(Drop(conv=conv))
    ask(live, 3, 8, "live/k34")
    assert live.run(live.hand.message(PullOk)).r == 3
    live.hand.say(Drop(conv=8))
    assert moved(before, live.run(live.drops())) == {}
    live.whole()


def test_a_stream_outside_its_rights_is_neither_taken_nor_given_K35(live: SealedRelay) -> None:
    publish(live, "other/k35")

    async def announce() -> None:
        live.hand.say(Have(streams={"live/a": 1}))
        live.hand.say(Have(streams={"other/a": 1}))

    assert live.run(live.drops_after(announce, 1)) == {"rights": 1}
    ask(live, 5, 9, "other/k35")
    answer = live.run(live.hand.message(PullNo))
    assert (answer.r, answer.code) == (5, "rights")
    log = live.relay.log_path.read_text()
    assert "have refused: rights" in log
    assert "pull refused: rights" in log
    live.whole()


def test_the_1025th_stream_on_a_link_is_refused_and_the_link_stays_K36(live: SealedRelay) -> None:
    publish(live, "live/k36")

    async def say(message: Pull | Drop) -> None:
        while True:
            try:
                return live.hand.say(message)
            except CoreError:  # "full": the relay has not acknowledged enough
                await asyncio.sleep(0.002)

    async def scenario() -> None:
        codes = []
        for number in range(STREAMS_MAX + 1):
            await say(Pull(r=number, stream="live/k36", conv=100 + number, lane=0, route=[PEER_ID]))
        for _ in range(STREAMS_MAX + 1):  # a refusal waits for no worker and may come before the last consents
            answer = await live.hand.message((PullOk, PullNo))
            codes.append((answer.r, getattr(answer, "code", "")))
        assert sorted(codes) == [*((number, "") for number in range(STREAMS_MAX)), (STREAMS_MAX, "quota")]
        for number in range(STREAMS_MAX):
            await say(Drop(conv=100 + number))
        await say(Pull(r=5000, stream="live/k36", conv=5000, lane=0, route=[PEER_ID]))
        assert (await live.hand.message(PullOk)).r == 5000
        await say(Drop(conv=5000))

    live.run(scenario())
    live.whole()


@LANE_IDS
def test_a_probe_answer_to_nothing_is_dropped_and_belongs_to_the_agent_K37(live: SealedRelay, to: int) -> None:
    """A pong with an id and times of its own; on a worker's lane such a command is no command at all."""
    pong, padded = segment(0, 2, bytes(16), cmd=97, una=3, ts=1), segment(0, 2, b"", cmd=99, una=3, ts=1)
    with live.hand.hand(to) as lane:
        drops = live.run(live.from_lane(lane, [lane.sealer.seal(body) for body in (pong, padded)]))
        assert drops == {"probe" if to == AGENT else "kcp_cmd": 2}
        live.whole(lane.sock)


# -- what ends the session: last -------------------------------------------------------------------------------------


@LANE_IDS
def test_the_last_counter_ends_the_session_what_follows_is_expired_and_a_new_one_begins_U15_U19(
    live: SealedRelay, to: int
) -> None:
    """One run of datagrams, so that those behind the last number come before the agent has dropped the session."""
    joined = live.hand.joined
    with live.hand.hand(to) as lane:
        live.run(live.accepted(lane, lane.sealer))
        run = [at(lane, 2**64 - 1), *(at(lane, counter) for counter in (1, 2, 3))]

        async def send() -> None:
            send_run(lane.sock, run, port_of(live.relay.data, to))

        drops = live.run(live.drops_after(send, 4))
        assert drops.pop("limit") == 1
        assert drops.pop("expired") >= 3  # the rig's own agent goes on a moment longer
        assert drops.keys() <= {"noindex"}
        live.run(live.hand.another(joined))
        live.run(live.linked())
        late = live.run(live.from_lane(lane, [at(lane, 4)]))
        assert late in ({"noindex": 1}, {"expired": 1})
    with live.hand.hand(to) as lane:
        live.run(live.accepted(lane, lane.sealer))
    live.whole()
