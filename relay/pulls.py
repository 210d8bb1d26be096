"""The way up: asking parents for streams that are not published here. Pure.

    wanted ─▶ resolving ─▶ pulling ─▶ live ─▶ (lingering) ─▶ removed
      ▲           └──────────┴─▶ failed
      └──────── back-off, or a session comes up

One pull per stream: everybody who wants the stream joins it. All matching upstreams are asked together, the first that
answers wins, the others are sent `drop`. The conversation is opened when the answer is here, not when the question
leaves: what the parent sends before that is not acknowledged and comes again.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from relay.agenda import Agenda
from relay.desk import Desk
from relay.messages import Drop, From, Gone, Keyframe, PullNo, PullOk, Tracks, plain_tracks
from relay.messages import Pull as PullMessage
from relay.sessions import MS, SECOND
from relay.streams import Attempt, Pull, Stream
from relay.tracks import Track
from relay.validation import tracks_error

if TYPE_CHECKING:
    from relay.children import Children

ANSWER_NS = 5 * SECOND
BACKOFF_MIN_NS, BACKOFF_MAX_NS = 100 * MS, 5 * SECOND
KEYFRAME_NS = 500 * MS


class Pulls:
    """All pulls of one relay."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._by_r: dict[tuple[int, int], tuple[Stream, Attempt]] = {}
        self._by_conv: dict[tuple[int, int], Stream] = {}
        self._convs_used: dict[int, set[int]] = {}
        self._next_r = 0
        self._agenda: Agenda[tuple[Stream, Pull]] = Agenda(_still_due)
        self.children: Children  # set by Control: they know each other

    # -- wanting ----------------------------------------------------------------------------------------------------

    def want(self, stream: Stream, now: int, below: tuple[str, ...] = ()) -> None:
        """Somebody wants the stream: starts its pull, or joins the one there is."""
        if stream.publication is not None:
            return
        if stream.pull is None:
            stream.pull = Pull(below=below)
        pull = stream.pull
        pull.linger_until = None
        if pull.state == "failed" and below:
            pull.below = below
            self._retry(stream, now)
        elif pull.state == "wanted":
            self._resolve(stream, now)

    def release(self, stream: Stream, now: int) -> None:
        """Somebody left: without anybody a live pull lingers, any other is given up."""
        pull = stream.pull
        if stream.wanted or stream.publication is not None:
            return
        if pull is not None and pull.state == "live":
            if pull.linger_until is None:
                pull.linger_until = now + self._desk.conf.linger_ns
                self._agenda.add(pull.linger_until, (stream, pull))
                self._desk.changed(stream)
            return
        self.stop(stream)
        self._desk.remove_stream(stream)

    def stop(self, stream: Stream) -> None:
        """Tells the parent and everyone asked; the stream's pull is gone."""
        self._forget(stream, tell=True)
        stream.pull = None

    def candidates(self, stream: Stream, below: tuple[str, ...]) -> list[str]:
        """Upstreams that may have it: not those that are waiting for us, nor those that pull it from us."""
        listed = [up.peer for up in self._desk.conf.upstreams if stream.id.startswith(up.prefix)]
        return self._allowed(stream, below, listed)

    def _allowed(self, stream: Stream, below: tuple[str, ...], peers: Iterable[str]) -> list[str]:
        may_publish = self._desk.rights.may_publish
        never = {*below, self._desk.conf.relay_id, *(child.peer for child in stream.children.values())}
        return [peer for peer in dict.fromkeys(peers) if peer not in never and may_publish(peer, stream.id)]

    # -- answers and reports ----------------------------------------------------------------------------------------

    def on_ok(self, session: int, message: PullOk, now: int) -> None:
        found = self._by_r.get((session, message.r))
        if found is None or found[1].conv != message.conv:
            if self._by_conv.get((session, message.conv)) is None:
                self._desk.send(session, Drop(conv=message.conv))
            return
        stream, attempt = found
        tracks = plain_tracks(message.tracks)
        stale = message.epoch < stream.epoch or self._desk.conf.relay_id in message.route
        if stale or tracks_error(tracks) is not None:
            self._desk.send(session, Drop(conv=message.conv))
            self._refused(stream, attempt, now)
            return
        pull = stream.pull
        assert pull is not None
        pull.attempts.remove(attempt)
        del self._by_r[session, attempt.r]
        self._forget(stream, tell=True)
        pull.parent, pull.route = attempt, tuple(message.route)
        pull.set_state("live")
        pull.retry_at = pull.give_up_at = None
        pull.backoff_ns = 0
        pull.keyframe_at.clear()
        pull.resume = None
        workers = self._desk.workers
        if stream.opened and message.epoch == stream.epoch and message.boot == stream.boot:
            self._new_tracks(stream, tracks)
        else:
            raised = stream.opened and message.epoch > stream.epoch
            if stream.opened:
                self.children.gone_all(stream, "epoch" if raised else "moved", forgotten=True)
            if not raised:  # never open, or the same epoch from an origin that began to count anew
                workers.close_stream(stream)
            stream.epoch, stream.boot, stream.number = message.epoch, message.boot, message.next
            stream.tracks = tracks
            if raised:
                workers.raise_epoch(stream)
            else:
                workers.open_stream(stream)
        workers.command(
            stream.worker, "pull_start", stream=stream.slot, session=session, conv=attempt.conv, lane=message.lane
        )
        self._desk.changed(stream)
        self.children.serve_waiting(stream)
        self.release(stream, now)

    def on_no(self, session: int, message: PullNo, now: int) -> None:
        """The relays it names instead are asked too, once; `retry_ms` stretches the back-off."""
        found = self._by_r.get((session, message.r))
        if found is None:
            return
        stream, attempt = found
        pull = stream.pull
        assert pull is not None
        for peer in self._allowed(stream, pull.below, message.try_):
            other = self._desk.sessions.slot_of(peer)
            if other is not None and peer not in pull.asked:
                pull.attempts.append(self._ask(stream, peer, other))
        wait_ns = min((message.retry_ms or 0) * MS, BACKOFF_MAX_NS)
        pull.backoff_ns = max(pull.backoff_ns, wait_ns // 2)  # doubled when it fails
        self._refused(stream, attempt, now)

    def on_gone(self, session: int, message: Gone, now: int) -> None:
        stream = self._by_conv.get((session, message.conv))
        if stream is None or stream.pull is None or stream.pull.parent is None:
            return
        pull = stream.pull
        self._forget(stream, tell=False)
        if message.code == "ended":
            self.children.gone_all(stream, "ended")
            self._fail(stream, "unknown", now)
        else:
            pull.set_state("wanted")
            self._desk.changed(stream)
            self._resolve_or_leave(stream, now)

    def on_tracks(self, session: int, message: Tracks, now: int) -> None:
        stream = self._by_conv.get((session, message.conv))
        tracks = plain_tracks(message.tracks)
        if stream is not None and tracks_error(tracks) is None:
            self._new_tracks(stream, tracks)

    def on_dropped(self, session: int, conv: int, now: int) -> None:
        """The other side does not know a conversation that we think it sends on."""
        self.on_gone(session, Gone(conv=conv, code="lost"), now)

    def on_conv_unknown(self, session: int, conv: int) -> None:
        """A worker hears a conversation that is not open: unless its opening is under way, the sender shall stop."""
        if (session, conv) not in self._by_conv and self._desk.sessions.peer_of(session) is not None:
            self._desk.send(session, Drop(conv=conv))

    def on_keyframe(self, stream: Stream, track: int, now: int) -> None:
        """One request per track is outstanding; asked again after 500 ms."""
        pull = stream.pull
        if pull is None or pull.parent is None or now < pull.keyframe_at.get(track, 0):
            return
        pull.keyframe_at[track] = now + KEYFRAME_NS
        self._desk.send(pull.parent.session, Keyframe(conv=pull.parent.conv, track=track))

    def on_session_up(self, peer: str, now: int) -> None:
        for stream in self._desk.streams:
            pull = stream.pull
            idle = pull is not None and pull.state in ("resolving", "failed")
            if pull is not None and idle and peer in self.candidates(stream, pull.below):
                self._retry(stream, now)

    def on_session_silent(self, session: int, now: int) -> None:
        """What comes from there is asked for elsewhere, if there is an elsewhere. Else the conversation stays: it goes
        on at the first datagram that comes through."""
        for stream in self._desk.streams:
            pull = stream.pull
            if pull is None or pull.parent is None or pull.parent.session != session:
                continue
            others = (self._desk.sessions.slot_of(peer) for peer in self.candidates(stream, pull.below))
            if any(slot is not None for slot in others):
                self._forget(stream, tell=True)
                self._retry(stream, now)

    def sessions(self) -> set[int]:
        """Those that streams are pulled from, or asked of."""
        return {session for session, _ in self._by_conv}

    def on_session_down(self, session: int, now: int) -> None:
        self._convs_used.pop(session, None)
        for stream in self._desk.streams:
            pull = stream.pull
            if pull is None:
                continue
            if pull.parent is not None and pull.parent.session == session:
                self._forget(stream, tell=False)
                pull.set_state("wanted")
                self._desk.changed(stream)
                self._resolve_or_leave(stream, now)
                continue
            for attempt in [attempt for attempt in pull.attempts if attempt.session == session]:
                self._refused(stream, attempt, now)

    def on_rights(self, now: int) -> None:
        """They changed: a parent that may not give us the stream any more is left, others are asked."""
        for stream in list(self._desk.streams):
            pull = stream.pull
            parent = pull.parent if pull is not None else None
            if pull is not None and parent is not None and not self._desk.rights.may_publish(parent.peer, stream.id):
                self._forget(stream, tell=True)
                pull.set_state("wanted")
                self._desk.changed(stream)
                self._resolve_or_leave(stream, now)

    def on_worker_lost(self, stream: Stream) -> None:
        """The conversation ended with the worker; asked again when there is a new one."""
        pull = stream.pull
        if pull is not None:
            self._forget(stream, tell=True)
            pull.retry_at = None
            if pull.state != "wanted":
                pull.set_state("wanted")

    def on_worker_moved(self, stream: Stream, now: int) -> None:
        """As above, but the stream is still open there: asked again at once, from where it stopped."""
        pull = stream.pull
        if pull is not None and pull.state not in ("wanted", "failed"):
            self._forget(stream, tell=True)
            self._retry(stream, now)

    def on_timer(self, now: int) -> None:
        for stream, pull in self._agenda.due(now):
            if pull.linger_until is not None and now >= pull.linger_until:
                self.stop(stream)
                self._desk.remove_stream(stream)
            elif pull.give_up_at is not None and now >= pull.give_up_at:
                self._forget(stream, tell=True)
                self._fail(stream, "unknown", now)
            else:
                self._retry(stream, now)

    def deadline(self) -> int | None:
        return self._agenda.deadline()

    # -- inside -----------------------------------------------------------------------------------------------------

    def _resolve_or_leave(self, stream: Stream, now: int) -> None:
        if stream.wanted:
            self._resolve(stream, now)
        else:
            self.release(stream, now)

    def _retry(self, stream: Stream, now: int) -> None:
        assert stream.pull is not None
        stream.pull.retry_at = stream.pull.give_up_at = None
        stream.pull.set_state("wanted")
        self._resolve(stream, now)

    def _resolve(self, stream: Stream, now: int) -> None:
        pull, desk = stream.pull, self._desk
        assert pull is not None
        if not desk.workers.up[stream.worker]:
            return  # on_worker_up comes back to it
        pull.set_state("resolving")
        pull.asked.clear()
        candidates = self.candidates(stream, pull.below)
        for peer in candidates:
            session = desk.sessions.slot_of(peer)
            if session is not None:
                pull.attempts.append(self._ask(stream, peer, session))
        if not candidates:
            self._fail(stream, "unknown", now)
            return
        pull.give_up_at = now + ANSWER_NS
        self._agenda.add(pull.give_up_at, (stream, pull))
        if pull.attempts:  # else: the first session that comes up is asked at once
            pull.set_state("pulling")
        desk.changed(stream)

    def _ask(self, stream: Stream, peer: str, session: int) -> Attempt:
        desk, pull = self._desk, stream.pull
        assert pull is not None
        self._next_r = (self._next_r + 1) & 0xFFFFFFFF
        attempt = Attempt(peer, session, self._new_conv(peer, session), self._next_r)
        pull.asked.add(peer)
        self._by_r[session, attempt.r] = (stream, attempt)
        self._by_conv[session, attempt.conv] = stream
        resume = pull.resume
        if stream.opened:
            epoch, number = desk.progress(stream.worker, stream.slot)
            if epoch == stream.epoch and number > 0:
                resume = From(epoch, (number - 1) & 0xFFFFFFFF, stream.boot)
        route = [desk.conf.relay_id, *pull.below]
        conv, lane = attempt.conv, stream.worker
        desk.send(session, PullMessage(r=attempt.r, stream=stream.id, conv=conv, lane=lane, route=route, from_=resume))
        return attempt

    def _new_conv(self, peer: str, session: int) -> int:
        used = self._convs_used.setdefault(session, set())
        while True:
            conv = self._desk.rng.getrandbits(32) & ~1 | int(self._desk.conf.relay_id > peer)
            if conv > 1 and conv not in used:
                used.add(conv)
                return conv

    def _refused(self, stream: Stream, attempt: Attempt, now: int) -> None:
        pull = stream.pull
        assert pull is not None
        del self._by_r[attempt.session, attempt.r]
        del self._by_conv[attempt.session, attempt.conv]
        pull.attempts.remove(attempt)
        if not pull.attempts:
            self._fail(stream, "unknown", now)

    def _fail(self, stream: Stream, code: str, now: int) -> None:
        """Nobody has it now. Whoever waits below is told; subscribers here wait for the back-off."""
        pull = stream.pull
        assert pull is not None
        pull.set_state("failed")
        pull.below = ()
        pull.give_up_at = None
        pull.linger_until = None
        pull.backoff_ns = min(max(pull.backoff_ns * 2, BACKOFF_MIN_NS), BACKOFF_MAX_NS)
        pull.retry_at = now + int(pull.backoff_ns * self._desk.rng.uniform(1.0, 1.5))
        self._agenda.add(pull.retry_at, (stream, pull))
        self.children.refuse_waiting(stream, code, pull.backoff_ns // MS)
        self.children.gone_all(stream, "lost")  # served before the parent was lost: ask again
        self._desk.changed(stream)
        self.release(stream, now)

    def _forget(self, stream: Stream, *, tell: bool) -> None:
        """Closes the parent's conversation and every question; `tell`: the other side is told."""
        pull, desk = stream.pull, self._desk
        if pull is None:
            return
        for attempt in pull.attempts:
            del self._by_r[attempt.session, attempt.r]
            del self._by_conv[attempt.session, attempt.conv]
            if tell:
                desk.send(attempt.session, Drop(conv=attempt.conv))
        pull.attempts.clear()
        pull.give_up_at = None
        parent = pull.parent
        if parent is not None:
            pull.parent, pull.route = None, ()
            del self._by_conv[parent.session, parent.conv]
            if stream.opened:
                desk.workers.command(stream.worker, "pull_stop", session=parent.session, conv=parent.conv)
            if tell:
                desk.send(parent.session, Drop(conv=parent.conv))

    def _new_tracks(self, stream: Stream, tracks: tuple[Track, ...]) -> None:
        if tracks == stream.tracks:
            return
        stream.tracks = tracks
        self._desk.workers.set_tracks(stream)
        self._desk.workers.again_subs(stream)
        self.children.tell_tracks(stream)
        self._desk.changed(stream)


def _still_due(when: int, item: tuple[Stream, Pull]) -> bool:
    stream, pull = item
    return stream.pull is pull and when in (pull.linger_until, pull.give_up_at, pull.retry_at)
