"""/metrics of a real relay: the text parses, every lane is there, and what is counted is true."""

from __future__ import annotations

import asyncio

import pytest
from prometheus_client.parser import text_string_to_metric_families

from relay import __version__, _core
from relay.client import Client
from relay.dev import DevMesh
from relay.links import RTT_BOUNDS_S, LinkFacts
from relay.metrics import Facts, PageCollector, exposition, percentile
from tests.net.rtp import Sender, Sink, publish_body

pytestmark = pytest.mark.net

PACKETS = 25
Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def samples(text: str) -> Samples:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def summed(parsed: Samples, name: str, **labels: str) -> float:
    return sum(value for (known, at), value in parsed.items() if known == name and labels.items() <= dict(at).items())


async def carried(relay: Client) -> str:
    """The exposition after PACKETS packets from a known publisher and three from another address."""
    sink, sender, stranger = await Sink.open(), Sender(), Sender()
    try:
        answer = await relay.put("/v1/streams/cam", publish_body())
        port = int(answer["ingress"]["address"].rpartition(":")[2])
        await relay.put("/v1/streams/cam/subscribers/me", {"address": f"127.0.0.1:{sink.port}"})
        for seq in range(PACKETS):
            sender.send(port, 7, seq)
        async with asyncio.timeout(20):
            while len(sink.numbers[7]) < PACKETS:
                await asyncio.sleep(0.01)
            for seq in range(3):
                stranger.send(port, 7, PACKETS + seq)
            while (await relay.get("/v1/status"))["drops"].get("source") != 3:
                await asyncio.sleep(0.01)
        text: str = await relay.get("/metrics")
        return text
    finally:
        for end in (sink, sender, stranger):
            end.close()


async def test_the_exposition_parses_and_says_what_happened() -> None:
    async with DevMesh(2, workers=2) as mesh, mesh.client("bj-1") as relay:
        parsed = samples(await carried(relay))
    assert parsed["zrelay_build_info", (("version", __version__),)] == 1
    assert parsed["zrelay_ready", ()] == 1
    assert parsed["zrelay_link_up", (("peer", "sh-1"),)] == 1
    assert parsed["zrelay_streams", (("role", "local"), ("state", "live"))] == 1
    for worker in "01":
        assert parsed["zrelay_worker_up", (("worker", worker),)] == 1
        assert parsed["zrelay_worker_restarts_total", (("worker", worker),)] == 0
    assert summed(parsed, "zrelay_media_accepted_total") == PACKETS
    assert summed(parsed, "zrelay_fan_sent_total") == PACKETS
    assert summed(parsed, "zrelay_udp_dropped_packets_total", reason="source") == 3
    assert summed(parsed, "zrelay_udp_dropped_packets_total", direction="media") == 3
    assert summed(parsed, "zrelay_sessions_discarded_total") == 0
    agreed = [summed(parsed, "zrelay_handshakes_total", event=f"agreed_{who}") for who in ("initiator", "responder")]
    assert sum(agreed) >= 1
    assert summed(parsed, "zrelay_handshakes_total", event="begun") >= 1
    age = "zrelay_packet_age_seconds"
    assert summed(parsed, f"{age}_bucket", le="+Inf") == summed(parsed, f"{age}_count")


def test_a_links_probes_are_there_under_the_names_of_the_dashboards() -> None:
    counts = [n // 2 for n in range(len(RTT_BOUNDS_S) + 1)]
    link = LinkFacts("sh-1", 0.0, 0.0, 0.001, -0.25, 1500, 0, counts, 0.125, answered=counts[-1], unanswered=2)
    facts = Facts("1", 0.0, True, {}, {}, {}, {}, {}, {}, probed=[link, link._replace(peer="gz-1", offset_s=None)])
    parsed = samples(exposition(PageCollector(lambda: [], lambda: facts)).decode())
    peer = ("peer", "sh-1")
    for name in ("zrelay_probe_rtt_seconds", "zrelay_link_rtt_seconds"):
        assert parsed[f"{name}_count", (peer,)] == counts[-1]
        assert parsed[f"{name}_sum", (peer,)] == 0.125
    results = [parsed["zrelay_probe_total", (peer, ("result", result))] for result in ("answered", "unanswered")]
    assert results == [counts[-1], 2]
    offsets = {key: value for key, value in parsed.items() if key[0] == "zrelay_clock_offset_seconds"}
    assert offsets == {("zrelay_clock_offset_seconds", (peer,)): -0.25}


async def test_every_counter_and_drop_word_of_the_core_is_exported() -> None:
    async with DevMesh(1) as mesh, mesh.client("bj-1") as relay:
        text = await relay.get("/metrics")
    reasons = {(dict(labels)["direction"], dict(labels)["reason"]) for (name, labels) in samples(text)
               if name == "zrelay_udp_dropped_packets_total"}  # fmt: skip
    kernel = {("link", "rcvbuf"), ("media", "rcvbuf"), ("rtcp", "rcvbuf")}
    assert reasons == {(ledger, word) for _, ledger, word, _ in _core.DROPS} | kernel
    helps = "\n".join(line for line in text.splitlines() if line.startswith("# HELP"))
    lanes = {dict(labels)["worker"] for (name, labels) in samples(text) if name == "zrelay_media_accepted_total"}
    assert lanes == {"0", "agent"}
    assert helps.count("zrelay_media_accepted_total") == 1


@pytest.mark.parametrize(
    ("buckets", "share", "value"),
    [([], 0.5, None), ([(1, 1)], 0.99, 1), ([(1, 50), (2, 49), (9, 1)], 0.5, 1), ([(1, 50), (2, 49), (9, 1)], 0.99, 2),
     ([(1, 50), (2, 49), (9, 1)], 1.0, 9)],
)  # fmt: skip
def test_a_percentile_is_the_floor_of_the_bucket_that_holds_it(
    buckets: list[tuple[int, int]], share: float, value: int | None
) -> None:
    assert percentile(buckets, share) == value
