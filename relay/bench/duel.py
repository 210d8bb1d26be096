"""Contenders side by side under the same traffic, in alternating rounds; what each costs, and what limited the run."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

from relay.bench.accounts import Machine, cpu_ns, socket_drops
from relay.bench.contenders import Contender
from relay.bench.fingerprint import fingerprint
from relay.bench.traffic import Counted, Shape, Traffic
from relay.bench.veth import THERE, Veth

DELIVERED_MIN_PCT = 99.99  # below, no figure is claimed
_BUSY_PCT = 85.0
_LATE_SHARE = 0.01
_ROUNDS_MAX = 15
_ROUND_S = 0.6  # at least: a shared machine has loud seconds, and the shorter, the likelier one meets all three
STEADY_S = 2.5  # of traffic before the first round

Say = Callable[[str], None]


@dataclass
class Side:
    """What one contender came to."""

    name: str
    counted: Counted = field(default_factory=Counted)
    cpu_us_per_packet: list[float] = field(default_factory=list)  # by round
    cpu_ns: dict[str, int] = field(default_factory=dict)  # by process, all rounds
    drops: int = 0  # at full sockets of its own
    counters: dict[str, int] = field(default_factory=dict)
    machine_busy_pct: float = 0.0

    @property
    def cost_us(self) -> float | None:
        """The median round's CPU time per packet delivered."""
        return statistics.median(self.cpu_us_per_packet) if self.cpu_us_per_packet else None

    @property
    def core_pct(self) -> float:
        """Of one core: its busiest process, or what a relay of others says of its workers."""
        busiest = max(self.cpu_ns.values(), default=self.counters.get("busy_ns", 0))
        return 100 * busiest / max(1, self.counted.run_ns)

    def limited_by(self) -> str:
        """What kept this contender from more, in words; "nothing" when all of it had room to spare."""
        c = self.counted
        found = []
        if self.core_pct > _BUSY_PCT:
            found.append(f"the contender's CPU ({self.core_pct:.0f} % of a core)")
        if c.generator_busy_pct > _BUSY_PCT or c.due > c.sent:
            found.append(f"the generator ({c.generator_busy_pct:.0f} % busy, {c.due - c.sent} packets refused)")
        if c.frames and c.late_frames / c.frames > _LATE_SHARE:
            found.append(f"the generator's timing ({100 * c.late_frames / c.frames:.1f} % of frames over 1 ms late)")
        if c.sinks_busy_pct > _BUSY_PCT:
            found.append(f"the sinks' CPU ({c.sinks_busy_pct:.0f} % busy)")
        if self.drops or c.sink_drops:
            found.append(f"socket buffers ({self.drops} dropped at the contender's, {c.sink_drops} at the sinks')")
        if self.machine_busy_pct > _BUSY_PCT:
            found.append(f"the machine ({self.machine_busy_pct:.0f} % of all cores busy)")
        return ", ".join(found) or "nothing"

    def figures(self) -> dict[str, Any]:
        c = self.counted
        return {
            "name": self.name,
            "cpu_us_per_packet": _rounded(self.cost_us),
            "cpu_us_per_packet_rounds": [round(cost, 4) for cost in self.cpu_us_per_packet],
            "cpu_us_per_packet_processes": {
                label: round(ns / 1000 / max(1, c.good), 4) for label, ns in self.cpu_ns.items()
            },
            "core_pct": round(self.core_pct, 1),
            "sent": c.sent,
            "wanted": c.wanted,
            "delivered": c.good,
            "delivered_pct": c.delivered_pct,
            "missing": c.missing,
            "duplicates": c.duplicates,
            "old": c.old,
            "corrupt": c.corrupt,
            "socket_drops": self.drops,
            "sink_drops": c.sink_drops,
            **c.delays_us(),
            "generator_busy_pct": round(c.generator_busy_pct, 1),
            "late_frames_pct": round(100 * c.late_frames / max(1, c.frames), 3),
            "sinks_busy_pct": round(c.sinks_busy_pct, 1),
            "machine_busy_pct": round(self.machine_busy_pct, 1),
            "limited_by": self.limited_by(),
        }


