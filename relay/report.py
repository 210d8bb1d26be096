"""A relay's state as one map, the body of GET /v1/status, and a link's. relay/status.py makes a screen of the first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from relay import _core
from relay.control import Control
from relay.errors import Problem
from relay.handles import WorkerHandle
from relay.links import path_row
from relay.links import row as probed_row
from relay.metrics import percentile
from relay.traffic import Traffic
from relay.units import Address
from relay.views import LinkView

HISTS = ("hop_delay_us", "age_us", "forward_us")
LOSS_SENT_MIN = 64  # segments: loss drawn from fewer is what the engine assumed, not what it saw


def lanes_report(workers: Sequence[WorkerHandle], agent: _core.StatPage, now: int) -> dict[str, Any]:
    """What the counter pages say: sums over all lanes, and each worker by itself. `now` in ns."""
    totals: dict[str, int] = {}
    ledgers: dict[str, int] = {}
    drops: dict[str, int] = {}
    hists: dict[str, dict[int, int]] = {name: {} for name in HISTS}
    rows = []
    for handle, page in [*((handle, handle.page) for handle in workers), (None, agent)]:
        stats, dropped, off_by = page.counts()
        for name, kind, _, _ in _core.STATS:
            if kind == "c":
                totals[name] = totals.get(name, 0) + stats[name]
        for name, off in off_by.items():
            ledgers[name] = ledgers.get(name, 0) + abs(off)
        for name, count in dropped.items():
            if count:
                drops[name] = drops.get(name, 0) + count
        for name, merged in hists.items():
            for floor, count in page.hist(name):
                merged[floor] = merged.get(floor, 0) + count
        if handle is not None:
            rows.append(_worker_row(handle, stats, now))
    return {
        "workers": rows, "totals": totals, "ledgers": ledgers, "drops": drops,
        "hop_delay_ms": _percentiles(hists["hop_delay_us"]), "age_ms": _percentiles(hists["age_us"]),
        "forward_ms": _percentiles(hists["forward_us"]),
    }  # fmt: skip


def look_at(traffic: Traffic, control: Control, now: int) -> None:
    """At what every listed peer was sent and sent us."""
    links = control.links()
    traffic.keep(link.peer for link in links)
    for link in links:
        traffic.look(link.peer, link.slot, now)


def control_report(
    control: Control, lane: _core.ControlLane, now: int, traffic: Traffic | None = None
) -> dict[str, Any]:
    """Links, and how many streams are in which state."""
    if traffic is not None:
        look_at(traffic, control, now)
    streams: dict[str, int] = {}
    for (state, _), count in control.stream_counts().items():
        streams[state] = streams.get(state, 0) + count
    links = []
    for link in control.links():
        row = {"peer": link.peer, "state": link.state, "address": link.address, "rtt_ms": link.rtt_ms}
        row |= {"loss_pct": None, "queue_ms": None}
        if link.closed_until > now:  # for violations
            row["closed_ms"] = (link.closed_until - now) // 1_000_000
        row |= {"delay_in_ms": None, "delay_out_ms": None, "delay_error_ms": None}
        estimates = lane.estimates(link.slot) if link.slot is not None else None
        if estimates is not None and estimates["srtt_ms"] > 0:  # something was acknowledged
            row["queue_ms"] = estimates["queue_ms"]
        loss = loss_of(link, lane)
        if loss is not None:
            row["loss_pct"] = loss * 100
        counted = traffic.row(link.peer) if traffic is not None else {}
        links.append(row | link_row(link, lane, now) | counted)
    return {"links": links, "streams": streams}


def link_report(
    control: Control, lane: _core.ControlLane, peer: str, since: int, now: int, traffic: Traffic
) -> dict[str, Any]:
    """All of one link; round trips from number `since` on. Raises 404."""
    rows = control_report(control, lane, now, traffic)["links"]
    found = next((row for row in rows if row["peer"] == peer), None)
    if found is None:
        known = ", ".join(row["peer"] for row in rows) or "none"
        raise Problem(404, "not-found", "No such peer", f"{peer}: the peers of this relay are: {known}")
    slot = next((link.slot for link in control.links() if link.peer == peer), None)
    trips = lane.round_trips(slot, since) if slot is not None else []
    reported = control.linked.rtt_ms_of(peer, now)
    history = control.linked.history(peer)
    return {**found, "neighbours_rtt_ms": reported, "round_trips_us": trips, "history": history}


def link_row(link: LinkView, lane: _core.ControlLane, now: int) -> dict[str, Any]:
    """What the probes of the session know; only what is known."""
    view = lane.probe(link.slot, now) if link.slot is not None else None
    if link.slot is None or view is None:
        return {}
    known = probed_row(view, lane.round_trips(link.slot), now)
    paths = lane.paths(link.slot)
    if len(paths) > 1:
        known["paths"] = [path_row(path, str(Address.unpack(path["addr"]))) for path in paths]
    return {name: value for name, value in known.items() if value is not None}


def loss_of(link: LinkView, lane: _core.ControlLane) -> float | None:
    """Loss towards the peer, 0 to 1, as its control messages met it; None while there were too few."""
    estimates = lane.estimates(link.slot) if link.slot is not None else None
    if estimates is None or estimates["sent"] < LOSS_SENT_MIN:
        return None
    return estimates["loss_ppm"] / 1e6


def _worker_row(handle: WorkerHandle, stats: dict[str, int], now: int) -> dict[str, Any]:
    page = handle.page
    return {
        "worker": handle.index, "up": handle.up, "pid": page.pid, "generation": page.generation,
        "restarts": handle.restarts, "streams": stats["streams"], "subscribers": stats["subs"],
        "started_ns": page.started_ns,
        "busy_pct": round(stats["busy_ns"] / max(1, now - page.started_ns) * 100, 2), "stats": stats,
    }  # fmt: skip


def _percentiles(hist: dict[int, int]) -> dict[str, float | None]:
    buckets = sorted(hist.items())

    def at(share: float) -> float | None:
        value = percentile(buckets, share)
        return None if value is None else value / 1000

    return {"p50": at(0.5), "p99": at(0.99), "max": at(1.0)}
