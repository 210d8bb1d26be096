"""`zrelay bench run`: publishers and subscribers on a relay of its own, or on one that runs already."""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import suppress
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

import click

from relay.bench import result
from relay.bench.contenders import Contender, Relays, Remote
from relay.bench.duel import Side, measure
from relay.bench.fingerprint import fingerprint
from relay.bench.options import duration_ns, parsed
from relay.bench.show import finish, run_until_done
from relay.bench.traffic import Mode, Shape, Traffic
from relay.dev import Impaired
from relay.units import NS_PER_S, parse_fraction, parse_rate_bps

_SINKS_MAX = 20_000


@click.command()
@click.option("--publishers", type=click.IntRange(1, 4096), default=1, show_default=True, help="A stream each.")
@click.option("--subscribers", type=click.IntRange(1, 4000), default=10, show_default=True, help="Of each stream.")
@click.option("--rate", default="4Mbit/s", show_default=True, callback=parsed(parse_rate_bps), help="Of a stream, RTP.")
@click.option("--size", type=click.IntRange(36, 1472), default=1200, show_default=True, help="Of an RTP packet, bytes.")
@click.option("--frame", type=click.IntRange(1, 256), default=8, show_default=True, help="Packets sent at once.")
@click.option("--mode", type=click.Choice(["segmented", "singles", "burst"]), default="segmented", show_default=True)
@click.option("--ramp", default="0s", callback=parsed(duration_ns), help="Until the last publisher begins.")
@click.option("--duration", default="10s", show_default=True, callback=parsed(duration_ns), help="Of sending.")
@click.option("--loss", default="0", callback=parsed(parse_fraction), help="Between two relays, both ways: 0.1 or 10%.")
@click.option("--relays", type=click.IntRange(1, 8), default=None, help="In a chain; 1, or 2 with --loss.")
@click.option("--workers", type=click.IntRange(1, 8), default=1, show_default=True, help="Of each relay.")
@click.option("--relay", "url", default=None, help="A relay that runs already, by its API: http://127.0.0.1:7481.")
@click.option("--edge", "edge_url", default=None, help="Where to subscribe, if elsewhere.")
@click.option("--i-own-this", "own", is_flag=True, help="The relay is on another machine, which may be loaded.")
@click.option("--sinks", "sinks_ip", default="127.0.0.1", show_default=True, help="Our address, as the relay sees it.")
@click.option("--no-gro", is_flag=True, help="Sinks take every datagram by itself.")
@click.option("--json", "as_json", is_flag=True, help="The figures as JSON.")
@result.save_option
def run(
    publishers: int,
    subscribers: int,
    rate: int,
    size: int,
    frame: int,
    mode: Mode,
    ramp: int,
    duration: int,
    loss: float,
    relays: int | None,
    workers: int,
    url: str | None,
    edge_url: str | None,
    own: bool,
    sinks_ip: str,
    no_gro: bool,
    as_json: bool,
    save_to: str | None,
) -> None:
    """Load on a relay: every packet verified at every subscriber, delays from the moment it was due."""
    pps = rate // (8 * size)
    if pps < 1:
        raise click.UsageError(f"--rate: less than a packet of {size} bytes a second")
    if publishers * subscribers > _SINKS_MAX:
        raise click.UsageError(f"{publishers * subscribers} subscribers in all: at most {_SINKS_MAX}")
    if duration == 0 or ramp > duration:
        raise click.UsageError("--duration: more than nothing, and not shorter than --ramp")
    if url and (loss or relays):
        raise click.UsageError("--relay: --loss and --relays are for a mesh of our own")
    strangers = [named for named in (url, edge_url) if named and not own and not _is_ours(named)]
    if strangers:
        raise click.UsageError(f"{strangers[0]} is another machine: say that you may load it, with --i-own-this")
    if edge_url and not url:
        raise click.UsageError("--edge needs --relay")
    if loss and relays == 1:
        raise click.UsageError("--loss needs two relays")
    chain = relays or (2 if loss else 1)
    shape = Shape(
        streams=publishers,
        subscribers=subscribers,
        pps=pps,
        size=size,
        frame=frame,
        mode=mode,
        gro=not no_gro,
        ramp_ns=ramp,
    )
    contender = _contender(chain, workers, loss, url, edge_url)
    asked = {"relays": None if url else chain, "workers": None if url else workers, "loss": loss, "relay": url}
    made = run_until_done(measured(contender, shape, duration / NS_PER_S, sinks_ip))
    finish("run", {**made, **asked}, as_json, save_to, _show)


