"""Control messages and hellos: what is taken, what is answered `unsupported`, what is a violation."""

from contextlib import suppress

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay import messages as m
from relay.tracks import Track

TRACKS = m.wire_tracks([Track(id="v0", kind="video", codec="h264", payload_type=96, clock_rate=90000)])
ALL = [
    m.Pull(r=1, stream="s", conv=2, lane=0, route=["b"], from_=m.From(3, 4)),
    m.PullOk(r=1, conv=2, lane=0, epoch=3, tracks=TRACKS, next=9, route=["a"]),
    m.PullNo(r=1, code="unknown", retry_ms=100, try_=["x"]),
    m.Want(conv=2, want="warm"),
    m.Drop(conv=2),
    m.Gone(conv=2, code="ended"),
    m.Tracks(conv=2, tracks=TRACKS),
    m.Keyframe(conv=2, track=0),
    m.Have(streams={"s": 1}),
    m.Goaway(code="drain"),
    m.Unsupported(of="x"),
]


@pytest.mark.parametrize("message", ALL, ids=lambda message: type(message).__name__)
def test_every_message_survives_and_unknown_keys_are_ignored(message):
    assert m.decode_message(m.encode_message(message)) == message
    loose = msgspec.msgpack.decode(m.encode_message(message)) | {"new": [1]}
    assert m.decode_message(msgspec.msgpack.encode(loose)) == message


def test_keys_travel_by_the_names_of_the_protocol():
    keys = msgspec.msgpack.decode(m.encode_message(ALL[0]))
    assert keys == {
        "t": "pull", "r": 1, "stream": "s", "conv": 2, "lane": 0, "route": ["b"], "from": {"epoch": 3, "number": 4}
    }  # fmt: skip


def test_an_unknown_type_is_to_be_answered():  # K29; how: tests/py/test_rights.py
    assert m.decode_message(msgspec.msgpack.encode({"t": "teleport", "r": 7})) == m.Unknown("teleport", 7)
    assert m.decode_message(msgspec.msgpack.encode({"t": "teleport", "r": -7})) == m.Unknown("teleport", None)


@pytest.mark.parametrize(
    "loose",
    [[], 1, "pull", {}, {"t": 1}, {"t": "pull"}, {"t": "drop", "conv": 0}, {"t": "drop", "conv": 1 << 32},
     {"t": "drop", "conv": True}, {"t": "keyframe", "conv": 1, "track": 99},
     {"t": "gone", "conv": 1, "code": "x" * 300}],
)  # fmt: skip
def test_what_breaks_the_protocol_is_a_violation(loose):
    with pytest.raises(m.Violation) as refused:
        m.decode_message(msgspec.msgpack.encode(loose))
    assert refused.value.word == "msg"


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_a_violation(data):
    for decode in (m.decode_message, m.decode_hello):
        with suppress(m.Violation):
            decode(data)


def test_a_hello_and_its_answer_differ_by_type_and_to():
    hello = m.Hello(relay="a", boot_id=1, index=2, lanes=1)
    answer = m.Hello(relay="b", boot_id=3, index=4, lanes=1, to=2)
    assert m.encode_hello(hello)[:4] == b"\x08\0\0\0"
    assert m.encode_hello(answer)[:4] == b"\x09\0\0\0"
    assert [m.decode_hello(m.encode_hello(said)) for said in (hello, answer)] == [hello, answer]
    with pytest.raises(m.Violation):
        m.decode_hello(b"\x09" + m.encode_hello(hello)[1:])
