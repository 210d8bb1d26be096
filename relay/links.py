"""What is known of each link: the probes' estimates as the API shows them, an hour of minutes, and peers' reports.

A minute is closed a minute after it began: percentiles over its own round trips, losses over its 60 seconds as the core
counts them. All of it is forgotten with the agent. Pure: views and `now` (ns) in, plain maps out.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from statistics import median
from typing import Any, NamedTuple

import msgspec

MINUTE_NS = 60_000_000_000
MINUTES = 60  # of history
RTT_MS_MAX, JITTER_MS_MAX = 10_000.0, 10_000.0
RTT_BOUNDS_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
REPORT_LINKS_MAX = 1024
REPORT_NS = 10_000_000_000  # how often we report
REPORT_AGE_NS = 30_000_000_000  # older ones say nothing

View = Mapping[str, Any]  # struct zr_probe_view, by _core.ControlLane.probe


class LinkReport(msgspec.Struct, frozen=True):
    """One link of its sender, as the sender measures it. `loss_in`, `loss_out`: 0 to 1."""

    rtt_ms: float
    loss_in: float
    loss_out: float
    jitter_ms: float = 0.0

    def refused(self) -> str | None:
        """Which value cannot be; None when all can."""
        for name, value, least, most in (
            ("rtt_ms", self.rtt_ms, 0.0, RTT_MS_MAX),
            ("loss_in", self.loss_in, 0.0, 1.0),
            ("loss_out", self.loss_out, 0.0, 1.0),
            ("jitter_ms", self.jitter_ms, 0.0, JITTER_MS_MAX),
        ):
            if not math.isfinite(value) or not least <= value <= most or (name == "rtt_ms" and value == 0.0):
                return name
        return None


class LinkFacts(NamedTuple):
    """A probed link's metrics. `rtt_counts`: cumulative, by RTT_BOUNDS_S and one for all."""

    peer: str
    loss_in: float
    loss_out: float
    jitter_s: float
    offset_s: float | None
    mtu: int
    flaps: int
    rtt_counts: list[int]
    rtt_sum_s: float
    answered: int  # pings, of all sessions so far
    unanswered: int  # of those that have had about a second


@dataclass
class _Link:
    began: int
    trips: list[int] = field(default_factory=list)  # of the minute under way, microseconds
    taken: int = 0  # samples of the core seen so far
    up_samples: int = 0
    samples: int = 0
    flaps: int = 0  # of all sessions so far
    flaps_seen: int = 0  # of the present one
    buckets: list[int] = field(default_factory=lambda: [0] * (len(RTT_BOUNDS_S) + 1))
    rtt_sum_us: int = 0
    pings: int = 0  # of all sessions so far
    unanswered: int = 0
    pings_seen: int = 0  # of the present one
    history: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=MINUTES))


