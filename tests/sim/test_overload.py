"""One relay whose egress takes less than comes in, on a virtual clock: who loses what, and how much waits."""

from __future__ import annotations

import struct
from collections import Counter, defaultdict

import pytest

from relay import _core
from relay.commands import encode
from relay.units import Address

MS, SECOND = 1_000_000, 1_000_000_000
STREAMS, PLAYERS, ENTRIES = 4, 5, 4
AUDIO_EVERY, FRAME_EVERY = 40, 33  # ms
PACKETS, KEY_PACKETS = 4, 8  # of a frame, of a key frame
PUBLISHER = Address("127.0.8.8", 4000).pack()
VIDEO_PT, AUDIO_PT, H264, OPUS = 96, 97, 1, 6
KINDS = {0x65: "key", 0x41: "base", 0x01: "extra"}  # by NAL header: IDR, a reference, one that nothing refers to


class Load:
    """Streams with audio, key frames, references and discardable frames, by turns; each to all players."""

    def __init__(self) -> None:
        self.now = SECOND
        self.relay = _core.Forwarder(0, self.now, streams_max=STREAMS, batch_entries=ENTRIES)
        self.due: Counter[str] = Counter()
        self.got: Counter[str] = Counter()
        self.frames: dict[tuple[bytes, int, int], int] = defaultdict(int)  # player, ssrc, timestamp: packets
        self.late: list[int] = []  # of audio, ns
        self.sent_at: dict[tuple[int, int], int] = {}
        self.kind: dict[tuple[int, int], str] = {}
        self.seq: Counter[int] = Counter()
        self.key_wanted = [True] * STREAMS
        for stream in range(STREAMS):
            self._command("stream_open", stream=stream, local=1, epoch=1, number=0)
            for track, (kind, codec, pt) in enumerate(((1, H264, VIDEO_PT), (0, OPUS, AUDIO_PT))):
                word = kind | codec << 8 | pt << 16
                self._command("stream_track", stream=stream, track=track, format=word, clock_rate=90000, ssrc=0)
            self._command("ingress_bind", ingress=stream, stream=stream, learn=1)
            for player in range(PLAYERS):
                address = Address("127.0.9.9", 10000 + stream * PLAYERS + player)
                sub = stream * PLAYERS + player
                self._command("sub_add", addr=address, sub=sub, stream=stream, tracks=0xFFFF, layers=0xFFFF)

    def _command(self, op: str, *, addr: Address | None = None, **fields: int) -> None:
        self.relay.command(encode(op, 0, addr=addr, **fields))

    def _rtp(self, stream: int, audio: bool, timestamp: int, kind: str, nal: int = 0) -> None:
        ssrc = stream * 2 + audio + 1
        seq = self.seq[ssrc] = self.seq[ssrc] + 1 & 0xFFFF
        head = struct.pack(">BBHII", 0x80, AUDIO_PT if audio else VIDEO_PT, seq, timestamp, ssrc)
        self.kind[ssrc, timestamp] = kind
        self.sent_at[ssrc, seq] = self.now
        self.due[kind] += PLAYERS
        assert self.relay.ingress_input(stream, head + bytes((nal, 0x88)) + bytes(200), PUBLISHER, self.now)

    def publish(self, ms: int) -> None:
        for stream in range(STREAMS):
            at = ms + stream * 7
            if at % AUDIO_EVERY == 0:
                self._rtp(stream, True, at * 48, "audio")
            if at % FRAME_EVERY:
                continue
            frame = at // FRAME_EVERY
            key = self.key_wanted[stream] or frame % 90 == 0
            nal = 0x65 if key else 0x41 if frame % 2 else 0x01
            self.key_wanted[stream] = False
            for _ in range(KEY_PACKETS if key else PACKETS):
                self._rtp(stream, False, frame * 3000, KINDS[nal], nal)

    def take(self, sent: list[tuple[int, bytes, bytes]]) -> int:
        """What left; answers how many of it went to players."""
        count = 0
        for sock, to, data in sent:
            if sock >= 2:
                self.key_wanted[sock - 2] = True  # a PLI
                continue
            count += 1
            seq, timestamp, ssrc = struct.unpack_from(">HII", data, 2)
            kind = self.kind[ssrc, timestamp]
            self.got[kind] += 1
            self.frames[to, ssrc, timestamp] += 1
            if kind == "audio":
                self.late.append(self.now - self.sent_at[ssrc, seq])
        return count

    def run(self, ms: int, rate: float) -> None:
        """`rate`: datagrams that egress takes a millisecond."""
        credit = 0.0
        for at in range(ms):
            self.now += MS
            self.publish(at)
            credit = min(credit + rate, 4 * ENTRIES)
            credit -= self.take(self.relay.turn(self.now, batches=int(credit / ENTRIES)))
            assert set(self.relay.ledgers().values()) == {0}
            stats = self.relay.stats()
            assert stats["held_packets"] <= stats["held_packets_cap"]
        assert self.relay.check()

    def loss(self, kind: str) -> float:
        return 1 - self.got[kind] / self.due[kind]


def rate_of(load: Load, ms: int) -> float:
    return sum(load.due.values()) / ms


@pytest.fixture(scope="module")
def offered() -> float:
    """Datagrams a millisecond that egress would have to take."""
    load = Load()
    load.run(5000, 1e9)
    assert load.loss("audio") == load.loss("key") == load.loss("base") == load.loss("extra") == 0
    return rate_of(load, 5000)


@pytest.mark.parametrize("times", [2, 4])
def test_egress_that_takes_too_little_costs_enhancement_first_and_audio_nothing(times: int, offered: float) -> None:
    load = Load()
    load.run(20000, offered / times)
    drops = load.relay.drops()
    assert load.loss("audio") <= 0.001
    if times == 2:
        assert load.loss("key") <= 0.005
    assert load.loss("extra") >= load.loss("base") > 0
    assert load.loss("base") > load.loss("key")
    assert sorted(load.late)[len(load.late) * 99 // 100] <= 150 * MS  # at one to two datagrams a millisecond
    assert drops["fan_shed"] > 0
    assert drops["shed"] == drops["window"] == drops["gone"] == 0


def test_frames_leave_whole_or_not_at_all(offered: float) -> None:
    load = Load()
    load.run(10000, offered / 2)
    load.run(1000, 1e9)  # what waits leaves
    cut = [key for key, packets in load.frames.items() if load.kind[key[1:]] != "audio" and packets < PACKETS]
    assert not cut


def test_egress_that_takes_nothing_for_a_while_leaves_no_old_burst_behind(offered: float) -> None:
    load = Load()
    load.run(2000, 1e9)
    load.run(3000, 0)
    assert load.relay.stats()["held_packets"] < 4 * 5 * 400
    load.late.clear()
    load.got.clear()
    load.due.clear()
    load.run(1, 1e9)
    load.run(3000, 1e9)
    assert max(load.late) <= 410 * MS
    assert load.relay.stats()["held_packets"] == 0
    load.got.clear()
    load.due.clear()
    load.run(3000, 1e9)
    assert load.loss("audio") == load.loss("key") == load.loss("base") == load.loss("extra") == 0
