"""What `zrelay bench aging` calls growing, and what it calls lost."""

from __future__ import annotations

import asyncio
import random
import socket

import pytest
from click.testing import CliRunner

from relay.bench.aging import Sample, aging, findings, trends
from relay.bench.churn import Counts, Sink, Source
from relay.bench.trend import Trend

HOURS = [at / 240 for at in range(240)]


def trend(values: list[float], hours: list[float] = HOURS, slack: float = 512.0) -> Trend:
    return Trend.of("data_kib", "KiB", hours, values, 64.0, slack)


def test_noise_is_flat_and_a_leak_in_it_grows() -> None:
    rng = random.Random(1)
    noise = [70_000 + rng.gauss(0, 40) for _ in HOURS]
    assert trend(noise).word == "flat"
    assert trend([value + 500 * at for value, at in zip(noise, HOURS, strict=True)]).word == "grows"


def test_a_leak_in_steps_grows_and_steps_that_go_back_do_not() -> None:
    """Memory comes in chunks, and samples between two chunks are no independent witnesses."""
    assert trend([70_000 + 256 * (at // 10) for at in range(240)]).word == "grows"
    rng, level, walk = random.Random(6), 0.0, []
    for at in range(240):
        level = rng.choice((0.0, 256.0)) if at % 20 == 0 else level
        walk.append(70_000 + level)
    assert trend(walk).word != "grows"


def test_a_short_run_forgives_a_warm_up_and_does_not_claim_to_know() -> None:
    short = [at / 3600 for at in range(60)]
    rise = [70_000 + 5.0 * at for at in range(60)]  # 300 KiB in a minute: 18 MiB an hour, were it to go on
    assert trend(rise, short).word == "too short to tell"
    assert trend(rise, short, slack=100).word == "grows"
    assert trend(rise, [at / 60 for at in range(60)]).word == "grows"
    assert trend([70_000.0] * 60, short).word == "flat"


def test_only_what_was_measured_gets_a_line() -> None:
    samples = [Sample(at / 100, 7e4, 1e5, 100, 50, 9, None, None) for at in range(10)]
    assert {t.name for t in trends(samples)} == {"data_kib", "python_kib", "files", "sockets", "threads"}
    assert {t.word for t in trends(samples)} == {"flat"}
    assert trends(samples[:2]) == []


def test_each_kind_of_trouble_is_a_finding() -> None:
    flat = trends([Sample(at / 100, 7e4, 1e5, 100, 50, 9, 0.2, 0.9) for at in range(10)])
    growing = trends([Sample(at / 10, 7e4, 1e5, 100 + at, 50, 9, 0.2, 0.9) for at in range(10)])
    assert findings(Counts(expected=9), flat, {"streams": 0}) == []
    for counts, found, left, word in (
        (Counts(expected=9, lost=1), flat, {}, "1 packets lost"),
        (Counts(expected=9, repeated=1), flat, {}, "1 packets repeated"),
        (Counts(expected=9, foreign=2), flat, {}, "2 packets foreign"),
        (Counts(expected=9, failed=3), flat, {}, "3 calls failed"),
        (Counts(), flat, {}, "not one packet"),
        (Counts(expected=9), growing, {}, "files grows by"),
        (Counts(expected=9), [], {}, "too short for a line"),
        (Counts(expected=9), flat, {"streams": 2}, "left behind: 2 streams"),
    ):
        assert any(word in finding for finding in findings(counts, found, left)), word


def test_a_sink_counts_what_is_missing_repeated_or_not_its_own() -> None:
    async def scenario() -> Counts:
        counts = Counts()
        sink = Sink(7, counts)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            mine, other = Source(sock, sink.port, 7, 100), Source(sock, sink.port, 8, 100)
            for number in (0, 1, 2, 4, 4, 5):
                mine.number = number
                mine.send()
            other.send()
            sock.sendto(b"\x80\xc8" + bytes(26), ("127.0.0.1", sink.port))  # RTCP
            sock.sendto(b"short", ("127.0.0.1", sink.port))
        async with asyncio.timeout(20):
            while counts.foreign < 2:  # the last of them
                await asyncio.sleep(0.005)
        sink.settle(1, 6)
        sink.close()
        return counts

    counts = asyncio.run(scenario())
    assert (counts.expected, counts.delivered, counts.lost, counts.repeated, counts.foreign) == (5, 4, 1, 1, 2)
    delays = counts.take_delays()
    assert len(delays) == 6
    assert all(0 <= delay < 1_000_000 for delay in delays)
    assert len(counts.take_delays()) == 0


@pytest.mark.parametrize(
    "words", [["--hours", "0"], ["--life", "inf"], ["--relays", "9"], ["--hours", "nan"], ["--pps", "0"]]
)
def test_bad_options_are_usage_errors(words: list[str]) -> None:
    assert CliRunner().invoke(aging, words).exit_code == 2