def _is_ours(url: str) -> bool:
    """Whether the host is this one, or this network namespace: an address that a socket can be bound to."""
    try:
        host = urlsplit(url).hostname
    except ValueError:
        host = None
    if host in (None, "localhost"):  # what is no URL is said by who calls it
        return True
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.bind((str(ip_address(host)), 0))
        except (OSError, ValueError):
            return False
    return True


def _contender(chain: int, workers: int, loss: float, url: str | None, edge_url: str | None) -> Contender:
    if url:
        return Remote(url, url=url, edge_url=edge_url or "", prefix=f"bench-{os.getpid()}")
    bad = [Impaired("bj-1", "sh-1", ["--loss", str(loss)])] if loss else []
    return Relays("relay", relays=chain, workers=workers, impaired=bad)


async def measured(contender: Contender, shape: Shape, seconds: float, sinks_ip: str) -> dict[str, Any]:
    """The figures; a line of progress a second on stderr."""
    side = Side(contender.name)
    traffic = Traffic(shape, sinks_ip)
    async with contender:
        traffic.aim(await contender.start(traffic.subscribers()))
        measuring = asyncio.ensure_future(measure(contender, traffic, side, seconds))
        try:
            await _watch(measuring, traffic)
        finally:
            if not measuring.done():
                measuring.cancel()
                with suppress(asyncio.CancelledError):
                    await measuring
        inside = await contender.inside_us()
    figures = side.figures()
    return {
        **figures,
        "publishers": shape.streams,
        "subscribers": shape.subscribers,
        "pps": shape.pps,
        "size": shape.size,
        "frame": shape.frame_sent,
        "mode": shape.mode,
        "ramp_s": shape.ramp_ns / NS_PER_S,
        "seconds": seconds,
        "sinks_gro": shape.gro,
        "ssrc": shape.ssrc,
        "inside_us": inside,
        "counters": {word: count for word, count in side.counters.items() if count},
        "fingerprint": fingerprint(),
    }


async def _watch(measuring: asyncio.Future[Any], traffic: Traffic) -> None:
    second, last = 0, traffic.counted()
    while not (await asyncio.wait({measuring}, timeout=1.0))[0]:
        second, now = second + 1, traffic.counted()
        click.echo(
            f"{second:4} s  sent {now.sent - last.sent}/s  delivered {now.good - last.good}/s  "
            f"corrupt {now.corrupt}  twice {now.duplicates}  generator {now.generator_busy_pct:.0f} % busy",
            err=True,
        )
        last = now
    await measuring


def _show(made: dict[str, Any]) -> None:
    cost = made["cpu_us_per_packet"]
    click.echo(
        f"{made['publishers']} x {made['pps']} packets/s of {made['size']} B in frames of {made['frame']} to "
        f"{made['subscribers']} each, {made['seconds']:g} s"
    )
    click.echo(
        f"delivered   {made['delivered']} of {made['wanted']} ({made['delivered_pct']:.4f} %), twice "
        f"{made['duplicates']}, corrupt {made['corrupt']}, long after {made['old']}"
    )
    delays = (("p50", "p50_us"), ("p99", "p99_us"), ("p99.9", "p999_us"), ("max", "max_us"))
    shown = ", ".join(f"{word} {made[name] / 1000:.2f} ms" for word, name in delays if made[name] is not None)
    click.echo(f"delay       {shown or 'of nothing'}")
    if made["inside_us"] is not None:
        inside = ", ".join(f"{word} {us / 1000:.3f} ms" for word, us in made["inside_us"].items())
        click.echo(f"inside      {inside}: from a relay's socket to its sendmmsg, since it started")
    if cost is not None:
        click.echo(f"CPU         {cost:.3f} µs a packet delivered, {made['core_pct']:.0f} % of a core")
    click.echo(result.limit_line(made))
