"""Children of published streams that leave a lane under attack. Pure.

    look: attacked ─▶ a mirror on another worker ─▶ it is fed ─▶ children are told `gone: moved`, ask again, and the
                                                                 mirror's lane serves them

What is published stays on its worker, where its publisher's socket is. Its children need not: a mirror has the same
numbers, and a replay cache that begins with what the stream's own has. So whatever a child lacks when it asks again is
there. A mirror that was there before, for players, began with a key frame: it is given the time to have all that.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from relay.agenda import Agenda
from relay.children import Children
from relay.desk import Desk
from relay.mirrors import Mirrors
from relay.sessions import MS
from relay.streams import Stream

FED_NS = 20 * MS  # how often it is looked whether it is
OVERLAP_NS = 400 * MS  # longer nobody waits for a packet: what a child lacks is not older


@dataclass
class Coming:
    """The mirror at `target` is looked at next `at`, last at `until`."""

    target: int
    at: int
    until: int


class Shelters:
    """Of one relay; `Stream.shelter` says where the children are served."""

    def __init__(self, desk: Desk, children: Children, mirrors: Mirrors) -> None:
        self._desk, self._children, self._mirrors = desk, children, mirrors
        self._coming: dict[str, Coming] = {}  # by stream
        self._agenda: Agenda[str] = Agenda(lambda when, id: id in self._coming and self._coming[id].at == when)
        self._given: set[str] = set()  # streams that have one

    def seek(self, worker: int, targets: Collection[int], now: int) -> int:
        """A place on one of `targets` for the children that the attacked `worker` serves; for how many streams it was
        begun."""
        begun = 0
        for stream in self._desk.streams if targets else ():
            local = stream.publication is not None and stream.id not in self._coming
            if local and any(child.worker == worker and child.slot is not None for child in stream.children.values()):
                begun += self._begin(stream, worker, targets, now)
        return begun

    def _begin(self, stream: Stream, worker: int, targets: Collection[int], now: int) -> bool:
        desk = self._desk
        if stream.worker in targets:  # home: it has all there is
            self._settle(stream, None)
            return True
        counts = [len(slots) for slots in desk.workers.streams]
        target = desk.placement.for_stream(counts, [w in targets for w in range(len(counts))])
        wait_ns = OVERLAP_NS if target in stream.mirrors else FED_NS
        if desk.workers.subs[target].full or not self._mirrors.enter(stream, target, whole=True):
            return False
        self._await(stream, Coming(target, now + wait_ns, now + OVERLAP_NS))
        return True

    def _await(self, stream: Stream, coming: Coming) -> None:
        self._coming[stream.id] = coming
        self._agenda.add(coming.at, stream.id)

    def on_timer(self, now: int) -> None:
        for id in self._agenda.due(now):
            coming = self._coming.pop(id)
            stream = self._desk.streams.get(id)
            mirror = stream.mirrors.get(coming.target) if stream is not None else None
            if stream is None or mirror is None:
                continue
            if mirror.fed and stream.publication is not None:
                self._settle(stream, coming.target)
            elif mirror.opened and now < coming.until:
                self._await(stream, Coming(coming.target, now + FED_NS, coming.until))
            else:  # the next look tries again
                self._mirrors.leave(stream, coming.target)

    def deadline(self) -> int | None:
        return self._agenda.deadline()

    def tidy(self, attacked: Collection[int]) -> None:
        """Ends those that nobody is in any more, or whose stream comes from elsewhere now."""
        for id in list(self._given):
            stream = self._desk.streams.get(id)
            if stream is None or stream.shelter is None:
                self._given.discard(id)
            elif stream.publication is None or not (stream.children or stream.worker in attacked):
                self.end(stream)

    def end(self, stream: Stream) -> None:
        if stream.shelter is not None:
            self._settle(stream, None)

    def on_worker_moved(self, worker: int) -> None:
        """Another process: it has the mirrors, but none of the conversations."""
        for stream in self._in(worker):
            self._children.leave_lane(stream, worker)

    def on_worker_lost(self, worker: int) -> None:
        for stream in self._in(worker):
            self._children.leave_lane(stream, worker, forgotten=True)
            self._settle(stream, None)

    # -- inside -----------------------------------------------------------------------------------------------------

    def _settle(self, stream: Stream, shelter: int | None) -> None:
        """From now on children are served there, None: at home; those that are elsewhere ask again."""
        old = stream.serves_children.worker
        stream.shelter = shelter
        if shelter is not None:
            self._given.add(stream.id)
        self._children.leave_lane(stream, old)
        if old != stream.worker:
            self._mirrors.leave(stream, old)
        self._desk.changed(stream)

    def _in(self, worker: int) -> list[Stream]:
        found = (self._desk.streams.get(id) for id in self._given)
        return [stream for stream in found if stream is not None and stream.shelter == worker]
