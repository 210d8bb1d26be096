"""`zrelay bench hop`: CPU per packet over one KCP hop, and through one relay, beside bare forwarders and SRT."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from benchmarks.machine import slack
from relay.bench.hop import BARS, PPS, SEALED_BARS, SECONDS, SINGLE_BARS, measured
from relay.bench.traffic import Mode, Shape

pytestmark = pytest.mark.figures

WALL_S = 60.0  # of the command with its defaults, the peer included


def row(name: str, mode: Mode, relays: int = 2, sealed: bool = True) -> dict[str, Any]:
    """A row of the table, printed."""
    began = time.monotonic()
    made = asyncio.run(
        measured(Shape(pps=PPS[relays], mode=mode), SECONDS, lambda text: None, relays=relays, sealed=sealed)
    )
    costs = ", ".join(
        f"{side['name']} {side['cpu_us_per_packet']:.2f} µs ({side['delivered_pct']:.4f} %)"
        for side in made["sides"].values()
        if side is not None
    )
    print(
        f"\n{name}: {costs}; to bare {made['ratio_to_bare']:.3f}, to peer {made['ratio_to_peer'] or float('nan'):.3f}"
    )
    made["wall_s"] = time.monotonic() - began
    print(f"  {made['wall_s']:.1f} s in all; what limited this run: {made['limited_by']}")
    return made


def claim(made: dict[str, Any]) -> None:
    """Skips where the run proves nothing. The bars have no slack: the rounds of all contenders alternate, so what else
    runs here meets each of them, and where it leaves too little, packets are lost and nothing is claimed.
    """
    if not made["claimable"]:
        pytest.skip(f"nothing to claim: {made['peer_lacking'] or 'a contender delivered less than 99.99 %'}")


def test_one_hop_of_segmented_frames() -> None:
    made = row("one hop, 20 kpps, frames of 8 as one UDP_SEGMENT message, plaintext", "segmented", sealed=False)
    claim(made)
    assert made["ratio_to_bare"] <= BARS["ratio_to_bare"]
    assert made["ratio_to_peer"] <= BARS["ratio_to_peer"]


def test_one_sealed_hop_of_segmented_frames_as_the_command_has_it() -> None:
    made = row("one sealed hop, 20 kpps, frames of 8 as one UDP_SEGMENT message", "segmented")
    assert made["wall_s"] <= WALL_S * slack()
    claim(made)
    assert made["ratio_to_peer"] <= SEALED_BARS["ratio_to_peer"]


def test_one_relay_of_single_packets() -> None:
    made = row("1 -> 1, 5 kpps, single packets", "singles", relays=1)
    claim(made)
    assert made["ratio_to_bare"] <= SINGLE_BARS["ratio_to_bare"]


@pytest.mark.parametrize("mode", ["singles", "burst"])
def test_beside_one_hop_of(mode: Mode) -> None:
    assert row(f"one hop, 20 kpps, {mode}", mode)["delivered_pct"] > 99
