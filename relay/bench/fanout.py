"""`zrelay bench fanout`: one stream to many subscribers, beside a bare loop and GStreamer."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import click

from relay.bench import result
from relay.bench.contenders import Bare, Gstreamer, Relays
from relay.bench.duel import Say, duel
from relay.bench.options import Seconds
from relay.bench.show import as_command
from relay.bench.traffic import Shape
from relay.bench.veth import veth as veth_pair

_EGRESS_PPS = 150_000  # well below what two cores carry, GStreamer's share included
SECONDS = 9.0
BARS = {"ratio_to_bare": 1.25, "ratio_to_peer": 0.25, "syscalls_per_packet": 0.01}  # of the default case


def usual_pps(subscribers: int) -> int:
    """Of the stream, so that no contender is short of CPU."""
    return max(100, min(20_000, _EGRESS_PPS // subscribers))


@click.command()
@click.option("--subscribers", type=click.IntRange(1, 4000), default=50, show_default=True)
@click.option("--frame", type=click.IntRange(1, 256), default=8, show_default=True, help="Packets sent at once.")
@click.option("--size", type=click.IntRange(36, 1472), default=1200, show_default=True, help="Of an RTP packet, bytes.")
@click.option("--pps", type=click.IntRange(1, 1_000_000), default=None, help="Packets a second in; by the machine.")
@click.option("--seconds", type=Seconds(), default=SECONDS, show_default=True, help="Of each contender.")
@click.option("--workers", type=click.IntRange(1, 8), default=1, show_default=True, help="Of the relay.")
@click.option("--no-gro", is_flag=True, help="Sinks take every datagram by itself.")
@click.option("--veth", is_flag=True, help="Sinks behind a veth pair without segmentation offload (root).")
@click.option("--json", "as_json", is_flag=True, help="The figures as JSON.")
@result.save_option
def fanout(
    subscribers: int,
    frame: int,
    size: int,
    pps: int | None,
    seconds: float,
    workers: int,
    no_gro: bool,
    veth: bool,
    as_json: bool,
    save_to: str | None,
) -> None:
    """One stream to many: CPU per packet, beside a bare loop and GStreamer."""
    shape = Shape(subscribers=subscribers, frame=frame, size=size, pps=pps or usual_pps(subscribers), gro=not no_gro)
    as_command(
        "fanout", lambda say: measured(shape, seconds, say, workers=workers, veth=veth), "fan-out", as_json, save_to
    )


async def measured(shape: Shape, seconds: float, say: Say, *, workers: int = 1, veth: bool = False) -> dict[str, Any]:
    """The figures. VethMissingError where there is none to be had."""
    relay, bare = Relays("relay", workers=workers), Bare("bare sendmmsg loop")
    with veth_pair() if veth else nullcontext() as far:
        outcome = await duel(shape, seconds, relay, bare, Gstreamer("GStreamer multiudpsink"), say, far=far)
    usual = (shape.subscribers, shape.frame, shape.size, shape.gro, veth) == (50, 8, 1200, True, False)
    return {**outcome.figures(), "workers": workers, "veth": veth, "bars": BARS if usual else {}}