@dataclass
class Outcome:
    """`relay` against `bare` and `peer`; `peer` None where it is not installed, and `peer_lacking` says so."""

    shape: Shape
    seconds: float
    rounds: int
    relay: Side
    bare: Side
    peer: Side | None
    peer_lacking: str = ""

    @property
    def sides(self) -> list[Side]:
        return [side for side in (self.relay, self.bare, self.peer) if side is not None]

    def figures(self) -> dict[str, Any]:
        """The JSON. Costs: CPU µs per packet delivered to a sink, all processes of a contender, the median round's.

        `samples` has them round by round; its ratios are those of neighbouring rounds.
        """
        relay, bare = self.relay.cost_us, self.bare.cost_us
        peer = self.peer.cost_us if self.peer is not None else None
        delivered = [side.counted.delivered_pct for side in self.sides]
        return {
            "cpu_us_per_packet": _rounded(relay),
            "bare_cpu_us_per_packet": _rounded(bare),
            "ratio_to_bare": _ratio(relay, bare),
            "peer": self.peer.name if self.peer is not None else None,
            "peer_cpu_us_per_packet": _rounded(peer),
            "ratio_to_peer": _ratio(relay, peer),
            "peer_lacking": self.peer_lacking or None,
            "delivered_pct": self.relay.counted.delivered_pct,
            "bare_delivered_pct": self.bare.counted.delivered_pct,
            "peer_delivered_pct": self.peer.counted.delivered_pct if self.peer is not None else None,
            "claimable": min(delivered) >= DELIVERED_MIN_PCT and None not in (relay, bare, peer),
            "syscalls_per_packet": self._syscalls(),
            **self.relay.counted.delays_us(),
            "subscribers": self.shape.subscribers,
            "pps": self.shape.pps,
            "size": self.shape.size,
            "frame": self.shape.frame_sent,
            "mode": self.shape.mode,
            "sinks_gro": self.shape.gro,
            "seconds": self.seconds,
            "rounds": self.rounds,
            "samples": self._samples(),
            "ssrc": self.shape.ssrc,
            "limited_by": self.relay.limited_by(),
            "counters": {word: count for word, count in self.relay.counters.items() if count},
            "sides": {
                "relay": self.relay.figures(),
                "bare": self.bare.figures(),
                "peer": self.peer.figures() if self.peer is not None else None,
            },
            "fingerprint": fingerprint(),
        }

    def _samples(self) -> dict[str, list[float]]:
        costs = {"": self.relay.cpu_us_per_packet, "bare_": self.bare.cpu_us_per_packet}
        if self.peer is not None:
            costs["peer_"] = self.peer.cpu_us_per_packet
        made = {f"{whose}cpu_us_per_packet": rounds for whose, rounds in costs.items()}
        for whose in costs.keys() - {""}:
            pairs = zip(costs[""], costs[whose], strict=False)  # a round that delivered nothing has no cost
            made[f"ratio_to_{whose[:-1]}"] = [cost / other for cost, other in pairs if other]
        return {name: [round(value, 4) for value in values] for name, values in made.items() if values}

    def _syscalls(self) -> float | None:
        calls = sum(count for word, count in self.relay.counters.items() if word.startswith("sys_"))
        calls += self.relay.counters.get("wakes", 0)
        return round(calls / self.relay.counted.good, 5) if self.relay.counted.good else None


def _rounded(cost: float | None) -> float | None:
    return None if cost is None else round(cost, 4)


def _ratio(cost: float | None, other: float | None) -> float | None:
    return None if cost is None or not other else round(cost / other, 4)


def rounds_of(seconds: float) -> tuple[int, float]:
    """How many rounds, and how long each."""
    rounds = max(1, min(_ROUNDS_MAX, int(seconds / _ROUND_S + 1e-9)))
    return rounds, seconds / rounds


async def duel(
    shape: Shape,
    seconds: float,
    relay: Contender,
    bare: Contender,
    peer: Contender,
    say: Say,
    *,
    far: Veth | None = None,
) -> Outcome:
    """All three under the same traffic, `seconds` each; sinks on loopback, or at the `far` end.

    RuntimeError, OSError, TimeoutError when one does not start.
    """
    rounds, length = rounds_of(seconds)
    lacking = peer.lacking()
    contenders = [relay, bare] + ([] if lacking else [peer])
    sides = [Side(contender.name) for contender in contenders]
    async with AsyncExitStack() as stack:
        traffics = []
        for contender in contenders:
            say(f"starting {contender.name}")
            traffic = Traffic(shape) if far is None else far.inside(lambda: Traffic(shape, THERE))
            await stack.enter_async_context(contender)
            traffic.aim(await contender.start(traffic.subscribers()))
            await _in_thread(traffic, traffic.warm_up, min(STEADY_S, seconds / 3))
            traffics.append(traffic)
        for number in range(rounds):
            for contender, traffic, side in zip(contenders, traffics, sides, strict=True):
                say(f"round {number + 1} of {rounds}: {contender.name}")
                await measure(contender, traffic, side, length)
    return Outcome(shape, seconds, rounds, sides[0], sides[1], None if lacking else sides[2], lacking)


async def measure(contender: Contender, traffic: Traffic, side: Side, seconds: float) -> Counted:
    """One round, added to the side: costs are from before the first packet to after the last."""
    counters_0, drops_0 = await contender.counters() or {}, socket_drops(contender.ports)
    machine = Machine()
    cpu_0 = {label: cpu_ns(pid) for label, pid in contender.pids.items()}
    counted: Counted = await _in_thread(traffic, traffic.round, seconds)
    cpu = {label: cpu_ns(pid) - cpu_0[label] for label, pid in contender.pids.items()}
    side.machine_busy_pct = max(side.machine_busy_pct, machine.busy_pct())
    side.drops += socket_drops(contender.ports) - drops_0
    for word, count in (await contender.counters() or {}).items():
        side.counters[word] = side.counters.get(word, 0) + count - counters_0.get(word, 0)
    if counted.good and cpu:
        side.cpu_us_per_packet.append(sum(cpu.values()) / 1000 / counted.good)
    for label, ns in cpu.items():
        side.cpu_ns[label] = side.cpu_ns.get(label, 0) + ns
    side.counted = side.counted.plus(counted)
    return counted


async def _in_thread(traffic: Traffic, work: Callable[..., Any], *arguments: float) -> Any:
    """The work in a thread; cancelled, it ends the traffic first, for a thread cannot be left behind."""
    running = asyncio.ensure_future(asyncio.to_thread(work, *arguments))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        traffic.stop()
        await asyncio.wait({running})
        raise
