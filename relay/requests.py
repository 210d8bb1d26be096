"""The bodies of the API: what callers send and what they get back. Unknown fields are refused, so typos are found."""

from __future__ import annotations

from typing import Literal

import msgspec

from relay.tracks import Track


class Ingress(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the publisher's RTP comes from. ``source``: its addresses ("ip:port"), or "learn" on a loopback ingress:
    the first valid packet of each track locks that track's source. ``port`` 0: a free one of ``[ingress] ports``."""

    kind: Literal["rtp"] = "rtp"
    port: int = 0
    source: list[str] | Literal["learn"] = "learn"


class PublishRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename={"class_": "class"}):
    """PUT /v1/streams/{id}. ``epoch`` fences publishers: the higher one wins everywhere, a lower one gets 409."""

    epoch: int
    tracks: list[Track]
    ingress: Ingress
    group: str | None = None
    class_: str | None = None
    labels: dict[str, str] = {}


class IngressAnswer(msgspec.Struct, frozen=True):
    """``address``: where to send RTP and RTCP, "ip:port"."""

    address: str


class PublishAnswer(msgspec.Struct, frozen=True):
    """``max_packet_bytes``: RTP packets longer than this are dropped."""

    id: str
    epoch: int
    ingress: IngressAnswer
    worker: int
    max_packet_bytes: int


class SubscribeRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """PUT .../subscribers/{sid}: one ``address`` ("ip:port") for all tracks, or ``addresses`` by track id.

    ``tracks``: only these track ids. ``max_layer``: highest spatial layer.
    """

    kind: Literal["rtp"] = "rtp"
    address: str | None = None
    addresses: dict[str, str] | None = None
    tracks: list[str] | None = None
    max_layer: int | None = None


class SubscribeAnswer(msgspec.Struct, frozen=True):
    """``confirmed``: the whole way to the publisher's relay stands: what is published from now on arrives here."""

    state: Literal["live", "pulling"]
    confirmed: bool
    worker: int


class StreamView(msgspec.Struct, frozen=True):
    """GET /v1/streams/{id}. ``route``: relay ids from the origin to here, as far as it is known."""

    id: str
    state: str
    epoch: int
    route: list[str]
    parent: str | None
    standby: str | None
    tracks: list[Track]
    subscribers: int
    counters: dict[str, int]
    stalls: int
