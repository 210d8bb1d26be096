"""`zrelay bench ring`: every record arrives in order, and each way of waiting ends."""

from __future__ import annotations

import json
import os

import pytest
from click.testing import CliRunner

from relay._ring import Rings
from relay.bench.ring import Places, both, places, ring
from relay.errors import CoreError

SECOND = 1_000_000_000
CPUS = sorted(os.sched_getaffinity(0))
WHERE = [Places(CPUS[0], CPUS[0]), Places(CPUS[0], CPUS[-1])]


@pytest.mark.parametrize("where", WHERE, ids=["one CPU", "two CPUs"])
@pytest.mark.parametrize("burst", [1, 7])
def test_every_record_arrives_in_order(where: Places, burst: int) -> None:
    rings, records = Rings(16, 64), 20_000
    sent, got = both(
        where,
        lambda: rings.produce(records, burst, where.same, 20 * SECOND),
        lambda: rings.consume(records, where.same, 20 * SECOND),
    )
    assert sent[2] == records
    assert got[2:] == (records, 0)
    assert got[1] > sent[0]


@pytest.mark.parametrize("where", WHERE, ids=["one CPU", "two CPUs"])
@pytest.mark.parametrize("wake", [False, True], ids=["spinning", "asleep"])
def test_every_round_trip_comes_back(where: Places, wake: bool) -> None:
    rings, rounds = Rings(4, 64), 50
    (trips, writes), answered = both(
        where,
        lambda: rings.ping(rounds, where.same, wake, 100_000 if wake else 0, 20 * SECOND),
        lambda: rings.pong(rounds, where.same, wake, 20 * SECOND),
    )
    assert (len(trips), answered) == (rounds, rounds)
    assert min(trips) > 0
    assert writes <= rounds if wake else writes == 0


def test_an_end_that_is_alone_gives_up_at_its_limit() -> None:
    limit = SECOND // 20
    assert Rings(4, 8).produce(100, 1, False, limit)[2] == 4
    assert Rings(4, 8).consume(100, False, limit)[2:] == (0, 0)
    assert Rings(4, 8).pong(1, False, True, limit) == 0
    assert len(Rings(4, 8).ping(1, False, True, 0, limit)[0]) == 0


def test_sizes_out_of_range_are_refused() -> None:
    for slots, size in ((3, 64), (1, 64), (4, 4), (4, 1 << 20)):
        with pytest.raises(CoreError):
            Rings(slots, size)


def test_the_json_has_the_figures_and_says_what_limited_them() -> None:
    done = CliRunner().invoke(ring, ["--seconds", "0.2", "--json"])
    assert done.exit_code == 0, done.output
    made = json.loads(done.stdout)
    for name in ("ns_per_record", "ns_per_record_alone", "records_per_s", "crossing_p50_ns", "wake_p99_ns"):
        assert made[name] > 0, name
    assert made["limited_by"]


def test_bad_options_are_usage_errors() -> None:
    for words in (["--slots", "100"], ["--cpus", "0"], ["--cpus", "a,b"], ["--cpus", "0,9999"], ["--record", "7"]):
        assert CliRunner().invoke(ring, words).exit_code == 2, words
    with pytest.raises(ValueError, match="9999"):
        places("0,9999")
