"""The way down: relays that pull streams from this one. Pure.

A child whose stream is here is added in the worker and answered when the worker has said where it starts. One whose
stream is not here waits for our own parent's answer, so that `pull_ok` means that the whole way stands.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from relay.desk import Desk
from relay.messages import WANTS, Gone, Keyframe, PullNo, PullOk, Tracks, Want, wire_tracks
from relay.messages import Pull as PullMessage
from relay.names import is_name
from relay.rates import Rates
from relay.streams import Child, Stream

if TYPE_CHECKING:
    from relay.pulls import Pulls

CHILDREN_PER_SESSION_MAX = 1024
HOPS_MAX = 8


class Children:
    """All children of one relay."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._by_conv: dict[tuple[int, int], Stream] = {}
        self._count: Counter[int] = Counter()  # by session
        self.rates = Rates(self._rate_of, self._tell_rate)
        self.pulls: Pulls  # set by Control: they know each other

    def on_pull(self, session: int, message: PullMessage, now: int) -> None:
        desk = self._desk
        peer = desk.sessions.peer_of(session)
        if peer is None:
            return
        key = (session, message.conv)
        known = self._by_conv.get(key)
        if known is not None:  # asked twice: the same answer again
            child = known.children[key]
            child.r = message.r
            if child.next is not None:
                self._answer(known, child)
            return
        code = self._refusal(session, peer, message)
        stream = desk.streams.get(message.stream)
        if code is None and (stream is None or not stream.confirmed):
            stream, code = self._wait_for(stream, peer, message)
        if code == "rights":
            desk.alarm("pull refused: rights", now, peer=peer, stream=message.stream, code="ZR1008")
        if code is not None or stream is None:
            code = code or "overload"
            instead = self._instead(desk.streams.get(message.stream), code)
            desk.send(session, PullNo(r=message.r, code=code, try_=instead))
            return
        resume = None if message.from_ is None else message.from_
        want = WANTS.get(message.want, 0)
        child = Child(peer, session, message.conv, message.lane, want, message.r, tuple(message.route), resume)
        stream.children[key] = child
        self._by_conv[key] = stream
        self._count[session] += 1
        if stream.confirmed:
            self._serve(stream, child)
        self.pulls.want(stream, now, child.route)

    def on_drop(self, session: int, conv: int, now: int) -> bool:
        """The child stops; False when there is no such child."""
        stream = self._by_conv.get((session, conv))
        if stream is None:
            return False
        self._remove(stream, (session, conv), forgotten=False)
        self.pulls.release(stream, now)
        return True

    def sessions(self) -> set[int]:
        """Those of relays that pull from here."""
        return {session for session, count in self._count.items() if count > 0}

    def on_stuck(self, worker: int, slot: int, now: int) -> None:
        """It acknowledges nothing: it is told that this conversation is gone, and may ask again."""
        for key, stream in list(self._by_conv.items()):
            child = stream.children[key]
            if (child.worker, child.slot) == (worker, slot):
                self._desk.log("warning", "child acknowledges nothing", peer=child.peer, stream=stream.id)
                self._desk.send(child.session, Gone(conv=child.conv, code="lost"))
                self._remove(stream, key, forgotten=False)
                self.pulls.release(stream, now)

    def on_want(self, session: int, message: Want) -> None:
        stream = self._by_conv.get((session, message.conv))
        if stream is None:
            return
        child = stream.children[session, message.conv]
        child.want = WANTS.get(message.want, 0)
        if child.slot is not None:
            self._desk.workers.command(child.worker, "child_want", sub=child.slot, want=child.want)

    def on_keyframe(self, session: int, message: Keyframe) -> None:
        stream = self._by_conv.get((session, message.conv))
        if stream is not None and message.track < len(stream.tracks):
            self._desk.workers.command(stream.worker, "keyframe", stream=stream.slot, track=message.track)

    def on_session_down(self, session: int, now: int) -> None:
        """The worker has forgotten them with the session."""
        for key, stream in [item for item in self._by_conv.items() if item[0][0] == session]:
            self._remove(stream, key, forgotten=True)
            self.pulls.release(stream, now)

    def on_rights(self, now: int) -> None:
        """They changed: who may not have a stream any more is told that it is gone, and its next pull is refused."""
        for (session, conv), stream in list(self._by_conv.items()):
            child = stream.children.get((session, conv))
            if child is None or self._desk.rights.may_pull(child.peer, stream.id):
                continue
            self._desk.alarm("child dropped: rights", now, peer=child.peer, stream=stream.id, code="ZR1008")
            if child.next is None:
                self._desk.send(session, PullNo(r=child.r, code="rights"))
            else:
                self._desk.send(session, Gone(conv=conv, code="lost"))
            self._remove(stream, (session, conv), forgotten=False)
            self.pulls.release(stream, now)

    def serve_waiting(self, stream: Stream) -> None:
        for child in list(stream.children.values()):
            if child.slot is None:
                self._serve(stream, child)

    def refuse_waiting(self, stream: Stream, code: str, retry_ms: int | None = None) -> None:
        for key, child in list(stream.children.items()):
            if child.next is None:
                self._desk.send(child.session, PullNo(r=child.r, code=code, retry_ms=retry_ms))
                self._remove(stream, key, forgotten=False)

    def gone_all(self, stream: Stream, code: str, *, forgotten: bool = False) -> None:
        """Every child is told; `forgotten`: the worker drops them by itself, with the epoch or the stream."""
        for key, child in list(stream.children.items()):
            if child.next is None:
                self._desk.send(child.session, PullNo(r=child.r, code="unknown", retry_ms=100))
            else:
                self._desk.send(child.session, Gone(conv=child.conv, code=code))
            self._remove(stream, key, forgotten=forgotten)

    def leave_lane(self, stream: Stream, worker: int, *, forgotten: bool = False) -> int:
        """Those that this worker serves ask again, and are served where the stream serves children now; how many."""
        there = [key for key, child in stream.children.items() if child.worker == worker and child.slot is not None]
        for key in there:
            child = stream.children[key]
            if child.next is None:
                self._desk.send(child.session, PullNo(r=child.r, code="unknown", retry_ms=100))
            else:
                self._desk.send(child.session, Gone(conv=child.conv, code="moved"))
            self._remove(stream, key, forgotten=forgotten)
        return len(there)

    def tell_tracks(self, stream: Stream) -> None:
        for child in stream.children.values():
            if child.next is not None:
                self._desk.send(child.session, Tracks(conv=child.conv, tracks=wire_tracks(stream.tracks)))

    def __len__(self) -> int:
        return len(self._by_conv)

    # -- inside -----------------------------------------------------------------------------------------------------

    def _rate_of(self, session: int) -> int:
        return self._desk.rights.max_rate_bps(self._desk.sessions.peer_of(session))

    def _tell_rate(self, worker: int, session: int, bps: int) -> None:
        self._desk.workers.command(worker, "session_rate", session=session, bps=bps)

    def _refusal(self, session: int, peer: str, message: PullMessage) -> str | None:
        desk = self._desk
        if desk.conf.relay_id in message.route:
            route = message.route
            desk.log("warning", "pull refused: loop", peer=peer, stream=message.stream, route=route, code="ZR1003")
            return "loop"
        if len(message.route) > HOPS_MAX:
            return "loop"  # media would die on the way
        if not is_name(message.stream):
            return "unknown"
        if not desk.rights.may_pull(peer, message.stream):
            return "rights"
        if self._count[session] >= CHILDREN_PER_SESSION_MAX:
            return "quota"
        stream = desk.streams.get(message.stream)
        if stream is not None and stream.pull is not None and peer in stream.pull.route:
            return "loop"  # we have it from the asker
        if stream is not None and desk.workers.overloaded(stream.worker):
            return "overload"
        return None

    def _instead(self, stream: Stream | None, code: str) -> list[str]:
        """Who may serve a child that does not fit here: our own parent."""
        parent = stream.pull.parent if stream is not None and stream.pull is not None else None
        return [parent.peer] if parent is not None and code in ("quota", "overload") else []

    def _wait_for(self, stream: Stream | None, peer: str, message: PullMessage) -> tuple[Stream | None, str | None]:
        """The stream to wait for, or why there is no point."""
        desk = self._desk
        asked = stream is not None and stream.pull is not None and any(a.peer == peer for a in stream.pull.attempts)
        if asked:
            return stream, "unknown"  # both ask each other: nobody has it
        probe = stream or Stream(message.stream, 0, 0)
        if not self.pulls.candidates(probe, tuple(message.route)):
            return stream, "unknown"
        return (stream, None) if stream is not None else (desk.make_stream(message.stream), None)

    def _serve(self, stream: Stream, child: Child) -> None:
        desk, at = self._desk, stream.serves_children
        if not desk.workers.up[at.worker] or not at.opened:
            return  # added when the worker is back
        child.worker = at.worker
        child.slot = desk.workers.subs[at.worker].take()
        key = (child.session, child.conv)
        if child.slot is not None:
            self.rates.joins(child.session, at.worker)
        desk.placement.joins(at.worker, 0.0)
        if child.slot is None:
            instead = self._instead(stream, "overload")
            desk.send(child.session, PullNo(r=child.r, code="overload", retry_ms=1000, try_=instead))
            self._remove(stream, key, forgotten=True)
            return

        def done(rc: int, value: int, now: int) -> None:
            if stream.children.get(key) is not child:
                return
            if rc < 0:
                desk.log("warning", "child refused by its worker", peer=child.peer, stream=stream.id, rc=rc)
                desk.send(child.session, PullNo(r=child.r, code="overload", retry_ms=200))
                self._remove(stream, key, forgotten=True)
                self.pulls.release(stream, now)
                return
            child.next = value
            self._answer(stream, child)

        desk.workers.add_child(stream, child, done)

    def _answer(self, stream: Stream, child: Child) -> None:
        assert child.next is not None
        above = stream.pull.route if stream.pull is not None else ()
        self._desk.send(
            child.session,
            PullOk(
                r=child.r, conv=child.conv, lane=child.worker, epoch=stream.epoch, tracks=wire_tracks(stream.tracks),
                next=child.next, route=[*above, self._desk.conf.relay_id], boot=stream.boot,
            ),
        )  # fmt: skip

    def _remove(self, stream: Stream, key: tuple[int, int], *, forgotten: bool) -> None:
        child = stream.children.pop(key)
        del self._by_conv[key]
        self._count[child.session] -= 1
        if not self._count[child.session]:
            del self._count[child.session]
        if child.slot is not None:
            if not forgotten:
                self._desk.workers.command(child.worker, "sub_drop", sub=child.slot)
            self._desk.workers.subs[child.worker].give(child.slot)
            self.rates.leaves(child.session, child.worker)
