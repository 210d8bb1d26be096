"""``zrelay links`` and ``zrelay ping``: what a running relay knows of the ways to its peers.

    zrelay links -c relay.toml            a line per peer
    zrelay links sh-1 -c relay.toml       one peer, everything, with the last hour by minutes
    zrelay ping sh-1 -c relay.toml        every round trip as it is measured, then a summary

A relay probes its links anyhow: ``ping`` sends nothing, it shows.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import signal
import sys

import click

from relay import ask
from relay.client import Client
from relay.links import path_lines, table

POLL_S = 0.25
SILENT_POLLS = 8  # without a new answer: said


@click.command()
@click.argument("peer", required=False)
@ask.relay_options
@click.option("--json", "as_json", is_flag=True, help="Everything, as JSON.")
def links(peer: str | None, path: str | None, api: str | None, as_json: bool) -> None:
    """Peers: state, address, round trip, loss each way, jitter, path MTU, T_dead, Mbit/s each way."""
    if peer is None:
        found = ask.answer(ask.client(path, api), "/v1/links")["items"]
        click.echo(json.dumps(found) if as_json else table(found))
        return
    link = ask.answer(ask.client(path, api), f"/v1/links/{peer}")
    del link["round_trips_us"]
    if as_json:
        click.echo(json.dumps(link))
        return
    history, paths = link.pop("history"), path_lines(link)
    link.pop("paths", None)
    for name, value in link.items():
        click.echo(f"{name:<18} {'-' if value is None else value}")
    for line in paths:
        click.echo(f"path {line.strip()}")
    for minute in history:
        click.echo(
            f"minute to {minute['ended_s']} s: rtt {minute['rtt_p50_ms']} / {minute['rtt_p99_ms']} ms, loss in "
            f"{minute['loss_in_pct']} %, out {minute['loss_out_pct']} %, up {minute['up_pct']} %"
        )


@click.command()
@click.argument("peer")
@click.option("-n", "--count", default=0, type=click.IntRange(0), help="Stop after this many answers; 0: at Ctrl-C.")
@click.option("-w", "--deadline", default=0.0, type=click.FloatRange(0), help="Stop after this many seconds.")
@ask.relay_options
def ping(peer: str, count: int, deadline: float, path: str | None, api: str | None) -> None:
    """Round trips to a peer, line by line as the relay's probes measure them; then a summary."""
    sent, trips = ask.outcome(_watch(ask.client(path, api), peer, count, deadline))
    click.echo("\n".join(summary(peer, sent, trips)))
    sys.exit(0 if trips else 1)


async def _watch(client: Client, peer: str, count: int, deadline: float) -> tuple[int, list[int]]:
    """Pings sent and round trips (us) while it ran."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, stop.set)
    trips: list[int] = []
    ends = asyncio.get_running_loop().time() + deadline if deadline else math.inf
    async with client as relay:
        link = await relay.get(f"/v1/links/{peer}")
        where = f"{peer} ({link.get('address') or 'no session'})"
        click.echo(f"PING {where}: probes of the running link, 80 bytes and 72 back")
        first, seen, quiet = link.get("pings", 0), link.get("answered", 0), 0
        last = first
        while not stop.is_set() and (count == 0 or len(trips) < count) and asyncio.get_running_loop().time() < ends:
            link = await relay.get(f"/v1/links/{peer}?since={seen}")
            if link.get("answered", 0) < seen:  # a new session counts anew
                first, seen = link.get("pings", 0) - (last - first), 0
                last = link.get("pings", 0)
                continue
            for us in link["round_trips_us"][: count - len(trips) if count else None]:
                trips.append(us)
                click.echo(f"from {where}: answer={len(trips)} time={us / 1000:.3f} ms")
            quiet = 0 if link["round_trips_us"] else quiet + 1
            if quiet % SILENT_POLLS == SILENT_POLLS - 1:
                click.echo(f"no answer from {where}: {link['state']}")
            seen, last = link.get("answered", 0), link.get("pings", 0)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), POLL_S)
    return last - first, trips


def summary(peer: str, sent: int, trips: list[int]) -> list[str]:
    """The last lines of ping(8). `trips` in microseconds; what is still on its way is not lost."""
    sent = max(sent, len(trips))
    lost = 100 * (sent - len(trips)) / sent if sent else 0.0
    lines = [f"--- {peer}: {sent} probes, {len(trips)} answers, {lost:.0f} % without one"]
    if trips:
        ordered = sorted(trips)
        mean = sum(trips) / len(trips)
        mdev = sum(abs(trip - mean) for trip in trips) / len(trips)
        shown = (ordered[0], mean, ordered[-1], mdev)
        lines.append("rtt min/avg/max/mdev = " + "/".join(f"{value / 1000:.3f}" for value in shown) + " ms")
    return lines
