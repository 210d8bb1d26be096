"""What runs of the link benchmark come to: one JSON object and one table, of one run or of several summed."""

from __future__ import annotations

import math
from array import array
from dataclasses import dataclass
from typing import Any

from relay._bench import Tally
from relay.bench.case import Case

_MS = 1e6
_OVERSLEPT_SHARE = 0.01  # of the packets
_DELAYS = {"p50": "p50_ms", "p99": "p99_ms", "p99.9": "p999_ms", "max": "max_ms"}


@dataclass
class Run:
    """What one run counted. Bytes are UDP payload, whatever headers they carry; delays microseconds."""

    sent: int
    delivered: int  # by the deadline
    late: int
    duplicates: int
    forward: tuple[int, int]  # bytes, datagrams
    reverse: tuple[int, int]
    delays_us: array[int]
    heal_ns: int | None  # from the end of the blackout to the first packet sent after it
    seconds: list[tuple[int, int, int]]  # sent, missing, forward bytes, of each
    counts: dict[str, dict[str, Any]]

    @classmethod
    def of(
        cls,
        case: Case,
        tally: Tally,
        start_ns: int,
        forward: tuple[int, int],
        reverse: tuple[int, int],
        forward_by_second: list[int],
        counts: dict[str, dict[str, Any]],
    ) -> Run:
        by_second = tally.by_second(start_ns, len(forward_by_second))
        healed = None
        if case.blackout is not None:
            light_ns = start_ns + case.blackout.end_ns
            first_ns = tally.first_after(light_ns)
            healed = None if first_ns is None else first_ns - light_ns
        return cls(
            sent=tally.sent,
            delivered=tally.delivered,
            late=tally.late,
            duplicates=tally.duplicates,
            forward=forward,
            reverse=reverse,
            delays_us=tally.delays_us(),
            heal_ns=healed,
            seconds=[(*row, size) for row, size in zip(by_second, forward_by_second, strict=True)],
            counts=counts,
        )


def percentile_ms(ordered_us: list[int], share: float) -> float | None:
    """Nearest rank; None of nothing."""
    if not ordered_us:
        return None
    return ordered_us[max(0, math.ceil(share * len(ordered_us)) - 1)] / 1000


def figures(case: Case, runs: list[Run], *, virtual: bool, series: bool = False) -> dict[str, Any]:
    """The JSON of the runs of one case, summed; `overhead` and `reverse` are per byte of RTP."""
    sent = sum(run.sent for run in runs)
    delivered = sum(run.delivered for run in runs)
    rtp_bytes = sent * case.size
    ordered = sorted(us for run in runs for us in run.delays_us)
    heals = [run.heal_ns for run in runs]
    made: dict[str, Any] = {
        "engine": case.engine,
        "virtual": virtual,
        "seeds": len(runs),
        "seed": case.seed,
        "seconds": case.seconds,
        "pps": case.pps,
        "size": case.size,
        "frame": case.frame,
        "delay_ms": case.delay_ns / _MS,
        "loss": case.loss,
        "rloss": case.rloss,
        "burst": case.burst,
        "deadline_ms": case.deadline_ns / _MS,
        "sent": sent,
        "delivered": delivered,
        "missing": sent - delivered,
        "missing_pct": round(100 * (sent - delivered) / sent, 6),
        "late": sum(run.late for run in runs),
        "duplicates": sum(run.duplicates for run in runs),
        "overhead": round(sum(run.forward[0] for run in runs) / rtp_bytes, 5),
        "reverse": round(sum(run.reverse[0] for run in runs) / rtp_bytes, 5),
        "p50_ms": percentile_ms(ordered, 0.5),
        "p99_ms": percentile_ms(ordered, 0.99),
        "p999_ms": percentile_ms(ordered, 0.999),
        "max_ms": percentile_ms(ordered, 1.0),
        "forward_datagrams": sum(run.forward[1] for run in runs),
        "reverse_datagrams": sum(run.reverse[1] for run in runs),
        "counts": {name: _sum([run.counts[name] for run in runs]) for name in runs[0].counts},
    }
    if case.engine == "stock":
        made["wheel"] = case.wheel
    if case.rate_bps:
        made |= {"rate_bps": case.rate_bps, "queue_bytes": case.queue_bytes}
    if case.blackout is not None:
        worst = None if None in heals else max(ns for ns in heals if ns is not None) / _MS
        made |= {"blackout_s": [ns / 1e9 for ns in case.blackout], "heal_ms": worst}
    made["limited_by"] = _limited_by(made)
    if series:
        made["series"] = _series(case, runs)
    return made


def _limited_by(made: dict[str, Any]) -> str:
    """What of this machine, and not of the link, may have made the figures worse."""
    if made["virtual"]:
        return "nothing: time is the model's own"
    ends = [made["counts"].get(name, {}) for name in ("sender", "receiver")]
    unsent, overslept = (sum(end.get(word, 0) for end in ends) for word in ("unsent", "overslept"))
    found = []
    if unsent:
        found.append(f"its sockets ({unsent} datagrams not taken)")
    if overslept > _OVERSLEPT_SHARE * made["sent"]:
        found.append(f"this machine's CPUs ({overslept} turns began late)")
    return ", ".join(found) or "nothing"


def _sum(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Counters of several runs; a counter that is a table is summed key by key."""
    total: dict[str, Any] = {}
    for row in rows:
        for name, value in row.items():
            total[name] = _sum([total.get(name, {}), value]) if isinstance(value, dict) else total.get(name, 0) + value
    return total


def _series(case: Case, runs: list[Run]) -> list[dict[str, Any]]:
    """Second by second, over all runs; no overhead in a second in which nothing was sent."""
    rows = []
    for second, seen in enumerate(zip(*(run.seconds for run in runs), strict=True)):
        sent, missing, size = (sum(values) for values in zip(*seen, strict=True))
        overhead = round(size / (sent * case.size), 4) if sent else None
        rows.append({"second": second, "sent": sent, "missing": missing, "bytes": size, "overhead": overhead})
    return rows


def table(made: dict[str, Any]) -> list[tuple[str, str]]:
    """The rows for a person: what was asked, what came of it."""

    def ms(key: str) -> str:
        return "-" if made[key] is None else f"{made[key]:.1f} ms"

    clock = "virtual clock" if made["virtual"] else "real sockets"
    lost = f"{made['loss']:.1%} forward, {made['rloss']:.1%} reverse"
    burst = f", in bursts of {made['burst']:g}" if made["burst"] > 1 else ""
    percent = f"{made['missing_pct']:g} % at {made['deadline_ms']:g} ms"
    rows = [
        ("engine", f"{made['engine']} ({clock})"),
        ("stream", f"{made['pps']} packets/s x {made['size']} B in frames of {made['frame']}"),
        (
            "link",
            f"{made['delay_ms']:g} ms one way, lost {lost}{burst}",
        ),
        ("sent", f"{made['sent']} in {made['seeds']} x {made['seconds']:g} s"),
        ("missing", f"{made['missing']} = {percent} ({made['late']} late)"),
        ("duplicates", str(made["duplicates"])),
        ("overhead", f"{made['overhead']:.3f}"),
        ("reverse", f"{made['reverse']:.3f}"),
        ("delay", ", ".join(f"{name} {ms(key)}" for name, key in _DELAYS.items())),
    ]
    if "heal_ms" in made:
        rows.append(("heal", ms("heal_ms")))
    return rows
