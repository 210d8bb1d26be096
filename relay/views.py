"""A stream as the API shows it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from relay.requests import StreamView
from relay.streams import Stream

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
