"""Prometheus metrics: one collector that reads the counter pages when it is asked, and keeps no numbers of its own.

Every counter of ``ZR_STAT_LIST`` becomes a metric. The usual ones have their field's standard names (``_NAMED``); any
other is ``zrelay_<name>``, so that a new counter is visible without a line here. Labels are bounded: worker, direction,
call, kind, reason.

Of a link (label peer): up, flaps, round trips, losses, jitter, mtu, probes, clock offset, and over all lanes what was
sent and received in datagrams, bytes and payload (relay/traffic.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeAlias

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from relay import _core
from relay.links import RTT_BOUNDS_S, LinkFacts
from relay.traffic import Counts


class Named(NamedTuple):
    """Where a counter goes: family, extra labels, factor to base units."""

    family: str
    labels: dict[str, str]
    factor: float = 1.0


_NAMED = {
    "rx_link": Named("zrelay_udp_packets", {"direction": "in"}),
    "tx_sent": Named("zrelay_udp_packets", {"direction": "out"}),
    "rx_link_bytes": Named("zrelay_udp_bytes", {"direction": "in"}),
    "tx_bytes": Named("zrelay_udp_bytes", {"direction": "out"}),
    "sys_recvmmsg": Named("zrelay_udp_syscalls", {"call": "recvmmsg"}),
    "sys_sendmmsg": Named("zrelay_udp_syscalls", {"call": "sendmmsg"}),
    "sys_epoll": Named("zrelay_udp_syscalls", {"call": "epoll_wait"}),
    "busy_ns": Named("zrelay_worker_busy_seconds", {}, 1e-9),
    "turn_ns_max": Named("zrelay_worker_turn_max_seconds", {}, 1e-9),
    "tx_blocked": Named("zrelay_udp_send_blocked", {}),
    "link_rcvbuf": Named("zrelay_udp_socket_buffer_bytes", {"socket": "link", "direction": "in"}),
    "link_sndbuf": Named("zrelay_udp_socket_buffer_bytes", {"socket": "link", "direction": "out"}),
    "egress_rcvbuf": Named("zrelay_udp_socket_buffer_bytes", {"socket": "egress", "direction": "in"}),
    "egress_sndbuf": Named("zrelay_udp_socket_buffer_bytes", {"socket": "egress", "direction": "out"}),
    "kcp_segs_sent": Named("zrelay_kcp_segments", {"direction": "out"}),
    "kcp_segs_received": Named("zrelay_kcp_segments", {"direction": "in"}),
    "kcp_retrans_timeout": Named("zrelay_kcp_retransmitted_segments", {"kind": "timeout"}),
    "kcp_retrans_fast": Named("zrelay_kcp_retransmitted_segments", {"kind": "fast"}),
    "kcp_duplicates": Named("zrelay_kcp_duplicate_segments", {}),
}
# What the kernel dropped before we saw it stands with our own drops: counter, direction.
_KERNEL_DROPS = (("rx_lost_link", "link"), ("rx_lost_ingress", "media"), ("rx_lost_egress", "rtcp"))
_HISTOGRAMS = {
    "turn_ns": Named("zrelay_worker_turn_seconds", {}, 1e-9),
    "hop_delay_us": Named("zrelay_link_hop_delay_seconds", {}, 1e-6),
    "age_us": Named("zrelay_packet_age_seconds", {}, 1e-6),
    "rx_batch": Named("zrelay_udp_batch_packets", {"direction": "in"}),
    "tx_batch": Named("zrelay_udp_batch_packets", {"direction": "out"}),
    "tx_run": Named("zrelay_udp_run_packets", {}),
    "loop_lag_ns": Named("zrelay_worker_loop_lag_seconds", {}, 1e-9),
    "forward_us": Named("zrelay_worker_forward_seconds", {}, 1e-6),
}


LaneCounts: TypeAlias = tuple[str, dict[str, int], dict[str, int]]  # a lane's label, counters, drops: one moment's


class Facts(NamedTuple):
    """What the page does not know."""

    version: str
    started_s: float
    ready: bool
    worker_up: dict[int, bool]
    worker_restarts: dict[int, int]
    streams: dict[tuple[str, str], int]  # (state, role) -> count
    links_up: dict[str, bool]  # by peer
    links_loss: dict[str, float]  # 0 to 1, by peer, as far as it was measured
    rejected: dict[str, int]  # pulls refused, by code
    unsupported: int = 0  # control messages of types not known here
    insecure: bool = False  # links are plaintext
    map_version: int | None = None  # of the peer map; 0: none was good, None: there is none to be
    maps_refused: int = 0
    probed: Sequence[LinkFacts] = ()  # links that know their own health
    handshakes: tuple[Mapping[str, int], Mapping[str, int]] = ({}, {})  # what happened; refused by drop word
    traffic: Mapping[str, Counts] = {}  # by peer
    discarded: Mapping[str, int] = {}  # times all sessions were given up, by reason (relay/continuity.py)


class PageCollector(Collector):
    """Reads ``pages()``: pairs of a lane's label ("0", "1", ..., "agent") and its StatPage."""

    def __init__(self, pages: Callable[[], Iterable[tuple[str, _core.StatPage]]], facts: Callable[[], Facts]) -> None:
        self._pages = pages
        self._facts = facts

    def collect(self) -> Iterator[Metric]:
        """One family per metric name, one sample per lane."""
        pages = [(lane, page) for lane, page in self._pages()]
        yield from self._collect_facts()
        counts = [(lane, *page.counts()[:2]) for lane, page in pages]
        yield from _counters(counts)
        yield _drops(counts)
        yield from _histograms(pages)

    def _collect_facts(self) -> Iterator[Metric]:
        facts = self._facts()
        build = GaugeMetricFamily("zrelay_build_info", "Version of this relay; always 1", labels=["version"])
        build.add_metric([facts.version], 1)
        yield build
        yield GaugeMetricFamily("zrelay_start_time_seconds", "When the agent started, Unix time", value=facts.started_s)
        yield GaugeMetricFamily("zrelay_ready", "1 when this relay takes streams", value=float(facts.ready))
        up = GaugeMetricFamily("zrelay_worker_up", "1 while the worker runs", labels=["worker"])
        restarts = CounterMetricFamily("zrelay_worker_restarts", "Times a worker was replaced", labels=["worker"])
        for worker, is_up in facts.worker_up.items():
            up.add_metric([str(worker)], float(is_up))
            restarts.add_metric([str(worker)], facts.worker_restarts.get(worker, 0))
        yield up
        yield restarts
        streams = GaugeMetricFamily("zrelay_streams", "Streams by state and role", labels=["state", "role"])
        for (state, role), count in facts.streams.items():
            streams.add_metric([state, role], count)
        yield streams
        yield _by_reason("zrelay_admission_rejected", "Pulls of other relays refused", facts.rejected)
        yield CounterMetricFamily(
            "zrelay_messages_unsupported", "Control messages of types not known here", value=facts.unsupported
        )
        yield _by_reason("zrelay_sessions_discarded", "Times all sessions were given up", facts.discarded)
        happened, not_taken = facts.handshakes
        yield _by_label("zrelay_handshakes", "What handshakes came to (docs/keys.md)", happened, "event")
        yield _by_reason("zrelay_handshakes_refused", "Handshake datagrams refused behind the gate", not_taken)
        yield GaugeMetricFamily("zrelay_insecure", "1 while links are plaintext", value=float(facts.insecure))
        if facts.map_version is not None:
            yield GaugeMetricFamily("zrelay_peer_map_version", "Of the peer map in force", value=facts.map_version)
            refused = CounterMetricFamily(
                "zrelay_peer_maps_refused", "Maps that were not used", value=facts.maps_refused
            )
            yield refused
        links = GaugeMetricFamily("zrelay_link_up", "1 while the session with this peer is up", labels=["peer"])
        for peer, is_up in facts.links_up.items():
            links.add_metric([peer], float(is_up))
        yield links
        loss = GaugeMetricFamily(
            "zrelay_link_loss_ratio", "Loss towards this peer, as control messages measure it", labels=["peer"]
        )
        for peer, ratio in facts.links_loss.items():
            loss.add_metric([peer], ratio)
        yield loss
        yield from _links(facts.probed)
        yield from _traffic(facts.traffic)


