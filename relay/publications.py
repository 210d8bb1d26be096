"""Publishing: streams whose RTP comes in at this relay, their epochs and their ingress sockets. Pure.

    publish ─▶ ingress asked ─▶ open: address known ─▶ live ─▶ unpublish
                     ▲    └───▶ failed (no port, no descriptor) ──┐
                     └──────────────── a second later ────────────┘

An epoch fences publishers: the higher one wins, a lower one is refused, also after the stream has ended.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from relay.agenda import Agenda
from relay.desk import Desk
from relay.errors import Problem
from relay.requests import IngressAnswer, PublishAnswer, PublishRequest
from relay.sessions import SECOND
from relay.streams import Publication, Stream
from relay.units import Address
from relay.validation import check_publish

if TYPE_CHECKING:
    from relay.children import Children
    from relay.pulls import Pulls

MAX_PACKET_BYTES = 1500
INGRESS_RETRY_NS = SECOND


class Publications:
    """All publishers of one relay."""

    def __init__(self, desk: Desk, pulls: Pulls, children: Children) -> None:
        self._desk, self._pulls, self._children = desk, pulls, children
        self._by_ingress: dict[tuple[int, int], Stream] = {}
        self._retries: Agenda[Publication] = Agenda(lambda when, publication: publication.retry_at == when)

    # -- from the API -----------------------------------------------------------------------------------------------

    def publish(self, stream_id: str, body: PublishRequest) -> bool:
        """Publishes here; True when it was not published before. Raises 409 `stale-epoch`, 422, 429."""
        sources = check_publish(body, self._desk.conf.ingress_ip, self._desk.conf.ingress_ports)
        stream = self._desk.streams.get(stream_id)
        known = max(stream.epoch if stream is not None else 0, self._desk.ended.get(stream_id, (0, 0))[0])
        if body.epoch < known:
            raise _stale(body.epoch, known)
        publication = stream.publication if stream is not None else None
        if stream is not None and publication is not None:
            if publication.error is None and publication.body == body:
                return False
            if publication.error is None:
                if body.epoch == known:
                    raise Problem(
                        409, "stale-epoch", "This epoch is published with another body",
                        "raise the epoch to change a stream", extra={"current_epoch": known},
                    )  # fmt: skip
                self._raise_epoch(stream, publication, body, sources)
                return False
            self._withdraw(stream)
        return self._begin(stream_id, stream, body, sources)

    def unpublish(self, stream_id: str, epoch: int | None, now: int) -> None:
        """Also when it is not there. Raises 409 when a higher epoch is."""
        stream = self._desk.streams.get(stream_id)
        if stream is None or stream.publication is None:
            return
        if epoch is not None and epoch < stream.epoch:
            raise _stale(epoch, stream.epoch)
        self._withdraw(stream)
        if stream.wanted:
            self._pulls.want(stream, now)
        else:
            self._desk.remove_stream(stream)

    def settled(self, stream_id: str) -> bool:
        """The ingress socket is open, or cannot be, or the stream is gone."""
        stream = self._desk.streams.get(stream_id)
        publication = stream.publication if stream is not None else None
        return publication is None or publication.address is not None or publication.error is not None

    def answer(self, stream: Stream) -> PublishAnswer:
        """Raises 404 when it is not published here, 503 `ingress` when there is no socket for it."""
        publication = stream.publication
        if publication is None:
            raise Problem(404, "not-found", "Not published here", f"{stream.id}: it has ended; PUT it again")
        if publication.address is None:
            why = publication.error or "it is not open yet"
            detail = f"{why}: free a port, widen [ingress] ports, or PUT again later"
            raise Problem(503, "ingress", "No ingress socket", detail, retry_after_s=1)
        ingress = IngressAnswer(str(publication.address))
        return PublishAnswer(stream.id, stream.epoch, ingress, stream.worker, MAX_PACKET_BYTES)

    # -- sockets ----------------------------------------------------------------------------------------------------

    def on_open(self, worker: int, slot: int, address: Address | None, error: str | None, now: int) -> None:
        """The answer to OpenIngress. What did not open is asked for again: the publication is still wanted."""
        stream = self._by_ingress.get((worker, slot))
        publication = stream.publication if stream is not None else None
        if stream is None or publication is None or not stream.opened:
            if address is not None:  # unpublished meanwhile
                self._desk.workers.close_ingress(worker, slot)
            return
        if address is not None and publication.lost:
            return  # the supervisor opened it, the worker could not take it: the retry is set
        if address is None:
            if publication.error is None:
                self._desk.log(
                    "error", "ingress did not open, trying again", stream=stream.id, error=error, code="ZR1004"
                )
            publication.error = error or "it did not open"
            if publication.address is not None:
                publication.port, publication.address = publication.address.port, None
            publication.retry_at = now + INGRESS_RETRY_NS
            self._retries.add(publication.retry_at, publication)
        else:
            publication.address, publication.error, publication.retry_at = address, None, None
            self._desk.workers.bind_ingress(stream)
        self._desk.changed(stream)

    def on_lost(self, worker: int, slot: int, now: int) -> None:
        """The worker has no descriptor left for this socket. Its word may come before the supervisor's answer."""
        stream = self._by_ingress.get((worker, slot))
        if stream is None or stream.publication is None:
            return
        stream.publication.lost = True
        self.on_open(worker, slot, None, "the worker has no file descriptor left: raise its limit (ulimit -n)", now)

    def on_timer(self, now: int) -> None:
        for publication in self._retries.due(now):
            publication.retry_at, publication.lost = None, False
            stream = self._by_ingress.get((publication.worker, publication.ingress))
            if stream is not None and stream.publication is publication:
                self._desk.workers.open_ingress(stream)

    def deadline(self) -> int | None:
        return self._retries.deadline()

    def on_worker_lost(self, stream: Stream) -> None:
        """The socket is gone with its worker; the same port is opened again for the next one."""
        publication = stream.publication
        if publication is None:
            return
        self._desk.remember_number(stream)
        if publication.address is not None:
            publication.port = publication.address.port
        publication.address = publication.retry_at = None

    def at(self, worker: int, slot: int) -> Stream | None:
        """The stream behind an ingress slot."""
        return self._by_ingress.get((worker, slot))

    def ingress_of(self, stream_id: str) -> tuple[int, int]:
        """For tests: (worker, ingress slot) of a stream published here."""
        return next(at for at, stream in self._by_ingress.items() if stream.id == stream_id)

    # -- inside -----------------------------------------------------------------------------------------------------

    def _begin(self, stream_id: str, stream: Stream | None, body: PublishRequest, sources: tuple[Address, ...]) -> bool:
        desk = self._desk
        if stream is None:
            stream = desk.make_stream(stream_id, body.group)
        elif stream.pull is not None:  # it came from elsewhere until now
            if body.epoch == stream.epoch:
                desk.remember_number(stream)
            self._pulls.stop(stream)
        ingress = desk.workers.ingress[stream.worker].take() if stream is not None else None
        if stream is None or ingress is None:
            if stream is not None and not stream.wanted:
                desk.remove_stream(stream)
            raise desk.full("streams")
        if stream.opened:
            self._children.gone_all(stream, "epoch", forgotten=True)
            desk.workers.close_stream(stream)
        else:
            self._children.refuse_waiting(stream, "unknown", 100)
        epoch, number = desk.ended.pop(stream_id, (-1, 0))
        stream.number = number if epoch == body.epoch else stream.number if stream.epoch == body.epoch else 0
        stream.epoch, stream.tracks = body.epoch, tuple(body.tracks)
        stream.boot = desk.conf.boot_id
        stream.publication = Publication(body, stream.worker, ingress, sources, body.ingress.port)
        self._by_ingress[stream.worker, ingress] = stream
        desk.workers.open_stream(stream)
        desk.changed(stream)
        return True

    def _raise_epoch(
        self, stream: Stream, publication: Publication, body: PublishRequest, sources: tuple[Address, ...]
    ) -> None:
        self._children.gone_all(stream, "epoch", forgotten=True)
        moved = body.ingress.port not in (0, publication.address.port if publication.address else publication.port)
        stream.epoch, stream.number, stream.tracks = body.epoch, 0, tuple(body.tracks)
        publication.body, publication.sources = body, sources
        if moved:
            publication.port = body.ingress.port
        if not stream.opened:
            return
        workers = self._desk.workers
        workers.raise_epoch(stream)
        if moved:
            workers.close_ingress(stream.worker, publication.ingress)
            self._renumber(stream, publication)
            publication.address = None
            workers.open_ingress(stream)
        self._desk.changed(stream)

    def _renumber(self, stream: Stream, publication: Publication) -> None:
        """Another slot for the next socket: who dies before it read `ingress_close` leaves it to its successor.

        That one gets its sockets first, and would close the new one by the old number. With no slot free, it may.
        """
        slots = self._desk.workers.ingress[stream.worker]
        fresh = slots.take()
        if fresh is None:
            return
        del self._by_ingress[stream.worker, publication.ingress]
        slots.give(publication.ingress)
        publication.ingress = fresh
        self._by_ingress[stream.worker, fresh] = stream

    def _withdraw(self, stream: Stream) -> None:
        """The publication ends; subscribers stay and wait for another one, here or upstream."""
        publication = stream.publication
        assert publication is not None
        self._desk.remember_number(stream)
        self._desk.remember_ended(stream)
        self._children.gone_all(stream, "ended", forgotten=True)
        self._desk.workers.close_ingress(stream.worker, publication.ingress)
        self._desk.workers.close_stream(stream)
        del self._by_ingress[stream.worker, publication.ingress]
        self._desk.workers.ingress[stream.worker].give(publication.ingress)
        stream.publication = None
        self._desk.changed(stream)


def _stale(epoch: int, current: int) -> Problem:
    detail = f"epoch {epoch} < {current}: publish with a higher epoch to take the stream over"
    return Problem(409, "stale-epoch", "A newer publisher owns this stream", detail, extra={"current_epoch": current})
