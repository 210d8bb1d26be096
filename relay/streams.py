"""The records of one relay's streams: what is wanted, apart from how a worker is told (relay/workers.py).

Stream ─┬─ publication   (published here: local)        subs      who wants it as RTP, by subscriber id
        └─ pull          (from a parent: pulled)        children  relays below, by (session, conv)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from relay.messages import From
from relay.requests import PublishRequest, SubscribeRequest
from relay.tracks import Track
from relay.units import Address

PullState = Literal["wanted", "resolving", "pulling", "live", "failed"]
NUMBER_JUMP = 1 << 16
_EDGES: dict[PullState, tuple[PullState, ...]] = {
    "wanted": ("resolving", "failed"),
    "resolving": ("pulling", "failed", "wanted"),
    "pulling": ("live", "failed", "wanted"),
    "live": ("wanted", "failed"),
    "failed": ("wanted",),
}


@dataclass
class Publication:
    """A publisher here. `address` is known once the ingress socket is open."""

    body: PublishRequest
    worker: int
    ingress: int
    sources: tuple[Address, ...]
    port: int
    address: Address | None = None
    error: str | None = None
    retry_at: int | None = None
    lost: bool = False  # the worker could not take the socket that was opened last


@dataclass
class Attempt:
    """One upstream asked for a stream; (session, conv) is its conversation, `r` its request number."""

    peer: str
    session: int
    conv: int
    r: int


@dataclass
class Pull:
    """Where a stream that is not published here comes from."""

    state: PullState = "wanted"
    attempts: list[Attempt] = field(default_factory=list)
    parent: Attempt | None = None
    route: tuple[str, ...] = ()  # relay ids from the origin to the parent
    below: tuple[str, ...] = ()  # relays on the way down, of the child that asked first
    backoff_ns: int = 0
    retry_at: int | None = None
    give_up_at: int | None = None
    linger_until: int | None = None
    resume: From | None = None  # after what another worker had, until the parent has answered
    asked: set[str] = field(default_factory=set)  # since it was resolved last
    keyframe_at: dict[int, int] = field(default_factory=dict)

    def set_state(self, state: PullState) -> None:
        if state not in _EDGES[self.state]:
            raise AssertionError(f"pull: {self.state} -> {state}")
        self.state = state


@dataclass
class Sub:
    """An RTP subscriber. `added`: its worker has been told."""

    worker: int
    slot: int
    body: SubscribeRequest
    default: Address | None
    by_track: dict[str, Address]
    added: bool = False


@dataclass
class Mirror:
    """A stream on another worker than its own, for subscribers there. `feed`: the number of its present life."""

    worker: int
    slot: int
    feed: int = 0
    whole: bool = False  # begins with all that is cached, not with a key frame: it is for children
    opened: bool = False
    asked: bool = False  # the stream's own worker has been told to send it every packet
    fed: bool = False  # and does


@dataclass
class Child:
    """A relay below. `next`: first media number it gets, known when the worker answered."""

    peer: str
    session: int
    conv: int
    lane: int
    want: int
    r: int
    route: tuple[str, ...]
    resume: From | None
    worker: int = -1  # whose lane it is served by, and
    slot: int | None = None  # None: waits for our own parent's answer
    next: int | None = None


@dataclass
class Stream:
    """One stream of this relay."""

    id: str
    worker: int
    slot: int
    epoch: int = 0
    boot: int = 0  # boot id of the origin: whose numbers these are
    number: int = 0  # where media numbers start when the stream is opened anew
    tracks: tuple[Track, ...] = ()
    group: str | None = None
    opened: bool = False
    publication: Publication | None = None
    pull: Pull | None = None
    subs: dict[str, Sub] = field(default_factory=dict)
    mirrors: dict[int, Mirror] = field(default_factory=dict)  # by worker
    children: dict[tuple[int, int], Child] = field(default_factory=dict)
    shelter: int | None = None  # whose mirror serves the children: the stream's own lane is under attack

    @property
    def role(self) -> str:
        return "pulled" if self.publication is None else "local"

    @property
    def state(self) -> str:
        if self.publication is not None:
            return "live"
        if self.pull is None:
            return "ended"
        return "lingering" if self.pull.linger_until is not None else self.pull.state

    @property
    def confirmed(self) -> bool:
        """The way to the publisher's relay stands."""
        return self.publication is not None or (self.pull is not None and self.pull.state == "live")

    def at(self, worker: int) -> Stream | Mirror:
        """The stream itself or its mirror there: worker, slot, opened."""
        return self if worker == self.worker else self.mirrors[worker]

    @property
    def serves_children(self) -> Stream | Mirror:
        return self if self.shelter is None else self.mirrors[self.shelter]

    def reaches(self, sub: Sub) -> bool:
        """What is published from now on arrives at this subscriber."""
        return self.confirmed and (sub.worker == self.worker or self.mirrors[sub.worker].fed)

    @property
    def wanted(self) -> bool:
        return bool(self.subs or self.children)


class Streams:
    """By id, and by (worker, slot) for what workers report."""

    def __init__(self) -> None:
        self._by_id: dict[str, Stream] = {}
        self._by_slot: dict[tuple[int, int], Stream] = {}
        self._groups: dict[str, dict[str, Stream]] = {}

    def add(self, stream: Stream) -> None:
        self._by_id[stream.id] = stream
        self._by_slot[stream.worker, stream.slot] = stream
        if stream.group is not None:
            self._groups.setdefault(stream.group, {})[stream.id] = stream

    def remove(self, stream: Stream) -> None:
        del self._by_id[stream.id]
        del self._by_slot[stream.worker, stream.slot]
        if stream.group is not None:
            del self._groups[stream.group][stream.id]
            if not self._groups[stream.group]:
                del self._groups[stream.group]

    def move(self, stream: Stream, worker: int, slot: int) -> None:
        """To another worker. A group that is left behind in part goes where its first stream is."""
        del self._by_slot[stream.worker, stream.slot]
        stream.worker, stream.slot = worker, slot
        self._by_slot[worker, slot] = stream

    def worker_of_group(self, group: str | None) -> int | None:
        """Streams of one group live on one worker."""
        members = self._groups.get(group) if group is not None else None
        return next(iter(members.values())).worker if members else None

    def group(self, group: str | None) -> list[Stream]:
        """The streams of a group; none without one."""
        return list(self._groups.get(group, {}).values()) if group is not None else []

    def get(self, stream_id: str) -> Stream | None:
        return self._by_id.get(stream_id)

    def at(self, worker: int, slot: int) -> Stream | None:
        return self._by_slot.get((worker, slot))

    def ids(self) -> list[str]:
        return sorted(self._by_id)

    def counts(self) -> dict[tuple[str, str], int]:
        """(state, role) -> how many."""
        return Counter((stream.state, stream.role) for stream in self)

    def __iter__(self) -> Iterator[Stream]:
        """A copy: the loop may add and remove."""
        return iter(list(self._by_id.values()))

    def __len__(self) -> int:
        return len(self._by_id)
