"""What the API refuses names the field, and what it takes is what a worker can hold."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

import msgspec
import pytest

from relay.errors import Problem
from relay.requests import Ingress, PublishRequest, SubscribeRequest
from relay.tracks import Track
from relay.validation import FMTP_BYTES_MAX, TRACKS_MAX, check_publish, check_subscribe
from tests.py.fake_mesh import AUDIO, VIDEO, body

PORTS = (30000, 30999)
LOOPBACK = [ip_network("127.0.0.0/8")]


def video(**more: Any) -> Track:
    return msgspec.structs.replace(VIDEO, **more)


def publish(*tracks: Track, epoch: int = 1, **ingress: Any) -> PublishRequest:
    return PublishRequest(epoch=epoch, tracks=list(tracks) or [VIDEO], ingress=Ingress(**ingress))


@pytest.mark.parametrize(
    ("request_", "code", "field"),
    [
        (publish(epoch=-1), "range", "epoch"),
        (publish(epoch=1 << 63), "range", "epoch"),
        (PublishRequest(epoch=1, tracks=[], ingress=Ingress()), "track", "tracks"),
        (publish(*(video(id=f"v{n}", payload_type=n) for n in range(TRACKS_MAX + 1))), "track", "tracks"),
        (publish(VIDEO, video(payload_type=97)), "track", "tracks[1].id"),
        (publish(VIDEO, video(id="v1")), "track", "tracks[1].payload_type"),
        (publish(video(payload_type=72)), "track", "tracks[0].payload_type"),
        (publish(video(payload_type=128)), "track", "tracks[0].payload_type"),
        (publish(video(clock_rate=0)), "track", "tracks[0].clock_rate"),
        (publish(video(ssrc=1 << 32)), "track", "tracks[0].ssrc"),
        (publish(video(fmtp="x" * (FMTP_BYTES_MAX + 1))), "track", "tracks[0].fmtp"),
        (publish(video(fmtp="a\r\na=x")), "track", "tracks[0].codec"),
        (publish(port=65536), "range", "ingress.port"),
        (publish(port=-1), "range", "ingress.port"),
        (publish(port=PORTS[0] - 1), "range", "ingress.port"),
        (publish(port=PORTS[1] + 1), "range", "ingress.port"),
        (publish(source=[]), "source", "ingress.source"),
        (publish(source=["0.0.0.0:1"]), "address", "ingress.source[0]"),
    ],
)
def test_a_publish_that_cannot_be_is_refused_by_its_field(request_: PublishRequest, code: str, field: str) -> None:
    with pytest.raises(Problem) as refused:
        check_publish(request_, "127.0.0.1", PORTS)
    assert (refused.value.status, refused.value.code, refused.value.field) == (422, code, field)


@pytest.mark.parametrize("port", [0, *PORTS])
def test_a_port_of_the_range_may_be_asked_for_and_0_takes_any(port: int) -> None:
    assert check_publish(publish(port=port), "127.0.0.1", PORTS) == ()


def test_learning_a_source_is_for_loopback_only() -> None:
    assert check_publish(body(), "127.0.0.1", PORTS) == ()
    with pytest.raises(Problem) as refused:
        check_publish(body(), "192.0.2.1", PORTS)
    assert (refused.value.code, refused.value.field) == ("source", "ingress.source")


def test_a_subscriber_may_name_tracks_before_they_are_known() -> None:
    request = SubscribeRequest(addresses={"later": "127.0.0.1:5000"})
    assert check_subscribe(request, (), LOOPBACK)[1].keys() == {"later"}
    with pytest.raises(Problem, match="there are a0, v0"):
        check_subscribe(request, (VIDEO, AUDIO), LOOPBACK)