class Links:
    """History of our own links, and what peers say of theirs."""

    def __init__(self) -> None:
        self._links: dict[str, _Link] = {}
        self._reports: dict[str, tuple[int, dict[str, LinkReport]]] = {}  # sender -> (when, peer -> link)

    # -- our own ----------------------------------------------------------------------------------------------------

    def taken(self, peer: str) -> int:
        """The number of the next round trip to be given to `sample`."""
        link = self._links.get(peer)
        return 0 if link is None else link.taken

    def sample(self, peer: str, view: View, trips: Sequence[int], now: int) -> None:
        """About once a second. `trips`: round trips since the last call, microseconds."""
        link = self._links.setdefault(peer, _Link(now))
        if now - link.began >= MINUTE_NS:
            self._close(link, view, now)
        if view["samples"] < link.taken:
            link.trips.clear()  # another session
            link.flaps_seen = link.pings_seen = 0
        link.taken = view["samples"]
        link.trips.extend(trips)
        link.samples += 1
        link.up_samples += bool(view["up"])
        link.flaps += max(0, view["flaps"] - link.flaps_seen)
        link.flaps_seen = view["flaps"]
        link.rtt_sum_us += sum(trips)
        for trip in trips:
            link.buckets[bisect_left(RTT_BOUNDS_S, trip / 1e6)] += 1
        link.unanswered = max(link.unanswered, link.pings - sum(link.buckets))  # of the pings before this second's
        link.pings += max(0, view["pings"] - link.pings_seen)
        link.pings_seen = view["pings"]

    def facts(self, peer: str, view: View) -> LinkFacts:
        """What /metrics says of it."""
        link = self._links.get(peer) or _Link(0)
        return LinkFacts(
            peer, view["loss_in"], view["loss_out"], view["jitter_ns"] / 1e9,
            None if view["offset_ns"] is None else view["offset_ns"] / 1e9, view["mtu"], link.flaps,
            list(accumulate(link.buckets)), link.rtt_sum_us / 1e6, sum(link.buckets), link.unanswered,
        )  # fmt: skip

    def _close(self, link: _Link, view: View, now: int) -> None:
        trips = sorted(link.trips)
        link.history.append({
            "ended_s": now // 1_000_000_000,
            "rtt_p50_ms": _ms(_at(trips, 0.5)), "rtt_p99_ms": _ms(_at(trips, 0.99)),
            "loss_in_pct": _pct(view["loss_in"]), "loss_out_pct": _pct(view["loss_out"]),
            "jitter_ms": round(view["jitter_ns"] / 1e6, 3),
            "up_pct": round(100 * link.up_samples / max(1, link.samples), 1),
        })  # fmt: skip
        link.began = now
        link.trips.clear()
        link.samples = link.up_samples = 0

    def history(self, peer: str) -> list[dict[str, Any]]:
        """Closed minutes, oldest first, at most an hour of them. `ended_s`: our monotonic clock."""
        link = self._links.get(peer)
        return [] if link is None else list(link.history)

    # -- what peers say ---------------------------------------------------------------------------------------------

    def on_report(self, sender: str, links: Any, now: int) -> str | None:
        """The `links` of a peer's report. It speaks for its own links alone: whose they are is not in it.

        Returns the drop word when it is no report; one bad value refuses it whole.
        """
        try:
            said = msgspec.convert(links, dict[str, LinkReport])
        except (msgspec.ValidationError, RecursionError):
            return "report"
        if len(said) > REPORT_LINKS_MAX or sender in said:
            return "report"
        if any(len(peer) > 256 or link.refused() for peer, link in said.items()):
            return "report"
        self._reports[sender] = (now, said)
        return None

    def rtt_ms_of(self, peer: str, now: int) -> float | None:
        """The median of what our neighbours measure to `peer`: one liar among three changes little."""
        said = [
            links[peer].rtt_ms
            for sender, (when, links) in self._reports.items()
            if peer in links and sender != peer and now - when < REPORT_AGE_NS
        ]
        return median(said) if said else None


def report_of(views: Mapping[str, View]) -> dict[str, LinkReport]:
    """What we say of our links: those that are measured."""
    return {
        peer: LinkReport(
            rtt_ms=min(max(view["srtt_us"], 1) / 1000, RTT_MS_MAX), loss_in=view["loss_in"],
            loss_out=view["loss_out"], jitter_ms=min(view["jitter_ns"] / 1e6, JITTER_MS_MAX),
        )
        for peer, view in views.items()
        if view["samples"] > 0
    }  # fmt: skip


