"""The control plane of one relay: sessions, streams, pulls and children behind one pure surface.

    on_datagram  on_message  on_heard  on_event  on_worker_*  on_ingress_open  on_timer     in, each with `now` (ns)
    publish  unpublish  subscribe  unsubscribe  keyframe                                    in, from the API
    drain() -> actions                                                                      out, to be done in order
    deadline() -> when on_timer wants to be called

It holds the desired state and owns every slot number. A worker that was replaced gets all of it again.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from relay import actions
from relay.children import Children
from relay.commands import Event
from relay.desk import ControlConf, Desk, Progress, Upstream, missing_stream
from relay.identity import Identity
from relay.lanes import Lanes
from relay.links import Links, report_of
from relay.messages import (
    Drop,
    Gone,
    Have,
    Keyframe,
    Pull,
    PullNo,
    PullOk,
    Report,
    Tracks,
    Unknown,
    Unsupported,
    Violation,
    Want,
    decode_message,
)
from relay.mirrors import Mirrors, Pps
from relay.moves import Moves
from relay.peers import Peer
from relay.publications import Publications
from relay.pulls import Pulls
from relay.requests import PublishAnswer, PublishRequest, StreamView, SubscribeAnswer, SubscribeRequest
from relay.sessions import SessionDown, SessionHeard, SessionSilent, SessionUp
from relay.streams import Stream
from relay.subscriptions import Subscriptions
from relay.tracks import Track
from relay.trust import Trust
from relay.units import Address
from relay.views import LinkView, StreamRow, link_view, sdp_facts, stream_view

__all__ = ["Control", "ControlConf", "Peer", "Upstream", "actions"]


class Control:
    """One relay's control plane. `progress(worker, slot)` reads (epoch, resume number) of a stream, `pps(worker, slot)`
    its packets a second, 0 when that is not known."""

    def __init__(
        self, conf: ControlConf, rng: random.Random, *, progress: Progress, pps: Pps = lambda worker, slot: 0.0
    ) -> None:
        self._desk = Desk(conf, rng, progress)
        self._sessions = self._desk.sessions
        self._streams = self._desk.streams
        self._workers = self._desk.workers
        self._pulls = Pulls(self._desk)
        self._children = Children(self._desk)
        self._pulls.children, self._children.pulls = self._children, self._pulls
        self._publications = Publications(self._desk, self._pulls, self._children)
        self._mirrors = Mirrors(self._desk, pps)
        self._subscriptions = Subscriptions(self._desk, self._pulls, self._mirrors)
        self._moves = Moves(self._desk, self._pulls, self._children, self._mirrors)
        self._trust = Trust(self._desk)
        self._lanes = Lanes(self._desk)
        self.linked = Links()

    # -- life and time ----------------------------------------------------------------------------------------------

    def start(self, now: int) -> None:
        self._sessions.start(now)

    def on_timer(self, now: int) -> None:
        self._sessions.on_timer(now)
        self._take_sessions(now)
        self._pulls.on_timer(now)
        self._publications.on_timer(now)
        self._moves.shelters.on_timer(now)

    def deadline(self) -> int | None:
        parts = (self._sessions, self._pulls, self._publications, self._moves.shelters)
        times = (part.deadline() for part in parts)
        return min((time for time in times if time is not None), default=None)

    def drain(self) -> list[actions.Action]:
        """What to do now, in this order."""
        self._desk.actions.extend(self._sessions.actions)
        self._sessions.actions.clear()
        drained = list(self._desk.actions)
        self._desk.actions.clear()
        return drained

    # -- peers ------------------------------------------------------------------------------------------------------

    def on_datagram(self, data: bytes, source: Address, now: int) -> str | None:
        """A hello or an answer; returns the drop word when it is refused."""
        word = self._sessions.on_datagram(data, source, now)
        self._take_sessions(now)
        return word

    def on_heard(self, slot: int, now: int) -> None:
        """The agent's lane last heard this session at `now`."""
        self._sessions.on_heard(slot, now)
        self._take_sessions(now)

    def on_rtt(self, slot: int, rtt_us: int) -> None:
        """The agent's lane measures this round trip; the workers are told when it moved by an eighth."""
        self._lanes.on_rtt(slot, rtt_us)

    def on_link(self, slot: int, view: Mapping[str, Any], now: int) -> None:
        """The lane's probes have news of this session: struct zr_probe_view."""
        if self._sessions.peer_of(slot) is None:
            return
        self._sessions.on_alive(slot, view["up"], now)
        self._lanes.on_address(slot, Address.unpack(view["addr"]), now)
        self._take_sessions(now)
        self._lanes.on_mtu(slot, view["mtu"])
        if view["ask"]:
            self._lanes.ask_heard(slot, self.on_heard)

    def carrying(self) -> set[int]:
        """Slots of the sessions that carry streams, either way."""
        return self._pulls.sessions() | self._children.sessions()

    def reset_session(self, slot: int, now: int) -> None:
        """Its control messages do not get through: the peer and we begin again."""
        self._sessions.reset(slot, now)
        self._take_sessions(now)

    def set_peers(self, peers: Sequence[Peer], now: int) -> None:
        """All peers anew: who is not among them loses its session, and whatever goes beyond somebody's rights ends."""
        self._trust.set_peers(peers, now)
        self._take_sessions(now)
        self._lanes.tell_paths_again()
        self._children.on_rights(now)
        self._children.rates.again()
        self._pulls.on_rights(now)

    def set_identity(self, identity: Identity) -> None:
        """Our own keys from now on: sessions go on with those they have."""
        self._sessions.set_identity(identity)

    def on_violations(self, slot: int, count: int, now: int) -> None:
        """The peer broke the protocol so often since the last time: too many in a while close the link."""
        self._trust.on_violations(slot, count, now)
        self._take_sessions(now)

    def on_confirmed(self, slot: int, index: int, now: int) -> None:
        """The agent's lane sends under the keys of this receive index: the peer has them."""
        self._sessions.on_confirmed(slot, index, now)
        self._take_sessions(now)

    def discard_sessions(self, now: int) -> None:
        """This machine was forked, cloned or resumed (CLOCK_BOOTTIME jumped): no key of before is used again."""
        self._sessions.discard_all(now)
        self._take_sessions(now)

    def on_rekey(self, slot: int, why: int, now: int) -> None:
        """A lane wants new keys for the session; `why` as in the worker's event `rekey`."""
        self._sessions.on_rekey(slot, why, now)
        self._take_sessions(now)

    def on_message(self, slot: int, payload: bytes, now: int) -> str | None:
        """One control message; returns the drop word of a violation, which counts against the peer."""
        word = self._hear(slot, payload, now)
        if word is not None:
            self.on_violations(slot, 1, now)
        return word

    def _hear(self, slot: int, payload: bytes, now: int) -> str | None:
        if self._sessions.peer_of(slot) is None:
            return None
        self.on_heard(slot, now)  # before what it says: it may be what brings the session up
        try:
            message = decode_message(payload)
        except Violation as violation:
            return violation.word
        match message:
            case Pull():
                self._children.on_pull(slot, message, now)
            case PullOk():
                self._pulls.on_ok(slot, message, now)
            case PullNo():
                self._pulls.on_no(slot, message, now)
            case Want():
                self._children.on_want(slot, message)
            case Drop(conv=conv):
                if not self._children.on_drop(slot, conv, now):
                    self._pulls.on_dropped(slot, conv, now)
            case Gone():
                self._pulls.on_gone(slot, message, now)
            case Tracks():
                self._pulls.on_tracks(slot, message, now)
            case Keyframe():
                self._children.on_keyframe(slot, message)
            case Unknown(of=of, r=r):
                self._desk.send(slot, Unsupported(of=of, r=r))
            case Have(streams=streams):
                return self._trust.check_have(slot, streams, now)
            case Report(links=links):
                return self._on_report(slot, links, now)
            case _:  # goaway: nobody acts on it yet; unsupported: never answered
                pass
        return None

    def _on_report(self, slot: int, links: msgspec.Raw, now: int) -> str | None:
        """What a peer says of its own links; nobody can speak for another."""
        peer = self._sessions.peer_of(slot)
        try:
            said = msgspec.msgpack.decode(links)
        except (msgspec.MsgspecError, UnicodeDecodeError, ValueError, TypeError, RecursionError):
            return "report"
        if peer is None or said is None:
            return None
        return self.linked.on_report(peer, said, now)

    def report(self, views: Mapping[str, Mapping[str, Any]]) -> None:
        """Tells every peer what our own links are like."""
        said = msgspec.Raw(msgspec.msgpack.encode(report_of(views)))
        for peer in views:
            slot = self._sessions.slot_of(peer)
            if slot is not None:
                self._desk.send(slot, Report(links=said))

    def _take_sessions(self, now: int) -> None:
        """Sessions came or went: the lanes learn it, then the streams."""
        events = list(self._sessions.events)
        self._sessions.events.clear()
        self._lanes.take(now)
        for event in events:
            if isinstance(event, SessionUp):
                self._pulls.on_session_up(event.peer, now)
            elif isinstance(event, SessionSilent):
                self._desk.log("warning", "peer is silent", peer=event.peer, code="ZR1008")
                self._pulls.on_session_silent(event.slot, now)
            elif isinstance(event, SessionHeard):
                self._desk.log("info", "peer is heard again", peer=event.peer)
                self._lanes.kick(event.slot)
                self._pulls.on_session_up(event.peer, now)
            elif isinstance(event, SessionDown):
                self._children.on_session_down(event.slot, now)
                self._pulls.on_session_down(event.slot, now)

    # -- workers ----------------------------------------------------------------------------------------------------

    def on_lane_epoch(self, worker: int, epoch: int, now: int) -> None:
        """Whoever is this worker from now on sends with this epoch. A session's peer takes only higher ones: when they
        begin anew after 65535, so do all sessions, by new handshakes."""
        if epoch < self._workers.epoch[worker]:
            self._desk.log("info", "lane epochs begin anew", worker=worker)
            self.discard_sessions(now)
        self._workers.epoch[worker] = epoch

    def on_worker_up(self, worker: int, now: int) -> None:
        """It knows nothing: sessions, then streams, then what was waiting for it."""
        if self._workers.up[worker]:
            self.on_worker_lost(worker, now)
        self._workers.up[worker] = True
        self._lanes.tell_all(worker, now)
        for stream in self._streams:
            if stream.worker != worker:
                continue
            if stream.publication is not None:
                self._workers.open_stream(stream)
                self._children.serve_waiting(stream)
            elif stream.wanted:
                self._pulls.want(stream, now)
        self._mirrors.on_worker_up(worker)

    def on_load(self, worker: int, busy_ns: int, pairs: int, now: int) -> None:
        """A worker's counters, about once a second: time in turns that did work, (packet, subscriber) pairs sent."""
        self._desk.placement.measured(worker, busy_ns, pairs, now)

    def on_drops(self, worker: int, drops: Mapping[str, int], lost: int, now: int) -> None:
        """A worker's counters, a few times a second: what its lane refused, by id, and what the kernel dropped."""
        self._moves.on_drops(worker, drops, lost, now)

    def on_worker_moved(self, worker: int, now: int) -> None:
        """Another process is this worker; it holds streams, tracks, ingress and players, and no conversation."""
        if not self._workers.up[worker]:
            self.on_worker_up(worker, now)
            return
        self._workers.forget_answers(worker)
        self._workers.close_again(worker)
        self._lanes.tell_all(worker, now)
        for stream in self._streams:
            if stream.worker == worker:
                self._children.gone_all(stream, "moved")
                self._pulls.on_worker_moved(stream, now)
        self._moves.shelters.on_worker_moved(worker)
        self._mirrors.on_worker_moved(worker)

    def on_worker_lost(self, worker: int, now: int) -> None:
        """Its streams are wanted as before; children pull again, from the worker that comes next."""
        for stream in self._streams:
            if stream.worker != worker:
                continue
            self._publications.on_worker_lost(stream)
            if stream.opened:
                self._children.gone_all(stream, "moved", forgotten=True)
            self._pulls.on_worker_lost(stream)
            self._workers.close_stream(stream)
            self._desk.changed(stream)
        self._moves.shelters.on_worker_lost(worker)
        self._mirrors.on_worker_lost(worker)
        self._workers.lost(worker)
        for stream in self._streams:
            if stream.worker == worker:
                self._pulls.release(stream, now)

    def on_event(self, worker: int, event: Event, now: int) -> None:
        """What a worker reports."""
        fields = event.fields
        match event.op:
            case "done":
                self._workers.on_done(worker, event.seq, event.rc, fields["value"], now)
            case "keyframe":
                stream = self._streams.at(worker, fields["stream"])
                if stream is not None:
                    self._pulls.on_keyframe(stream, fields["track"], now)
            case "violations":
                self.on_violations(fields["session"], fields["count"], now)
            case "rekey":
                self.on_rekey(fields["session"], fields["why"], now)
            case "conv_unknown":
                self._pulls.on_conv_unknown(fields["session"], fields["conv"])
            case "stream_live":
                stream = self._streams.at(worker, fields["stream"])
                if stream is not None:
                    self._desk.changed(stream)
            case "overload":
                before, level = self._workers.level[worker], fields["level"]
                self._workers.level[worker] = level
                if level != before:
                    self._desk.log("warning" if level else "info", "overload", worker=worker, overload_level=level)
            case "child_stuck":
                self._children.on_stuck(worker, fields["sub"], now)
            case "ingress_lost":
                self._publications.on_lost(worker, fields["ingress"], now)
            case "source_locked" | "source_lost":
                stream = self._publications.at(worker, fields["ingress"])
                if stream is not None:
                    event_name = event.op.replace("_", " ")
                    self._desk.log("info", event_name, stream=stream.id, track=fields["track"], source=str(event.addr))

    def on_ingress_open(self, worker: int, slot: int, address: Address | None, error: str | None, now: int) -> None:
        """The answer to OpenIngress."""
        self._publications.on_open(worker, slot, address, error, now)

    # -- publishing -------------------------------------------------------------------------------------------------

    def publish(self, stream_id: str, body: PublishRequest, now: int) -> bool:
        """Publishes here; True when it was not published before. Raises 409 `stale-epoch`, 422, 429."""
        return self._publications.publish(stream_id, body)

    def unpublish(self, stream_id: str, epoch: int | None, now: int) -> None:
        """Also when it is not there. Raises 409 when a higher epoch is."""
        self._publications.unpublish(stream_id, epoch, now)

    def publish_settled(self, stream_id: str) -> bool:
        """The ingress socket is open, or cannot be, or the stream is gone."""
        return self._publications.settled(stream_id)

    def publish_answer(self, stream_id: str) -> PublishAnswer:
        """Raises 404 when it is gone, 503 `ingress` when there is no socket for it."""
        return self._publications.answer(self._get(stream_id))

    # -- subscribing ------------------------------------------------------------------------------------------------

    def subscribe(self, stream_id: str, sid: str, body: SubscribeRequest, now: int) -> bool:
        """An RTP subscriber; the first of a stream that is not here starts the pull. True: it is new. Raises 4xx."""
        return self._subscriptions.subscribe(stream_id, sid, body, now)

    def unsubscribe(self, stream_id: str, sid: str, now: int) -> None:
        """Also when it is not there. The last one starts the linger."""
        self._subscriptions.unsubscribe(stream_id, sid, now)

    def subscribe_answer(self, stream_id: str, sid: str) -> SubscribeAnswer:
        """Raises 404 when the subscriber is gone."""
        return self._subscriptions.answer(self._get(stream_id), sid)

    def sdp_facts(self, stream_id: str, sid: str) -> tuple[Sequence[Track], Mapping[str, Address] | Address, str]:
        """(tracks, addresses, origin ip) of one subscriber. Raises 404; 503 while the tracks are not known."""
        return (*sdp_facts(self._get(stream_id), sid), self._desk.conf.ingress_ip)

    def keyframe(self, stream_id: str, now: int) -> None:
        """Asks for a key frame of every video track; the worker merges. Raises 404."""
        self._workers.want_keyframes(self._get(stream_id))

    # -- questions --------------------------------------------------------------------------------------------------

    def streams(self) -> list[str]:
        """Ids in order."""
        return self._streams.ids()

    def describe(self, stream_id: str, stream_row: StreamRow | None = None) -> StreamView:
        """Raises 404. `stream_row(worker, slot)` reads the counters."""
        return stream_view(self._get(stream_id), self._desk.conf.relay_id, stream_row)

    def stream_counts(self) -> dict[tuple[str, str], int]:
        """(state, role) -> how many."""
        return self._streams.counts()

    def links(self) -> list[LinkView]:
        """Every listed peer."""
        return [link_view(peer, self._lanes.rtt_us) for peer in self._sessions.peers.values()]

    def worker_of(self, stream_id: str) -> int:
        """Where the stream lives. Raises 404."""
        return self._get(stream_id).worker

    def ingress_of(self, stream_id: str) -> tuple[int, int]:
        """For tests: (worker, ingress slot) of a stream published here."""
        return self._publications.ingress_of(stream_id)

    def rejected(self) -> dict[str, int]:
        """Pulls refused since the start, by code of `pull_no`."""
        return dict(self._desk.rejected)

    def unsupported(self) -> int:
        """Control messages of types not known here since the start, all answered so."""
        return self._desk.unsupported

    def handshake_counts(self) -> tuple[dict[str, int], dict[str, int]]:
        """Of all handshakes so far: what happened, and datagrams refused by drop word; empty in plaintext."""
        return self._sessions.handshake_counts()

    def slots_in_use(self) -> dict[str, int]:
        """For tests: nothing may leak."""
        return self._workers.slots_in_use() | {"children": len(self._children)}

    def _get(self, stream_id: str) -> Stream:
        stream = self._streams.get(stream_id)
        if stream is None:
            raise missing_stream(stream_id)
        return stream
