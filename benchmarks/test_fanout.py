"""`zrelay bench fanout`: CPU per egress packet beside a bare loop with the same runs, and beside GStreamer."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from benchmarks.machine import slack
from relay.bench.fanout import BARS, measured, usual_pps
from relay.bench.traffic import Shape
from relay.bench.veth import VethMissingError

pytestmark = pytest.mark.figures

SECONDS = 9.0
TO_FIFTY = 1.2


def row(name: str, *, subscribers: int = 50, veth: bool = False, gro: bool = True) -> dict[str, Any]:
    """A row of the table, printed."""
    shape = Shape(subscribers=subscribers, pps=usual_pps(subscribers), gro=gro)
    made = asyncio.run(measured(shape, SECONDS, lambda text: None, veth=veth))
    costs = ", ".join(
        f"{side['name']} {side['cpu_us_per_packet']:.3f} µs ({side['delivered_pct']:.4f} %)"
        for side in made["sides"].values()
        if side is not None
    )
    print(
        f"\n{name}: {costs}; to bare {made['ratio_to_bare']:.3f}, to peer {made['ratio_to_peer'] or float('nan'):.3f}"
    )
    print(f"  {made['syscalls_per_packet']:.5f} system calls a packet; what limited this run: {made['limited_by']}")
    return made


def claim(made: dict[str, Any]) -> None:
    """Skips where the run proves nothing."""
    if not made["claimable"]:
        pytest.skip(f"nothing to claim: {made['peer_lacking'] or 'a contender delivered less than 99.99 %'}")


def test_fan_out_to_fifty_costs_little_more_than_a_bare_loop() -> None:
    made = row("1 -> 50")
    claim(made)
    allowed = slack(made["sides"]["relay"]["machine_busy_pct"] / 50)
    assert made["syscalls_per_packet"] <= BARS["syscalls_per_packet"]
    assert made["ratio_to_bare"] <= BARS["ratio_to_bare"] * allowed
    assert made["ratio_to_peer"] <= BARS["ratio_to_peer"] * allowed


def test_fan_out_to_five_hundred_costs_no_more_a_packet() -> None:
    fifty, many = row("1 -> 50"), row("1 -> 500", subscribers=500)
    claim(fifty)
    claim(many)
    allowed = slack(many["sides"]["relay"]["machine_busy_pct"] / 50)
    assert many["cpu_us_per_packet"] <= TO_FIFTY * fifty["cpu_us_per_packet"] * allowed


def test_beside_sinks_without_gro() -> None:
    assert row("1 -> 50, sinks without GRO", gro=False)["delivered_pct"] > 99


def test_beside_a_veth_pair_without_segmentation_offload() -> None:
    try:
        made = row("1 -> 50, veth without segmentation offload", veth=True)
    except VethMissingError as error:
        pytest.skip(str(error))
    assert made["delivered_pct"] > 99