def _by_label(name: str, text: str, counts: Mapping[str, int], label: str) -> CounterMetricFamily:
    family = CounterMetricFamily(name, text, labels=[label])
    for value, count in counts.items():
        family.add_metric([value], count)
    return family


def _by_reason(name: str, text: str, counts: Mapping[str, int]) -> CounterMetricFamily:
    return _by_label(name, text, counts, "reason")


def _links(links: Sequence[LinkFacts]) -> Iterator[Metric]:
    rtt = HistogramMetricFamily("zrelay_link_rtt_seconds", "Round trips of probes to this peer", labels=["peer"])
    probe_rtt = HistogramMetricFamily("zrelay_probe_rtt_seconds", "As zrelay_link_rtt_seconds", labels=["peer"])
    probes = CounterMetricFamily("zrelay_probe", "Pings of this peer by what came of them", labels=["peer", "result"])
    offset = GaugeMetricFamily("zrelay_clock_offset_seconds", "This peer's monotonic clock minus ours", labels=["peer"])
    flaps = CounterMetricFamily("zrelay_link_flaps", "Times the link to this peer went down", labels=["peer"])
    gauges = {
        "loss_in_ratio": "Loss from this peer over the last minute",
        "jitter_seconds": "Jitter of the way from this peer",
        "mtu_bytes": "Largest IP packet that reaches this peer",
    }
    made = {name: GaugeMetricFamily(f"zrelay_link_{name}", text, labels=["peer"]) for name, text in gauges.items()}
    for link in links:
        bounds = [*(f"{bound:g}" for bound in RTT_BOUNDS_S), "+Inf"]
        for histogram in (rtt, probe_rtt):  # a link's round trips are those of its probes
            histogram.add_metric([link.peer], list(zip(bounds, link.rtt_counts, strict=True)), link.rtt_sum_s)
        probes.add_metric([link.peer, "answered"], link.answered)
        probes.add_metric([link.peer, "unanswered"], link.unanswered)
        flaps.add_metric([link.peer], link.flaps)
        made["loss_in_ratio"].add_metric([link.peer], link.loss_in)
        made["jitter_seconds"].add_metric([link.peer], link.jitter_s)
        made["mtu_bytes"].add_metric([link.peer], link.mtu)
        if link.offset_s is not None:
            offset.add_metric([link.peer], link.offset_s)
    yield from (rtt, probe_rtt, probes, offset, flaps, *made.values())


