"""What agents say to each other: hello and answer (datagrams), and the control messages on conversation 0.

Everything is a MessagePack map. Unknown keys are ignored; a message type that is not known here is answered
`unsupported`; what is not a map, has no `t`, or lacks or mistypes a required key is a violation.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import Meta

from relay.tracks import Track

HELLO, ANSWER = 0x08, 0x09
PAYLOAD_BYTES_MAX = 65536
TRACKS_MAX = 32
ROUTE_MAX = 16

Conv: TypeAlias = Annotated[int, Meta(ge=1, le=0xFFFFFFFF)]
Lane: TypeAlias = Annotated[int, Meta(ge=0, le=61)]
Index: TypeAlias = Annotated[int, Meta(ge=0, lt=1 << 26)]
U64: TypeAlias = Annotated[int, Meta(ge=0)]  # MessagePack has no larger integer
U32: TypeAlias = Annotated[int, Meta(ge=0, lt=1 << 32)]
Text: TypeAlias = Annotated[str, Meta(max_length=256)]


class Violation(Exception):
    """The peer broke the protocol; `word` is the drop word to count."""

    def __init__(self, word: str, detail: str = "") -> None:
        super().__init__(f"{word}: {detail}" if detail else word)
        self.word = word


class Hello(msgspec.Struct, frozen=True, kw_only=True):
    """A session's start. `index`: the sender's receive index; `to` in an answer: the index of the hello it answers."""

    relay: Text
    boot_id: U64
    index: Index
    lanes: Annotated[int, Meta(ge=1, le=62)]
    version: Annotated[int, Meta(ge=1, le=255)] = 1
    rate_idle: Annotated[int, Meta(ge=0, le=1000)] = 4
    rate_active: Annotated[int, Meta(ge=0, le=1000)] = 4
    caps: U64 = 0
    to: Index | None = None


class WireTrack(Track, frozen=True, kw_only=True, forbid_unknown_fields=False, omit_defaults=True):
    """A Track as it travels: a newer relay may say more about it."""


Tracks_: TypeAlias = Annotated[list[WireTrack], Meta(max_length=TRACKS_MAX)]


class From(msgspec.Struct, frozen=True, omit_defaults=True):
    """Resume after media number `number` of `epoch`, as the origin with this boot id counts them."""

    epoch: U64
    number: U32
    boot: U64 = 0


class Message(msgspec.Struct, frozen=True, kw_only=True, tag_field="t", omit_defaults=True):
    """The base of every control message."""


class Pull(Message, frozen=True, kw_only=True, tag="pull", rename={"from_": "from"}):
    """Child asks parent. `route`: relay ids from the asker down to the first viewer's relay."""

    r: U32
    stream: Text
    conv: Conv
    lane: Lane
    route: Annotated[list[Text], Meta(max_length=ROUTE_MAX)]
    want: str = "all"
    from_: From | None = None


class PullOk(Message, frozen=True, kw_only=True, tag="pull_ok"):
    """Media will come from `lane`, starting at `next`. `route`: relay ids from the origin to the answering relay;
    `boot`: the origin's boot id. An origin that started anew numbers the same epoch from 0 again."""

    r: U32
    conv: Conv
    lane: Lane
    epoch: U64
    tracks: Tracks_
    next: U32
    route: Annotated[list[Text], Meta(max_length=ROUTE_MAX)] = []
    boot: U64 = 0


class PullNo(Message, frozen=True, kw_only=True, tag="pull_no", rename={"try_": "try"}):
    """`code`: unknown, loop, quota, overload, rights, draining. `try`: relays that may have it instead."""

    r: U32
    code: Text
    retry_ms: U32 | None = None
    try_: Annotated[list[Text], Meta(max_length=ROUTE_MAX)] = []


class Want(Message, frozen=True, kw_only=True, tag="want"):
    conv: Conv
    want: str


class Drop(Message, frozen=True, kw_only=True, tag="drop"):
    conv: Conv


