"""A run on a virtual clock: the product's objects and the link model in one loop, ten minutes in seconds."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from relay._bench import NEVER, Path, Tally
from relay.bench.case import Case
from relay.bench.ends import pair
from relay.bench.figures import Run
from relay.units import NS_PER_S, Address

START_NS = NS_PER_S
_CROSS_BYTES = 1200
_TURN_NS = 1_000  # what an instant costs when an end asks to be called again at once
_AGAIN_MAX = 100_000

_A, _B = Address("127.0.0.1", 5001), Address("127.0.0.1", 6001)


class StuckError(RuntimeError):
    """An end asks again and again to be called at once, and does nothing."""


def run(case: Case, which: int = 0, progress: Callable[[float], None] | None = None) -> Run:
    """Run number `which` of the case, with seeds of its own; `progress` gets the virtual seconds gone, once each.

    All packets of a frame leave at one instant; all that arrives at one instant is one batch. The engine is told
    nothing about the link.
    """
    tally = Tally(case.packets, size=case.size, frame=case.frame, deadline_ns=case.deadline_ns)
    forward, reverse = _paths(case, which)
    a, b = pair(case, tally, _B, _A, START_NS)
    crossing = _crossing(case)
    frames = -(-case.packets // case.frame)

    now, end, frame, again, told = START_NS, START_NS + case.span_ns, 0, 0, 0
    send_at = START_NS
    cross_at = next(crossing, NEVER)
    a_at = b_at = START_NS
    while now < end:
        count = 0
        if now >= cross_at:
            forward.cross(bytes(_CROSS_BYTES), now)
            cross_at = next(crossing, NEVER)
        if now >= send_at:
            count = min(case.frame, case.packets - tally.sent)
            frame += 1
            send_at = START_NS + case.frame_at_ns(frame) if frame < frames else NEVER
        if count or a_at <= now or reverse.deadline() <= now:
            a.turn(reverse, forward, count, now)
            a_at = a.deadline()
        if b_at <= now or forward.deadline() <= now:
            b.turn(forward, reverse, 0, now)
            b_at = b.deadline()
        due = min(send_at, cross_at, a_at, b_at, forward.deadline(), reverse.deadline(), end)
        again = again + 1 if due <= now else 0
        if again > _AGAIN_MAX:
            raise StuckError(f"at {(now - START_NS) / NS_PER_S:.6f} s: a {a_at - now} ns, b {b_at - now} ns")
        now = max(due, now + _TURN_NS)
        if progress is not None and (second := (now - START_NS) // NS_PER_S) > told:
            progress(second - told)
            told = second
    return Run.of(
        case,
        tally,
        START_NS,
        (forward.put_bytes, forward.put_datagrams),
        (reverse.put_bytes, reverse.put_datagrams),
        forward.by_second(),
        {"sender": a.counts(), "receiver": b.counts(), "forward": forward.counts(), "reverse": reverse.counts()},
    )


def _paths(case: Case, which: int) -> tuple[Path, Path]:
    dark = {}
    if case.blackout is not None:
        dark = {"dark_from": START_NS + case.blackout.start_ns, "dark_until": START_NS + case.blackout.end_ns}
    seeds = case.seeds(which)
    common = {"delay_ns": case.delay_ns, "packets_max": case.link_packets, **dark}
    forward = Path(
        START_NS,
        case.span_s,
        loss=case.loss,
        burst=case.burst,
        rate_bps=case.rate_bps,
        queue_bytes=case.queue_bytes,
        seed=seeds[0],
        **common,
    )
    return forward, Path(START_NS, case.span_s, loss=case.rloss, burst=case.burst, seed=seeds[1], **common)


def _crossing(case: Case) -> Iterator[int]:
    """When the second sender's datagrams leave."""
    if case.cross is None:
        return
    every = _CROSS_BYTES * 8 * NS_PER_S // case.cross.rate_bps
    yield from range(START_NS + case.cross.span.start_ns, START_NS + case.cross.span.end_ns, every)