def _traffic(peers: Mapping[str, Counts]) -> Iterator[Metric]:
    for name, unit, text in (
        ("packets", "datagrams", "Datagrams of sessions with this peer: accepted, and put out"),
        ("bytes", "bytes", "UDP payload of these datagrams"),
        ("payload_bytes", "payload_bytes", "Messages in them, each once, without headers and repetition"),
    ):
        family = CounterMetricFamily(f"zrelay_link_{name}", text, labels=["peer", "direction"])
        for peer, counts in peers.items():
            family.add_metric([peer, "in"], getattr(counts, f"received_{unit}"))
            family.add_metric([peer, "out"], getattr(counts, f"sent_{unit}"))
        yield family


def _counters(counts: Sequence[LaneCounts]) -> Iterator[Metric]:
    families: dict[str, CounterMetricFamily | GaugeMetricFamily] = {}
    for name, kind, unit, help_text in _core.STATS:
        if any(name == lost for lost, _ in _KERNEL_DROPS):
            continue
        named = _NAMED.get(name, Named(f"zrelay_{name}", {}))
        family = families.get(named.family)
        if family is None:
            text = f"{help_text} ({unit})" if named.factor == 1.0 else help_text
            make = CounterMetricFamily if kind == "c" else GaugeMetricFamily
            family = families[named.family] = make(named.family, text, labels=["worker", *named.labels])
        for lane, stats, _ in counts:
            family.add_metric([lane, *named.labels.values()], stats[name] * named.factor)
    yield from families.values()


def _drops(counts: Sequence[LaneCounts]) -> CounterMetricFamily:
    family = CounterMetricFamily(
        "zrelay_udp_dropped_packets",
        "Packets not forwarded, by ledger and reason",
        labels=["worker", "direction", "reason"],
    )
    for lane, stats, drops in counts:
        for name, ledger, word, _ in _core.DROPS:
            family.add_metric([lane, ledger, word], drops[name])
        for name, direction in _KERNEL_DROPS:
            family.add_metric([lane, direction, "rcvbuf"], stats[name])
    return family


def _histograms(pages: list[tuple[str, _core.StatPage]]) -> Iterator[HistogramMetricFamily]:
    """Octaves instead of the page's eighths: 41 buckets a lane are enough for a dashboard."""
    families: dict[str, HistogramMetricFamily] = {}
    for name, _, _, help_text in _core.HISTS:
        named = _HISTOGRAMS.get(name, Named(f"zrelay_{name}", {}))
        family = families.get(named.family)
        if family is None:
            family = families[named.family] = HistogramMetricFamily(
                named.family, help_text, labels=["worker", *named.labels]
            )
        for lane, page in pages:
            octaves: dict[int, int] = {}
            total = 0.0
            for floor, count in page.hist(name):
                octaves[floor.bit_length()] = octaves.get(floor.bit_length(), 0) + count
                total += floor * count
            buckets, seen = [], 0
            for bits in range(0, 41):
                seen += octaves.get(bits, 0)
                buckets.append((f"{(1 << bits) * named.factor:.9g}", seen))
            seen = sum(octaves.values())
            family.add_metric([lane, *named.labels.values()], [*buckets, ("+Inf", seen)], total * named.factor)
    yield from families.values()


def exposition(collector: PageCollector) -> bytes:
    """The text format of Prometheus."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(collector)
    return generate_latest(registry)


def percentile(buckets: Iterable[tuple[int, int]], share: float) -> int | None:
    """The lowest value of the bucket that holds ``share`` (0..1) of a histogram's counts; None when it is empty."""
    counted = list(buckets)
    total = sum(count for _, count in counted)
    if total == 0:
        return None
    seen = 0
    for floor, count in counted:
        seen += count
        if seen >= share * total:
            return floor
    return counted[-1][0]