class Gone(Message, frozen=True, kw_only=True, tag="gone"):
    """`code`: ended, epoch, drain, lost, moved."""

    conv: Conv
    code: Text


class Tracks(Message, frozen=True, kw_only=True, tag="tracks"):
    conv: Conv
    tracks: Tracks_


class Keyframe(Message, frozen=True, kw_only=True, tag="keyframe"):
    conv: Conv
    track: Annotated[int, Meta(ge=0, lt=TRACKS_MAX)]


class Have(Message, frozen=True, kw_only=True, tag="have"):
    streams: dict[str, int]


class Report(Message, frozen=True, kw_only=True, tag="report"):
    links: msgspec.Raw = msgspec.Raw(b"\xc0")
    load: msgspec.Raw = msgspec.Raw(b"\xc0")


class Goaway(Message, frozen=True, kw_only=True, tag="goaway"):
    code: Text
    retry_ms: U32 | None = None


class Unsupported(Message, frozen=True, kw_only=True, tag="unsupported"):
    """The type named in `of` is not known there; never answered."""

    of: Text
    r: U32 | None = None


class Unknown(msgspec.Struct, frozen=True):
    """Decoded from a message of a type that is not known here: to be answered `unsupported`."""

    of: str
    r: int | None


AnyMessage: TypeAlias = (
    Pull | PullOk | PullNo | Want | Drop | Gone | Tracks | Keyframe | Have | Report | Goaway | Unsupported
)
KNOWN = frozenset("pull pull_ok pull_no want drop gone tracks keyframe have report goaway unsupported".split())

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[AnyMessage] = msgspec.msgpack.Decoder(AnyMessage)
_hello_decoder = msgspec.msgpack.Decoder(Hello)


def encode_message(message: AnyMessage) -> bytes:
    return _encoder.encode(message)


def decode_message(payload: bytes) -> AnyMessage | Unknown:
    """One control message.

    Raises:
        Violation: not one map, no `t`, or a key of the wrong type or range.
    """
    if len(payload) > PAYLOAD_BYTES_MAX:
        raise Violation("msg", f"{len(payload)} bytes")
    try:
        return _decoder.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        return _unknown(payload, str(error))


def _unknown(payload: bytes, why: str) -> Unknown:
    try:
        loose = msgspec.msgpack.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, ValueError, TypeError, RecursionError):
        raise Violation("msg", why) from None
    kind = loose.get("t") if isinstance(loose, dict) else None
    if not isinstance(kind, str) or kind in KNOWN:
        raise Violation("msg", why)
    r = loose.get("r")
    return Unknown(kind[:64], r if type(r) is int and 0 <= r < 1 << 32 else None)


def encode_hello(hello: Hello) -> bytes:
    """A hello, or an answer when `to` is set: {type, 0, 0, 0} and the map."""
    return bytes((HELLO if hello.to is None else ANSWER, 0, 0, 0)) + _encoder.encode(hello)


def decode_hello(data: bytes) -> Hello:
    """A hello or an answer.

    Raises:
        Violation: malformed, or an answer that does not say which hello it answers.
    """
    if len(data) < 5 or data[0] not in (HELLO, ANSWER) or data[1:4] != b"\0\0\0":
        raise Violation("hello", "header")
    try:
        hello = _hello_decoder.decode(data[4:])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Violation("hello", str(error)) from None
    if (hello.to is None) != (data[0] == HELLO):
        raise Violation("hello", "`to` belongs in an answer")
    return hello


def wire_tracks(tracks: Iterable[Track]) -> list[WireTrack]:
    return [WireTrack(**msgspec.structs.asdict(track)) for track in tracks]


def plain_tracks(tracks: Sequence[WireTrack]) -> tuple[Track, ...]:
    return tuple(Track(**msgspec.structs.asdict(track)) for track in tracks)


WANTS: dict[str, Literal[0, 1]] = {"all": 0, "warm": 1}
"""`want` -> the number in child_add and child_want; a layer cap is served as "all" until layers are cut."""
