"""Streams on more workers than their own: opened for the first subscriber that lands elsewhere, closed with the last.

    subscribe ─▶ place ─▶ enter: slot, records ─▶ target opens it ─▶ owner feeds it: `fed` ─▶ ... ─▶ leave

The target is asked first and the owner told when it has answered, so that no packet comes before its stream. Pure.
"""

from __future__ import annotations

from collections.abc import Callable

from relay.desk import Desk
from relay.streams import Mirror, Stream

Pps = Callable[[int, int], float]


class Mirrors:
    """All mirrors of one relay. `pps(worker, slot)`: packets a second of a stream; 0: not known."""

    def __init__(self, desk: Desk, pps: Pps) -> None:
        self._desk, self._pps = desk, pps

    def place(self, stream: Stream) -> int:
        """The worker for one more subscriber."""
        workers, own = self._desk.workers, stream.worker
        if not workers.up[own]:
            return own  # it waits there, as the stream does
        fits = [
            worker
            for worker in range(len(workers.up))
            if workers.up[worker]
            and not workers.subs[worker].full
            and (worker == own or worker in stream.mirrors or not workers.streams[worker].full)
        ]
        near = {*stream.mirrors, *(w for other in self._desk.streams.group(stream.group) for w in other.mirrors)}
        return self._desk.placement.for_sub(own, near, fits)

    def enter(self, stream: Stream, worker: int, *, whole: bool = False) -> bool:
        """Somebody comes to `worker`: the stream is there, or on its way. `whole`: for children, who may lack what is
        older than a key frame. False: no slot left for it."""
        placement, pps = self._desk.placement, self._pps(stream.worker, stream.slot) if stream.opened else 0.0
        placement.joins(worker, pps)
        if worker == stream.worker or worker in stream.mirrors:
            return True
        slot = self._desk.workers.streams[worker].take()
        if slot is None:
            return False
        mirror = stream.mirrors[worker] = Mirror(worker, slot, whole=whole)
        placement.joins(worker, pps)  # every packet is taken out there once, and put in here
        placement.joins(stream.worker, pps)
        self._desk.workers.open_mirror(stream, mirror)
        return True

    def leave(self, stream: Stream, worker: int) -> None:
        """A subscriber has left `worker`; the last one takes the mirror along, if no children are served by it."""
        mirror = stream.mirrors.get(worker)
        if mirror is None or stream.shelter == worker or any(sub.worker == worker for sub in stream.subs.values()):
            return
        self._desk.workers.close_mirror(stream, mirror)
        del stream.mirrors[worker]
        self._desk.workers.streams[worker].give(mirror.slot)

    def on_worker_up(self, worker: int) -> None:
        """A new process: the others may trust its rings again, and its mirrors of theirs are opened."""
        workers = self._desk.workers
        self._trust_again(worker)
        for stream in self._desk.streams:
            if worker in stream.mirrors:
                workers.open_mirror(stream, stream.mirrors[worker])

    def on_worker_moved(self, worker: int) -> None:
        """Another process holds the worker's streams and its mirrors of others', but feeds nobody, and owes answers."""
        workers = self._desk.workers
        self._trust_again(worker)
        for stream in self._desk.streams:
            for mirror in stream.mirrors.values():
                if stream.worker == worker and mirror.asked:
                    workers.feed_mirror(stream, mirror)
                elif mirror.worker == worker and mirror.opened and not mirror.asked:
                    workers.close_mirror(stream, mirror)
                    workers.open_mirror(stream, mirror)

    def _trust_again(self, worker: int) -> None:
        for other in range(len(self._desk.workers.up)):
            if other != worker:
                self._desk.workers.command(other, "peer_up", peer=worker)

    def on_worker_lost(self, worker: int) -> None:
        """Its mirrors of others' streams; those of its own streams go with them."""
        for stream in self._desk.streams:
            if worker in stream.mirrors:
                self._desk.workers.close_mirror(stream, stream.mirrors[worker])
