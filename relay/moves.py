"""What leaves a lane under attack. Pure.

pulled      forget the parent's conversation ─▶ close here ─▶ slots there ─▶ ask again: `pull` names the other lane,
            and resumes after the last number that came here
published   the stream stays, its children leave (relay/shelters.py)
"""

from __future__ import annotations

from collections.abc import Mapping

from relay.assault import Assault
from relay.children import Children
from relay.desk import Desk
from relay.messages import From
from relay.mirrors import Mirrors
from relay.pulls import Pulls
from relay.shelters import Shelters
from relay.streams import Stream, Sub


class Moves:
    """Of one relay."""

    def __init__(self, desk: Desk, pulls: Pulls, children: Children, mirrors: Mirrors) -> None:
        self._desk, self._pulls, self._children = desk, pulls, children
        self.shelters = Shelters(desk, children, mirrors)
        self._assault = Assault(desk.conf.workers)

    def on_drops(self, worker: int, drops: Mapping[str, int], lost: int, now: int) -> None:
        """A worker's counters: drops by id, datagrams that the kernel dropped at its link socket."""
        begun = self._assault.look(worker, drops, lost, now)
        attacked = {lane for lane in range(self._desk.conf.workers) if self._assault.attacked(lane, now)}
        self._desk.placement.shun(worker, worker in attacked)
        self.shelters.tidy(attacked)
        sheltered = self.shelters.seek(worker, self._quiet(now), now) if worker in attacked else 0
        if not begun:
            return
        streams = [stream for stream in self._desk.streams if stream.worker == worker and stream.pull is not None]
        moved = sum(self._leave(stream, now) for stream in streams if stream.wanted)
        self._desk.alarm(
            "lane under attack",
            now,
            worker=worker,
            moved=moved,
            streams=len(streams),
            sheltered=sheltered,
            code="ZR1011",
        )

    def _quiet(self, now: int) -> list[int]:
        """Workers that are up and not attacked."""
        up = self._desk.workers.up
        return [worker for worker in range(len(up)) if up[worker] and not self._assault.attacked(worker, now)]

    def _leave(self, stream: Stream, now: int) -> bool:
        """False when there is nowhere to go: it stays where it is."""
        desk, old = self._desk, stream.worker
        targets = self._quiet(now)
        if not targets:
            return False
        self.shelters.end(stream)
        counts = [len(slots) for slots in desk.workers.streams]
        target = desk.placement.for_stream(counts, [w in targets for w in range(desk.conf.workers)])
        subs = self._room(stream, target)
        if subs is None:
            return False
        epoch, number = desk.progress(old, stream.slot) if stream.opened else (0, 0)
        self._children.gone_all(stream, "moved", forgotten=True)
        self._pulls.on_worker_lost(stream)
        desk.workers.close_stream(stream)
        desk.streams.move(stream, target, self._slot_there(stream, target))
        for sub, slot in subs:
            desk.workers.subs[old].give(sub.slot)
            sub.worker, sub.slot = target, slot
        desk.placement.joins(target, 0.0)
        assert stream.pull is not None
        if number > 0 and epoch == stream.epoch:
            stream.pull.resume = From(epoch, (number - 1) & 0xFFFFFFFF, stream.boot)
        desk.changed(stream)
        self._pulls.want(stream, now, stream.pull.below)
        return True

    def _room(self, stream: Stream, target: int) -> list[tuple[Sub, int]] | None:
        """Slots at `target` for the stream's own subscribers; None when not all of them, or not the stream, fit."""
        slots = self._desk.workers.subs[target]
        if self._desk.workers.streams[target].full and target not in stream.mirrors:
            return None
        found: list[tuple[Sub, int]] = []
        for sub in stream.subs.values():
            slot = slots.take() if sub.worker == stream.worker else None
            if slot is not None:
                found.append((sub, slot))
            elif sub.worker == stream.worker:
                for _, taken in found:
                    slots.give(taken)
                return None
        return found

    def _slot_there(self, stream: Stream, target: int) -> int:
        """The mirror's, when the stream has one there, else a fresh one; the old worker's is given back."""
        self._desk.workers.streams[stream.worker].give(stream.slot)
        mirror = stream.mirrors.pop(target, None)
        if mirror is not None:  # a slot that was closed rests: late events about it find nobody
            self._desk.workers.streams[target].give(mirror.slot)
        slot = self._desk.workers.streams[target].take()
        assert slot is not None
        return slot
