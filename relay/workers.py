"""The workers as the control plane sees them: which are up, whose slots are free, and a stream's records as commands.

Nothing is sent to a worker that is down: it gets everything again when it is back (`open_stream` from the records).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from relay.actions import (
    Action,
    CloseIngress,
    Command,
    OpenIngress,
    SessionAdd,
    SessionKeys,
    SessionRekey,
    StreamChanged,
)
from relay.commands import encode
from relay.placement import Slots
from relay.streams import Child, Mirror, Stream, Sub
from relay.tracks import CODECS, Track
from relay.units import Address

KINDS = {"audio": 0, "video": 1, "data": 2}
CODEC_CODES = {word: code for code, word in enumerate(CODECS, 1)}
ALL_LAYERS = 255
CLOSED_LEVEL = 2  # of overload: nobody new from here on
MIRROR = 2  # stream_open, stream_epoch: neither pulled (0) nor local (1)
FROM_NOW = 1 << 33  # child_add: no replay, and counted
CLOSED_AGAIN = 64  # ingress sockets: more are hardly closed within the moments of a death
SEALED = 256  # session_add, with the number of lanes: under the keys told before
AT_ONCE = 256  # session_secret, with the cipher
Done = Callable[[int, int, int], None]  # rc, value, now


class Workers:
    """`emit` takes the actions."""

    def __init__(
        self, count: int, streams_max: int, ingress_ip: str, emit: Callable[[Action], None], *, first_seq: int = 0
    ) -> None:
        self.up = [False] * count
        self.level = [0] * count  # of overload
        self.epoch = [0] * count  # of its lane
        self.streams = [Slots(streams_max) for _ in range(count)]
        self.subs = [Slots(min(max(streams_max * 5, 64), 65536)) for _ in range(count)]
        self.ingress = [Slots(min(streams_max, 60000)) for _ in range(count)]
        self._ingress_ip = ingress_ip
        self._emit = emit
        self._closed: list[deque[int]] = [deque(maxlen=CLOSED_AGAIN) for _ in range(count)]  # ingress, of late
        self._pending: dict[tuple[int, int], Done] = {}
        self._feed = first_seq
        self._seq = first_seq  # by the boot id: answers to an agent before this one find nobody

    def command(self, worker: int, op: str, *, addr: Address | None = None, **fields: int) -> None:
        if self.up[worker]:
            self._emit(Command(worker, encode(op, 0, addr=addr, **fields)))

    def command_all(self, op: str, *, addr: Address | None = None, **fields: int) -> None:
        """The same to every worker that is up."""
        for worker in range(len(self.up)):
            self.command(worker, op, addr=addr, **fields)

    def ask(self, worker: int, op: str, done: Done, **fields: int) -> None:
        """A command whose answer is wanted; `done` is never called when the worker dies first."""
        if not self.up[worker]:
            return
        self._seq = self._seq % 0xFFFFFFFF + 1
        self._pending[worker, self._seq] = done
        self._emit(Command(worker, encode(op, self._seq, addr=None, **fields)))

    def on_done(self, worker: int, seq: int, rc: int, value: int, now: int) -> None:
        done = self._pending.pop((worker, seq), None)
        if done is not None:
            done(rc, value, now)

    def slots_in_use(self) -> dict[str, int]:
        """By kind, over all workers."""
        kinds = {"streams": self.streams, "subs": self.subs, "ingress": self.ingress}
        return {kind: sum(len(slots) for slots in each) for kind, each in kinds.items()}

    def overloaded(self, worker: int) -> bool:
        """It takes nobody new; who is there stays."""
        return self.level[worker] >= CLOSED_LEVEL

    def lost(self, worker: int) -> None:
        self.up[worker] = False
        self.level[worker] = 0
        self.forget_answers(worker)

    def forget_answers(self, worker: int) -> None:
        """To what was asked so far: who would have answered is dead."""
        for key in [key for key in self._pending if key[0] == worker]:
            del self._pending[key]

    # -- sessions ---------------------------------------------------------------------------------------------------

    def add_session(
        self, worker: int, told: SessionAdd | SessionRekey, now: int, rtt_us: int = 0, mtu: int = 0
    ) -> None:
        """A session with its first generation of keys, round trip and KCP mtu when known; or one generation more."""
        if told.keys is not None:
            self._tell_keys(worker, told.slot, told.keys, now)
        if isinstance(told, SessionRekey):
            self.command(worker, "session_rekey", session=told.slot, index=told.index, peer_index=told.peer_index)
            return
        self.command(
            worker, "session_add", session=told.slot, index=told.index, peer_index=told.peer_index,
            lanes=told.lanes | (SEALED if told.keys is not None else 0), rate_mhz=told.rate_mhz, mtu=told.mtu,
            addr=told.address,
        )  # fmt: skip
        if rtt_us:
            self.command(worker, "session_rtt", session=told.slot, rtt_us=rtt_us)
        if mtu:
            self.command(worker, "session_mtu", session=told.slot, mtu=mtu)

    def _tell_keys(self, worker: int, slot: int, keys: SessionKeys, now: int) -> None:
        cipher, at_once, send, recv, age_ms = keys.row(now)
        secrets = send + recv
        for part in range(4):
            low, high = (int.from_bytes(secrets[at : at + 8], "little") for at in (16 * part, 16 * part + 8))
            self.command(
                worker, "session_secret", session=slot, part=part, cipher=cipher | (AT_ONCE if at_once else 0),
                age_ms=age_ms, low=low, high=high,
            )  # fmt: skip

    # -- a stream's records as commands ------------------------------------------------------------------------------

    def open_stream(self, stream: Stream) -> None:
        """Everything about the stream but its pull's conversation and its children."""
        if stream.opened or not self.up[stream.worker]:
            return
        local = stream.publication is not None
        self.command(
            stream.worker, "stream_open", stream=stream.slot, local=int(local), epoch=stream.epoch, number=stream.number
        )
        stream.opened = True
        self.set_tracks(stream)
        self.open_ingress(stream)
        for sub in stream.subs.values():
            self.add_sub(stream, sub)
        for mirror in stream.mirrors.values():
            self.open_mirror(stream, mirror)

    def raise_epoch(self, stream: Stream) -> None:
        """Local subscribers stay; the caller has told the children."""
        local = int(stream.publication is not None)
        where = {"stream": stream.slot, "local": local, "epoch": stream.epoch, "number": stream.number}
        self.command(stream.worker, "stream_epoch", addr=None, **where)
        for mirror in stream.mirrors.values():
            mirror.asked = False
            if mirror.opened:
                self._begin_feed(stream, mirror, "stream_epoch")
        self.set_tracks(stream)
        self.again_subs(stream)
        if stream.publication is not None and stream.publication.address is not None:
            self.set_sources(stream)

    def set_tracks(self, stream: Stream) -> None:
        self._set_tracks(stream, stream)
        for mirror in stream.mirrors.values():
            if mirror.opened:
                self._set_tracks(stream, mirror)

    def _set_tracks(self, stream: Stream, at: Stream | Mirror) -> None:
        for number, track in enumerate(stream.tracks):
            self.command(
                at.worker, "stream_track", stream=at.slot, track=number, format=track_format(track),
                clock_rate=track.clock_rate, ssrc=track.ssrc or 0,
            )  # fmt: skip

    def want_keyframes(self, stream: Stream) -> None:
        """Of every video track."""
        for number, track in enumerate(stream.tracks):
            if track.kind == "video" and stream.opened:
                self.command(stream.worker, "keyframe", stream=stream.slot, track=number)

    def open_ingress(self, stream: Stream) -> None:
        publication = stream.publication
        if publication is not None and stream.opened:
            self._emit(OpenIngress(stream.worker, publication.ingress, self._ingress_ip, publication.port))

    def close_ingress(self, worker: int, slot: int) -> None:
        self._closed[worker].append(slot)
        self.command(worker, "ingress_close", ingress=slot)
        self._emit(CloseIngress(worker, slot))

    def close_again(self, worker: int) -> None:
        """Another process is the worker. Where the dead one was the last to read `ingress_close`, and the supervisor
        had not yet heard of it, the successor was given the socket, and would keep it until its slot is used again.
        """
        for slot in self._closed[worker]:
            if slot not in self.ingress[worker]:
                self.command(worker, "ingress_close", ingress=slot)
        self._closed[worker].clear()

    def bind_ingress(self, stream: Stream) -> None:
        publication = stream.publication
        assert publication is not None
        learn = int(publication.body.ingress.source == "learn")
        self.command(stream.worker, "ingress_bind", ingress=publication.ingress, stream=stream.slot, learn=learn)
        self.set_sources(stream)

    def set_sources(self, stream: Stream) -> None:
        publication = stream.publication
        assert publication is not None
        for source in publication.sources:
            self.command(stream.worker, "ingress_source", ingress=publication.ingress, addr=source)

    def close_stream(self, stream: Stream) -> None:
        """The worker forgets it; its records stay and can be opened again."""
        if stream.opened:
            self.command(stream.worker, "stream_close", stream=stream.slot)
        stream.opened = False
        for sub in stream.subs.values():
            sub.added = False
        for mirror in stream.mirrors.values():
            self.close_mirror(stream, mirror)

    def add_sub(self, stream: Stream, sub: Sub) -> None:
        at = stream.at(sub.worker)
        if not at.opened or sub.added:
            return
        spatial = ALL_LAYERS if sub.body.max_layer is None else sub.body.max_layer
        self.command(
            at.worker, "sub_add", sub=sub.slot, stream=at.slot, tracks=track_mask(stream, sub),
            layers=spatial | ALL_LAYERS << 8, addr=sub.default,
        )  # fmt: skip
        for number, track in enumerate(stream.tracks):
            if track.id in sub.by_track:
                self.command(at.worker, "sub_addr", sub=sub.slot, track=number, addr=sub.by_track[track.id])
        sub.added = True

    def drop_sub(self, stream: Stream, sub: Sub) -> None:
        if sub.added:
            self.command(sub.worker, "sub_drop", sub=sub.slot)
        sub.added = False

    # -- mirrors ----------------------------------------------------------------------------------------------------

    def open_mirror(self, stream: Stream, mirror: Mirror) -> None:
        """The stream at the mirror's worker, with its subscribers there; when that is done, the way to it."""
        if mirror.opened or not stream.opened or not self.up[mirror.worker]:
            return
        mirror.opened = True
        self._begin_feed(stream, mirror, "stream_open")
        self._set_tracks(stream, mirror)
        for sub in stream.subs.values():
            if sub.worker == mirror.worker:
                self.add_sub(stream, sub)

    def close_mirror(self, stream: Stream, mirror: Mirror) -> None:
        """Both workers forget it; its records stay and can be opened again."""
        if mirror.asked and stream.opened:
            self.command(stream.worker, "mirror_drop", stream=stream.slot, target=mirror.worker)
        if mirror.opened:
            self.command(mirror.worker, "stream_close", stream=mirror.slot)
        mirror.opened = mirror.asked = mirror.fed = False
        for sub in stream.subs.values():
            if sub.worker == mirror.worker:
                sub.added = False

    def _begin_feed(self, stream: Stream, mirror: Mirror, op: str) -> None:
        """`op` at the mirror's worker, then mirror_add at the stream's: unless either has begun anew meanwhile."""
        self._feed = self._feed % 0xFFFFFFFF + 1
        feed = mirror.feed = self._feed
        mirror.fed = False

        def ready(rc: int, value: int, now: int) -> None:
            if rc >= 0 and mirror.feed == feed and mirror.opened:
                self.feed_mirror(stream, mirror)

        owner = stream.worker | stream.slot << 8
        self.ask(
            mirror.worker, op, ready, stream=mirror.slot, local=MIRROR, feed=feed, epoch=stream.epoch,
            number=stream.number, **{"from": owner},
        )  # fmt: skip

    def feed_mirror(self, stream: Stream, mirror: Mirror) -> None:
        """The stream's own worker sends it every packet from now on; `fed` when it does."""
        feed, mirror.asked, mirror.fed = mirror.feed, True, False

        def fed(rc: int, value: int, now: int) -> None:
            if rc >= 0 and mirror.feed == feed and mirror.asked:
                mirror.fed = True
                self._emit(StreamChanged(stream.id))

        self.ask(
            stream.worker, "mirror_add", fed, stream=stream.slot, target=mirror.worker, slot=mirror.slot, feed=feed,
            whole=int(mirror.whole),
        )  # fmt: skip

    def again_subs(self, stream: Stream) -> None:
        """Tracks are told to a worker by number: after they changed, subscribers that name theirs are added anew."""
        for sub in stream.subs.values():
            if sub.body.tracks is not None or sub.by_track:
                self.drop_sub(stream, sub)
                self.add_sub(stream, sub)

    def add_child(self, stream: Stream, child: Child, done: Done) -> None:
        assert child.slot is not None
        at = stream.at(child.worker)
        resume = child.resume
        same = resume is not None and (resume.epoch, resume.boot) == (stream.epoch, stream.boot)
        start = resume.number + 1 if resume is not None and same else 0
        if resume is not None and resume.epoch > stream.epoch:
            start = FROM_NOW
        self.ask(
            at.worker, "child_add", done, sub=child.slot, stream=at.slot, session=child.session,
            conv=child.conv, lane_want=child.lane | child.want << 8, **{"from": start},
        )  # fmt: skip


def track_format(track: Track) -> int:
    return KINDS[track.kind] | CODEC_CODES.get(track.codec, 0) << 8 | track.payload_type << 16


def track_mask(stream: Stream, sub: Sub) -> int:
    """One bit a track; all of them unless the subscriber names its tracks."""
    if sub.body.tracks is None:
        return 0xFFFF
    return sum(1 << number for number, track in enumerate(stream.tracks) if track.id in sub.body.tracks)
