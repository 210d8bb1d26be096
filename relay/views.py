"""Streams with their subscribers, and links, as the API shows them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from relay.desk import missing_subscriber
from relay.errors import Problem
from relay.requests import StreamView
from relay.sessions import Peer
from relay.streams import Stream
from relay.tracks import Track
from relay.units import Address

BELOW = ("fan_sent", "nack_asked", "nack_served")  # counted where the subscriber is
StreamRow = Callable[[int, int], Mapping[str, int]]


def stream_view(stream: Stream, own: str, stream_row: StreamRow | None) -> StreamView:
    """`own`: this relay's id; `stream_row(worker, slot)` reads the counters."""
    pull = stream.pull
    above = pull.route if pull is not None else ()
    counters = dict(stream_row(stream.worker, stream.slot)) if stream_row is not None and stream.opened else {}
    for mirror in stream.mirrors.values():
        row = stream_row(mirror.worker, mirror.slot) if counters and stream_row is not None and mirror.opened else {}
        counters |= {name: counters[name] + row[name] for name in BELOW if name in row}
    return StreamView(
        id=stream.id, state=stream.state, epoch=stream.epoch,
        route=[*above, own] if stream.confirmed else [],
        parent=pull.parent.peer if pull is not None and pull.parent is not None else None,
        standby=None, tracks=list(stream.tracks), subscribers=len(stream.subs) + len(stream.children),
        counters=counters, stalls=counters.get("stalls", 0),
    )  # fmt: skip


def sdp_facts(stream: Stream, sid: str) -> tuple[Sequence[Track], Mapping[str, Address] | Address]:
    """(tracks, addresses) of one subscriber. Raises 404; 503 while the tracks are not known."""
    sub = stream.subs.get(sid)
    if sub is None:
        raise missing_subscriber(sid)
    if not stream.tracks:
        detail = "ask again when the subscriber is confirmed"
        raise Problem(503, "pulling", "The tracks are not known yet", detail, retry_after_s=1)
    tracks = [track for track in stream.tracks if sub.body.tracks is None or track.id in sub.body.tracks]
    return tracks, sub.by_track if sub.default is None else sub.default


@dataclass(frozen=True)
class LinkView:
    """A peer and where its session stands; `rtt_ms` is None until a control message was acknowledged."""

    peer: str
    state: str
    rtt_ms: float | None = None
    slot: int | None = None  # of the session, while there is one
    address: str | None = None  # the same
    closed_until: int = 0  # after too many violations; in the past: it is not closed


def link_view(peer: Peer, rtt_us: Mapping[int, int]) -> LinkView:
    """`rtt_us`: round trips by session slot, as the workers were told."""
    session = peer.session
    if session is None:
        return LinkView(peer.id, peer.state, closed_until=peer.closed_until)
    known = rtt_us.get(session.slot)
    rtt_ms = None if known is None else known / 1000
    return LinkView(peer.id, peer.state, rtt_ms, session.slot, str(session.address), peer.closed_until)
