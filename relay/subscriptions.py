"""Subscribing: players of streams, whether those are published here, pulled already, or yet to be pulled. Pure.

subscribe ─▶ a worker and a slot ─▶ the stream is pulled, if it is not here ─▶ unsubscribe ─▶ the last one: linger
"""

from __future__ import annotations

from relay.desk import Desk, missing_subscriber
from relay.mirrors import Mirrors
from relay.pulls import Pulls
from relay.requests import SubscribeAnswer, SubscribeRequest
from relay.streams import Stream, Sub
from relay.validation import check_subscribe


class Subscriptions:
    """All players of one relay."""

    def __init__(self, desk: Desk, pulls: Pulls, mirrors: Mirrors) -> None:
        self._desk, self._pulls, self._mirrors = desk, pulls, mirrors

    def subscribe(self, stream_id: str, sid: str, body: SubscribeRequest, now: int) -> bool:
        """An RTP subscriber; the first of a stream that is not here starts the pull. True: it is new. Raises 4xx."""
        stream = self._desk.streams.get(stream_id)
        default, by_track = check_subscribe(body, stream.tracks if stream is not None else (), self._desk.egress_allow)
        if stream is None:
            stream = self._desk.make_stream(stream_id)
        if stream is None:
            raise self._desk.full("streams")
        known = stream.subs.get(sid)
        if known is not None and known.body == body:
            return False
        if known is None and self._desk.workers.overloaded(stream.worker):
            self._pulls.release(stream, now)
            raise self._desk.overloaded()
        if known is not None:
            self._desk.workers.drop_sub(stream, known)
            worker, slot = known.worker, known.slot
        else:
            worker, slot = self._take_place(stream, now)
        sub = Sub(worker, slot, body, default, by_track)
        stream.subs[sid] = sub
        self._desk.workers.add_sub(stream, sub)
        self._pulls.want(stream, now)
        self._desk.changed(stream)
        return known is None

    def _take_place(self, stream: Stream, now: int) -> tuple[int, int]:
        """(worker, slot) of a new subscriber, its stream on the way there. Raises 429."""
        worker = self._mirrors.place(stream)
        slot = self._desk.workers.subs[worker].take()
        if slot is not None and self._mirrors.enter(stream, worker):
            return worker, slot
        if slot is not None:
            self._desk.workers.subs[worker].give(slot)
        self._pulls.release(stream, now)
        raise self._desk.full("subscribers")

    def unsubscribe(self, stream_id: str, sid: str, now: int) -> None:
        """Also when it is not there. The last one starts the linger."""
        stream = self._desk.streams.get(stream_id)
        sub = stream.subs.pop(sid, None) if stream is not None else None
        if stream is None or sub is None:
            return
        self._desk.workers.drop_sub(stream, sub)
        self._desk.workers.subs[sub.worker].give(sub.slot)
        self._mirrors.leave(stream, sub.worker)
        self._desk.changed(stream)
        self._pulls.release(stream, now)

    def answer(self, stream: Stream, sid: str) -> SubscribeAnswer:
        """Raises 404 when the subscriber is gone."""
        sub = stream.subs.get(sid)
        if sub is None:
            raise missing_subscriber(sid)
        reaches = stream.reaches(sub)
        return SubscribeAnswer("live" if reaches else "pulling", reaches, sub.worker)
