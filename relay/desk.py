"""What the parts of the control plane share: the settings, the records, and the way out for actions."""

from __future__ import annotations

import os
import random
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_network
from typing import Any

from relay.actions import Action, Log, SendControl, StreamChanged
from relay.errors import Problem
from relay.identity import Identity
from relay.messages import AnyMessage, PullNo, Unsupported, encode_message
from relay.peers import Peer, Rights
from relay.placement import BUSY, Placement
from relay.sealed import SealedSessions
from relay.sessions import SECOND, Sessions
from relay.stamp import Stamps
from relay.streams import NUMBER_JUMP, Stream, Streams
from relay.units import Address
from relay.workers import Workers

EGRESS_ALLOW = ("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "::1/128", "fc00::/7")
ENDED_MAX = 16384
ENVELOPED = 80  # IP size minus KCP mtu: IPv6, UDP, envelope (wire.md, "Sizes")


@dataclass(frozen=True)
class Upstream:
    peer: str
    prefix: str = ""


@dataclass(frozen=True)
class ControlConf:
    """Everything the control plane needs to know of the configuration."""

    relay_id: str
    boot_id: int
    workers: int = 1
    streams_max: int = 1024  # of one worker
    streams_total: int | None = None
    busy: float = BUSY
    peers: Sequence[Peer] = ()
    upstreams: Sequence[Upstream] = ()
    ingress_ip: str = "127.0.0.1"
    ingress_ports: tuple[int, int] = (30000, 30999)
    egress_allow: Sequence[str] = EGRESS_ALLOW
    linger_ns: int = 5 * SECOND
    rate: int = 4
    mtu: int = 1420
    identity: Identity | None = None  # without one: plaintext hellos
    stamps: Stamps | None = None  # of this identity
    entropy: Callable[[int], bytes] = os.urandom  # for ephemeral keys

    @classmethod
    def of(cls, config: Any, boot_id: int, workers: int, streams_max: int) -> ControlConf:
        """From a `relay.config.Config`."""
        return cls(
            relay_id=config.node.id,
            boot_id=boot_id,
            workers=workers,
            streams_max=streams_max,
            streams_total=config.limits.max_streams,
            busy=config.workers.busy,
            peers=[Peer.of(peer) for peer in config.peers],
            upstreams=[Upstream(upstream.peer, upstream.prefix) for upstream in config.upstreams],
            ingress_ip=config.ingress.address,
            ingress_ports=config.ingress.port_range,
            egress_allow=config.egress.allow,
            linger_ns=config.links.linger_ns,
            mtu=config.links.mtu - ENVELOPED,
        )


Progress = Callable[[int, int], tuple[int, int]]


@dataclass
class Desk:
    """One relay's shared state. `progress(worker, slot)` reads (epoch, resume number) from the counter page."""

    conf: ControlConf
    rng: random.Random
    progress: Progress
    actions: list[Action] = field(default_factory=list)
    streams: Streams = field(default_factory=Streams)
    ended: OrderedDict[str, tuple[int, int]] = field(default_factory=OrderedDict)
    rejected: Counter[str] = field(default_factory=Counter)  # pulls refused, by code
    unsupported: int = 0  # messages of types not known here, all answered so

    def __post_init__(self) -> None:
        conf = self.conf
        self.placement = Placement(conf.workers, conf.busy)
        self.workers = Workers(
            conf.workers, conf.streams_max, conf.ingress_ip, self.emit, first_seq=conf.boot_id & 0xFFFFFFFF
        )
        listed = {peer.id: list(peer.addresses) for peer in conf.peers}
        self.sessions = self._make_sessions(listed)
        self.egress_allow = [ip_network(text) for text in conf.egress_allow]
        self.rights = Rights(conf.peers)
        self._alarms: dict[str, int] = {}  # when said last

    def _make_sessions(self, listed: dict[str, list[Address]]) -> Sessions:
        conf = self.conf
        if conf.identity is None:
            return Sessions(conf.relay_id, conf.boot_id, conf.workers, listed, self.rng, rate=conf.rate, mtu=conf.mtu)
        assert conf.stamps is not None
        return SealedSessions(
            conf.relay_id, conf.boot_id, conf.workers, listed, self.rng,
            identity=conf.identity, stamps=conf.stamps, rate=conf.rate, mtu=conf.mtu, entropy=conf.entropy,
        )  # fmt: skip

    def full(self, what: str) -> Problem:
        """429: more of `what` than this relay, or this worker, is made for."""
        detail = f"no more {what} fit here: use another relay, or raise [limits] max_streams and restart this one"
        return Problem(429, "limit", "This relay is full", detail, retry_after_s=5)

    def overloaded(self) -> Problem:
        """503: the worker that would serve it has too much to do already."""
        detail = "it serves those it has; try again, or another relay"
        return Problem(503, "overloaded", "This relay is overloaded", detail, retry_after_s=2)

    def emit(self, action: Action) -> None:
        self.actions.append(action)

    def send(self, session: int, message: AnyMessage) -> None:
        if isinstance(message, PullNo):
            self.rejected[message.code] += 1
        self.unsupported += isinstance(message, Unsupported)
        self.emit(SendControl(session, encode_message(message)))

    def changed(self, stream: Stream) -> None:
        self.emit(StreamChanged(stream.id))

    def log(self, level: str, event: str, **fields: Any) -> None:
        self.emit(Log(level, event, fields))

    def alarm(self, event: str, now: int, **fields: Any) -> None:
        """An error in the log, of each kind at most one a second: peers may cause as many as they like."""
        said_at = self._alarms.get(event)
        if said_at is None or now - said_at >= SECOND:
            self._alarms[event] = now
            self.log("error", event, **fields)

    def make_stream(self, stream_id: str, group: str | None = None) -> Stream | None:
        """None when the relay is full."""
        if self.conf.streams_total is not None and len(self.streams) >= self.conf.streams_total:
            return None
        workers = self.workers
        worker = self.streams.worker_of_group(group)
        if worker is None:
            worker = self.placement.for_stream([len(slots) for slots in workers.streams], workers.up)
        slot = workers.streams[worker].take()
        if slot is None:
            return None
        self.placement.joins(worker, 0.0)
        stream = Stream(stream_id, worker, slot, group=group)
        self.streams.add(stream)
        return stream

    def remove_stream(self, stream: Stream) -> None:
        """Nobody wants it and nobody publishes it: the worker forgets it, its slot is free."""
        self.workers.close_stream(stream)
        self.workers.streams[stream.worker].give(stream.slot)
        for mirror in stream.mirrors.values():  # for children, who have left
            self.workers.streams[mirror.worker].give(mirror.slot)
        self.streams.remove(stream)
        self.changed(stream)

    def remember_number(self, stream: Stream) -> None:
        """A local stream will be opened anew: its numbers go on 2^16 later, so that none is given twice."""
        epoch, number = self.progress(stream.worker, stream.slot)
        if stream.opened and epoch == stream.epoch:
            stream.number = (number + NUMBER_JUMP) & 0xFFFFFFFF

    def remember_ended(self, stream: Stream) -> None:
        """The fence outlives the stream: a revived publisher with a lower epoch never wins."""
        self.ended[stream.id] = (stream.epoch, stream.number)
        self.ended.move_to_end(stream.id)
        if len(self.ended) > ENDED_MAX:
            self.ended.popitem(last=False)


def missing_stream(stream_id: str) -> Problem:
    detail = f"{stream_id}: publish it with PUT /v1/streams/{{id}}, or PUT a subscriber to pull it from the mesh"
    return Problem(404, "not-found", "No such stream here", detail)


def missing_subscriber(sid: str) -> Problem:
    return Problem(404, "not-found", "No such subscriber", f"{sid}: PUT it under /v1/streams/{{id}}/subscribers/ first")
