"""Datagrams made by hand from PROTOCOL.md, lanes to throw them at, and what became of them.

Nothing here uses the product's own encoders of the data path: a mistake there must not hide in its tests.
"""

from __future__ import annotations

import random
import socket
import struct
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from relay import _core
from relay.commands import decode_event, encode
from relay.units import Address

SECOND = 1_000_000_000
NOW = SECOND
AGENT, WORKER = 63, 0
INDEX, PEER_INDEX = 0x0111111, 0x2222222  # ours, and the peer's
PEER = Address("127.0.0.1", 6000)  # the peer's agent
PEER_WORKER = PEER.shifted(1)
SESSION = 3
SESSION_MTU = 1420
PUSH = 81


def envelope(
    body: bytes = b"",
    *,
    lane: int,
    index: int = INDEX,
    sender: int = 0,
    epoch: int = 0,
    counter: int = 0,
    first: int = 0x0B,
) -> bytes:
    """A data datagram for `lane` from lane `sender`: header 16, body, tag 16."""
    return struct.pack("<BBHIQ", first, sender, epoch, index << 6 | lane, counter) + body + bytes(16)


def segment(conv: int, sn: int, payload: bytes, *, cmd: int = PUSH, frg: int = 0, una: int = 0, ts: int = 0) -> bytes:
    """One KCP segment."""
    return struct.pack("<IBBHIIII", conv, cmd, frg, 128, ts, sn, una, len(payload)) + payload


def media(number: int, packet: bytes, *, track: int = 0, hops: int = 0, drop_class: int = 1, flags: int = 16) -> bytes:
    """A media message: header 16, then the RTP packet. It leaves now: one that always says the same hop time gets older
    by the second, and is dropped for that on a slow machine."""
    hop_us = time.monotonic_ns() // 1000 & 0xFFFFFFFF
    return struct.pack("<BBBBIII", flags, track, hops << 4 | drop_class, 0, number & 0xFFFFFFFF, hop_us, 0) + packet


def rtp(seq: int, *, payload_type: int = 97, ssrc: int = 7, first: int = 0x80, payload: bytes = b"payload") -> bytes:
    """One RTP packet; `first`: version, padding, extension and CSRC count."""
    return struct.pack(">BBHII", first, payload_type, seq & 0xFFFF, seq * 960 & 0xFFFFFFFF, ssrc) + payload


BAD_RTP: dict[str, list[bytes]] = {
    "rtp_short": [rtp(0, payload=b"")[:size] for size in (1, 2, 11)],
    "rtp_version": [rtp(0, first=version << 6) for version in (0, 1, 3)],
    "rtp_csrc": [rtp(0, first=0x8F), rtp(0, first=0x82, payload=b"1234567")],
    "rtp_ext": [
        rtp(0, first=0x90, payload=b"\xbe\xde\0"),
        rtp(0, first=0x90, payload=b"\xbe\xde\0\2" + bytes(7)),
        rtp(0, first=0x90, payload=b"\xbe\xde\xff\xff" + bytes(100)),
    ],
    "rtp_pad": [rtp(0, first=0xA0, payload=bytes(6) + bytes([count])) for count in (0, 8, 255)],
}
"""Case K33: the reason, and packets that break only that rule."""

WINDOW = 8192  # media numbers, and counters


@dataclass(frozen=True)
class Row:
    """One case of the table: datagrams for a lane, and the one reason that each of them is dropped for."""

    id: str
    word: str
    make: Callable[[int], list[bytes]]  # from the lane's number

    def __str__(self) -> str:
        return self.id


@dataclass(frozen=True)
class MediaRow(Row):
    """The same for media messages; `make` is given the highest media number that was seen before them."""


MEDIA_ROWS = [
    MediaRow("K30 track", "track", lambda n: [media(n + 1, rtp(1), track=track) for track in (1, 15, 16, 31, 255)]),
    MediaRow("K30 hops", "ttl", lambda n: [media(n + 1, rtp(1), hops=hops) for hops in range(9, 16)]),
    MediaRow("K31 old", "late", lambda n: [media(n - back, rtp(1)) for back in (WINDOW, WINDOW + 1, n, n + 2**30)]),
    MediaRow("K31 seen", "duplicate", lambda n: [media(n, rtp(1)), media(n, rtp(2)), media(n - 1, rtp(3))]),
    *(
        MediaRow(f"K33 {word}", word, lambda n, bad=bad: [media(n + 1, packet) for packet in bad])  # type: ignore[misc]
        for word, bad in BAD_RTP.items()
    ),
    MediaRow("K33 no header", "media_short", lambda n: [media(n + 1, b"")[:size] for size in (1, 15)]),
    MediaRow("K33 header alone", "rtp_short", lambda n: [media(n + 1, b"")]),
]


def _contents(size: int) -> list[bytes]:
    rng = random.Random(size)
    return [bytes([first]) + rng.randbytes(size - 1) for first in (0x00, 0x08, 0x0B, 0x0C, 0x80, 0xFF)]


def _strangers_index(lane: int) -> list[bytes]:
    rng = random.Random(7)
    return [envelope(lane=lane, index=rng.getrandbits(26), body=rng.randbytes(size)) for size in (0, 24, 1400)]


def _other_lanes(lane: int) -> list[bytes]:
    return [envelope(lane=other, index=index) for other in range(64) if other != lane for index in (INDEX, 12345)]