def row(view: View, trips: Sequence[int], now: int) -> dict[str, Any]:
    """One link's numbers for the API. `trips`: the last minute's round trips, microseconds. None: not known yet."""
    sorted_trips = sorted(trips)
    measured = view["samples"] > 0
    return {
        "rtt_ms": _ms(view["srtt_us"]) if measured else None,
        "rtt_p50_ms": _ms(_at(sorted_trips, 0.5)), "rtt_p99_ms": _ms(_at(sorted_trips, 0.99)),
        "loss_in_pct": _pct(view["loss_in"]), "loss_out_pct": _pct(view["loss_out"]),
        "longest_in": view["longest_in"], "longest_out": view["longest_out"],
        "jitter_ms": round(view["jitter_ns"] / 1e6, 3),
        "queue_in_ms": round(view["queue_in_ns"] / 1e6, 3), "queue_out_ms": round(view["queue_out_ns"] / 1e6, 3),
        "offset_ms": _ns_ms(view["offset_ns"]),
        "drift_ppm": None if view["drift_ppm"] is None else round(view["drift_ppm"], 1),
        **{f"delay_{name}_ms": _ns_ms(view[f"delay_{name}_ns"]) for name in ("in", "out", "error")},
        "pings": view["pings"], "answered": view["samples"], "reordered": view["reordered"], "mtu": view["mtu"],
        "path_moves": view["moves"],
        "t_dead_ms": round(view["dead_after"] / 1e6, 1), "hears": not view["deaf"], "heard": not view["unheard"],
        "since_s": round((now - view["since"]) / 1e9, 1), "flaps": view["flaps"],
    }  # fmt: skip


def path_row(path: View, address: str) -> dict[str, Any]:
    """One of several addresses of a peer; `path`: by _core.ControlLane.paths."""
    state = "used" if path["used"] else "warm" if path["proven"] else "no answer"
    return {
        "address": address, "state": state, "rtt_ms": _ms(path["srtt_us"]) if path["srtt_us"] else None,
        "loss_pct": _pct(path["loss"]) if path["known"] else None,
    }  # fmt: skip


def path_lines(link: Mapping[str, Any]) -> list[str]:
    """A line for each address of a peer that has several."""
    return [
        f"{'':<12} {path['state']:<9} {path['address']:<22} {_one(path, 'rtt_ms', 'ms', 2):<17} "
        f"{_one(path, 'loss_pct', '%', 1)}".rstrip()
        for path in link.get("paths", ())
    ]


def table(links: Sequence[Mapping[str, Any]]) -> str:
    """What `zrelay links` prints."""
    lines = [
        "link         state     address                rtt p50/p99       one way in/out         "
        "loss in/out      jitter    mtu   T_dead   Mbit/s in/out"
    ]
    for link in links:
        lines.append(
            f"{link['peer']:<12} {link['state']:<9} {link.get('address') or '-':<22} "
            f"{_pair(link, 'rtt_p50_ms', 'rtt_p99_ms', 'ms', 2):<17} "
            f"{_one_way(link):<22} "
            f"{_pair(link, 'loss_in_pct', 'loss_out_pct', '%', 1):<16} {_one(link, 'jitter_ms', 'ms', 2):<9} "
            f"{link.get('mtu') or '-':<5} {_one(link, 't_dead_ms', 'ms', 0):<8} {_rates(link)}"
        )
        lines += path_lines(link)
    return "\n".join(lines)


def _pair(link: Mapping[str, Any], first: str, second: str, unit: str, digits: int) -> str:
    if link.get(first) is None or link.get(second) is None:
        return "-"
    return f"{link[first]:.{digits}f} / {link[second]:.{digits}f} {unit}"


def _rates(link: Mapping[str, Any]) -> str:
    if link.get("receiving_bps") is None:
        return "-"
    return f"{link['receiving_bps'] / 1e6:.3f} / {link['sending_bps'] / 1e6:.3f}"


def _one_way(link: Mapping[str, Any]) -> str:
    error = link.get("delay_error_ms")
    return "-" if error is None else f"{link['delay_in_ms']:.1f} / {link['delay_out_ms']:.1f} ±{error:.1f} ms"


def _one(link: Mapping[str, Any], key: str, unit: str, digits: int) -> str:
    return "-" if link.get(key) is None else f"{link[key]:.{digits}f} {unit}"


def _at(values: Sequence[int], share: float) -> int | None:
    return values[min(len(values) - 1, int(share * len(values)))] if values else None


def _ms(us: int | None) -> float | None:
    return None if us is None else round(us / 1000, 3)


def _ns_ms(ns: int | None) -> float | None:
    return None if ns is None else round(ns / 1e6, 3)


def _pct(share: float) -> float:
    return round(100 * share, 2)
