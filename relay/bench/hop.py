"""`zrelay bench hop`: one hop between two relays, beside bare forwarders and SRT; with `--relays 1`, no hop at all."""

from __future__ import annotations

from typing import Any

import click

from relay.bench import result
from relay.bench.contenders import Bare, Gstreamer, Relays, Srt
from relay.bench.duel import Say, duel
from relay.bench.options import Seconds
from relay.bench.show import as_command
from relay.bench.traffic import Mode, Shape

SECONDS = 9.0
BARS = {"ratio_to_bare": 1.6, "ratio_to_peer": 0.5}  # of the default case, in plaintext as the others are
SEALED_BARS = {"ratio_to_peer": 0.6}
SINGLE_BARS = {"ratio_to_bare": 1.15}  # of one relay
PPS = {1: 5000, 2: 20_000}  # as single packets GStreamer cannot do much more


@click.command()
@click.option(
    "--pps", type=click.IntRange(1, 1_000_000), default=None, help="Packets a second; 20000, or 5000 with one relay."
)
@click.option("--size", type=click.IntRange(36, 1316), default=1200, show_default=True, help="Of an RTP packet, bytes.")
@click.option("--frame", type=click.IntRange(1, 256), default=8, show_default=True, help="Packets sent at once.")
@click.option("--seconds", type=Seconds(), default=SECONDS, show_default=True, help="Of each contender.")
@click.option(
    "--mode",
    type=click.Choice(["segmented", "singles", "burst"]),
    default=None,
    help="How a frame arrives: one UDP_SEGMENT message, packets spread in time, or datagrams in a row.",
)
@click.option("--relays", type=click.IntRange(1, 2), default=2, show_default=True, help="1: RTP in, RTP out, singles.")
@click.option("--plaintext", is_flag=True, help="The link is not sealed, as the bare forwarders and SRT are not.")
@click.option("--json", "as_json", is_flag=True, help="The figures as JSON.")
@result.save_option
def hop(
    pps: int | None,
    size: int,
    frame: int,
    seconds: float,
    mode: Mode | None,
    relays: int,
    plaintext: bool,
    as_json: bool,
    save_to: str | None,
) -> None:
    """One hop: UDP in, link, UDP out; CPU per packet, beside bare forwarders and SRT."""
    shape = Shape(
        pps=pps or PPS[relays], size=size, frame=frame, mode=mode or ("segmented" if relays == 2 else "singles")
    )
    as_command(
        "hop",
        lambda say: measured(shape, seconds, say, relays=relays, sealed=not plaintext),
        "one hop" if relays == 2 else "1 to 1",
        as_json,
        save_to,
    )


async def measured(shape: Shape, seconds: float, say: Say, *, relays: int = 2, sealed: bool = True) -> dict[str, Any]:
    """The figures."""
    ours = Relays("relay" if relays == 1 else "two relays", relays=relays, sealed=sealed)
    if relays == 2:
        bare, peer = Bare("two bare forwarders", hops=2), Srt("srt-live-transmit")
        outcome = await duel(shape, seconds, ours, bare, peer, say)
    else:
        single = Bare("bare recvmmsg/sendmmsg forwarder", segment=shape.mode == "segmented")
        outcome = await duel(shape, seconds, ours, single, Gstreamer("GStreamer multiudpsink"), say)
    sealed = sealed and relays == 2
    return {**outcome.figures(), "relays": relays, "sealed": sealed, "bars": _bars(shape, relays, sealed)}


def _bars(shape: Shape, relays: int, sealed: bool) -> dict[str, float]:
    mode = "segmented" if relays == 2 else "singles"
    if (shape.size, shape.frame, shape.mode, shape.pps) != (1200, 8, mode, PPS[relays]):
        return {}
    return SINGLE_BARS if relays == 1 else SEALED_BARS if sealed else BARS