OTHER_PROTOCOLS = {
    "STUN": bytes.fromhex("000100002112a442") + bytes(12),
    "DTLS ClientHello": bytes.fromhex("16fefd0000000000000000007a0100006e0000000000000062fefd") + bytes(110),
    "DNS": bytes.fromhex("12340100000100000000000003777777076578616d706c6503636f6d0000010001"),
    "QUIC Initial": bytes.fromhex("c3000000010812345678876543210000449e") + bytes(1182),
    "SIP": b"OPTIONS sip:relay@192.0.2.1 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.2:5060\r\n\r\n",
    "RTP": rtp(1, payload=bytes(160)),
}

LARGEST = 65507  # what one UDP datagram over IPv4 can carry

ROWS = [
    Row("U01", "short", lambda lane: [b""]),
    Row("U02", "short", lambda lane: [data for size in range(1, 16) for data in _contents(size)]),
    Row("U03", "short", lambda lane: [envelope(lane=lane)[:size] for size in (16, 31)]),
    Row("U05", "type", lambda lane: [bytes([first]) + bytes(63) for first in range(256) if not 8 <= first <= 15]),
    Row("U06", "version", lambda lane: [envelope(lane=lane, first=first) for first in range(0x0C, 0x10)]),
    Row("U07 index", "noindex", _strangers_index),
    Row("U07 lane", "lane", _other_lanes),
    Row("U32", "link_oversize", lambda lane: [envelope(lane=lane, body=bytes(size - 32)) for size in (2048, LARGEST)]),
    Row("U38", "type", lambda lane: list(OTHER_PROTOCOLS.values())),
]


def mixed_run(lane: int) -> tuple[list[bytes], dict[str, int]]:
    """Case U40: datagrams as one GRO super-packet holds them, all of one size but the last; and their drops."""
    unknown = envelope(lane=lane, index=1, body=bytes(8))
    run = [unknown if n % 3 else bytes(40) for n in range(20)] + [bytes(7)]
    return run, {"type": 7, "noindex": 13, "short": 1}


def moved(before: dict[str, int], after: dict[str, int]) -> dict[str, int]:
    """By how much each counter grew, without those that did not."""
    return {name: count - before.get(name, 0) for name, count in after.items() if count != before.get(name, 0)}


class Lane:
    """A lane of the C core with one session, in SESSION, with PEER."""

    def __init__(self, number: int) -> None:
        self.number = number
        self._core: _core.ControlLane | _core.Forwarder
        if number == AGENT:
            self._core = _core.ControlLane(NOW, rate_idle=0)
            self._core.session_add(SESSION, INDEX, PEER_INDEX, 2, 0, SESSION_MTU, PEER.pack(), NOW)
        else:
            self._core = forwarder()

    def throw(self, datagrams: Sequence[bytes], source: Address = PEER_WORKER) -> dict[str, int]:
        """The drops that they made, one by one; a hello that passes would be an error."""
        before = self._core.drops()
        for number, data in enumerate(datagrams, 1):
            if isinstance(self._core, _core.ControlLane):
                assert self._core.input(data, source.pack(), NOW) == []
            else:
                self._core.link_input(data, source.pack(), NOW)
            taken = sum(moved(before, self._core.drops()).values()) + self.stat("link_accepted")
            assert taken == number, "a datagram ends in exactly one counter"
        return moved(before, self._core.drops())

    def stat(self, name: str) -> int:
        return self._core.stats()[name]

    def heard(self) -> int | None:
        """When the session was heard last; None where the core does not say."""
        return self._core.heard(SESSION) if isinstance(self._core, _core.ControlLane) else None

    def settle(self) -> None:
        """Ends the turn; every ledger is 0, every invariant holds, nothing is kept and nothing is answered."""
        if isinstance(self._core, _core.ControlLane):
            assert self._core.datagrams(NOW) == []
            assert self._core.messages() == []
        else:
            assert self._core.turn(NOW) == []
            assert self._core.pool_in_use() == 0
        assert set(self._core.ledgers().values()) == {0}
        assert self._core.check()


def forwarder() -> _core.Forwarder:
    """A worker's data plane, lane 0, with one session."""
    fwd = _core.Forwarder(WORKER, NOW)
    commands(
        fwd, encode(
            "session_add", 1, session=SESSION, index=INDEX, peer_index=PEER_INDEX, lanes=2, mtu=SESSION_MTU, addr=PEER
        )
    )  # fmt: skip
    return fwd


def commands(fwd: _core.Forwarder, *records: bytes) -> None:
    """Runs commands, each with a number other than 0, in a turn of their own; none is refused."""
    for record in records:
        fwd.command(record)
    assert fwd.turn(NOW) == []
    answers = [event for event in map(decode_event, fwd.events()) if event.op == "done"]
    assert [event.rc for event in answers] == [0] * len(records)


def send_run(sock: socket.socket, run: Sequence[bytes], to: tuple[str, int]) -> None:
    """Hands the kernel equal-sized datagrams (the last may be shorter) in one call: UDP_SEGMENT."""
    segment_size = struct.pack("=H", len(run[0]))
    sock.sendmsg([b"".join(run)], [(socket.IPPROTO_UDP, 103, segment_size)], 0, to)
