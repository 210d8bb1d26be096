"""`zrelay bench link` on the virtual clock: what it takes, what it answers, and that it counts right."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from click.testing import CliRunner

from relay._bench import KcpEnd, Path, Tally
from relay.bench import stock, virtual
from relay.bench.case import Case, Cross, Span
from relay.bench.figures import _limited_by, figures, percentile_ms
from relay.bench.link import link, run_all
from relay.cli import main

MS, S = 1_000_000, 1_000_000_000
ENGINES = ("media", "compat", "stock")
# KCP's header and the media header; between our relays the envelope too.
HEADERS = {"media": 24 + 16 + 32, "compat": 24 + 16, "stock": 24 + 16}


def bench(*words: str) -> dict[str, Any]:
    """The JSON of a virtual run."""
    done = CliRunner().invoke(link, ["--virtual", "--json", *words])
    assert done.exit_code == 0, done.output
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_the_json_has_what_scripts_are_promised() -> None:
    answer = bench("--seconds", "1")
    assert answer.keys() >= {
        *("sent", "delivered", "missing", "missing_pct", "late", "duplicates", "overhead", "reverse", "p50_ms"),
        *("p99_ms", "p999_ms", "max_ms", "engine", "seeds", "seed", "seconds", "pps", "size", "frame", "delay_ms"),
        *("loss", "rloss", "burst", "deadline_ms", "virtual", "counts", "wall_s", "limited_by"),
    }
    assert (answer["engine"], answer["virtual"], answer["seeds"], answer["sent"]) == ("media", True, 1, 200)


@pytest.mark.parametrize(
    ("virtual", "unsent", "overslept", "says"),
    [
        (True, 9, 900, "nothing: time is the model's own"),
        (False, 0, 10, "nothing"),
        (False, 3, 0, "its sockets (3 datagrams not taken)"),
        (False, 0, 11, "this machine's CPUs (11 turns began late)"),
    ],
)
def test_what_of_this_machine_limited_a_run_over_sockets_is_said(
    virtual: bool, unsent: int, overslept: int, says: str
) -> None:
    counts = {"sender": {"unsent": unsent}, "receiver": {"overslept": overslept}}
    assert _limited_by({"virtual": virtual, "sent": 1000, "counts": counts}) == says


@pytest.mark.parametrize("engine", ENGINES)
def test_a_clean_link_loses_nothing_and_costs_the_headers(engine: str) -> None:
    answer = bench("--engine", engine, "--seconds", "5")
    assert (answer["delivered"], answer["missing"], answer["late"], answer["duplicates"]) == (1000, 0, 0, 0)
    assert answer["overhead"] == pytest.approx(1 + HEADERS[engine] / 1200, abs=0.005)
    assert answer["p50_ms"] == pytest.approx(50, abs=0.1)


@pytest.mark.parametrize("engine", ["media", "compat"])
def test_when_all_is_over_no_packet_is_held(engine: str) -> None:
    answer = bench("--engine", engine, "--seconds", "5", "--loss", "5%", "--deadline", "3s")
    assert (answer["counts"]["sender"]["held"], answer["counts"]["receiver"]["held"]) == (0, 0)
    assert answer["counts"]["sender"]["refused"] == 0


def test_our_compat_profile_does_what_the_engine_it_is_a_twin_of_does() -> None:
    words = ("--loss", "10%", "--seconds", "30", "--deadline", "5s")
    ours, theirs = (
        bench(*words, *engine) for engine in (["--engine", "compat"], ["--engine", "stock", "--wheel", "siokcp"])
    )
    assert ours["overhead"] == pytest.approx(theirs["overhead"], abs=0.03)
    assert ours["reverse"] == pytest.approx(theirs["reverse"], abs=0.005)
    assert ours["p50_ms"] == pytest.approx(theirs["p50_ms"], abs=20)


@pytest.mark.parametrize("engine", ENGINES)
def test_the_same_seed_gives_the_same_answer(engine: str) -> None:
    words = ("--engine", engine, "--loss", "20%", "--seconds", "5", "--seeds", "2", "--series")
    first, second, other = bench(*words), bench(*words), bench(*words, "--seed", "9")
    assert first.pop("wall_s") >= 0
    assert second.pop("wall_s") >= 0
    assert first == second
    assert first["counts"] != other["counts"]


def test_runs_side_by_side_give_what_they_give_one_after_the_other() -> None:
    case = Case(loss=0.2, rloss=0.2, seconds=3)
    ways = [figures(case, run_all(case, 3, virtual=True, jobs=jobs), virtual=True, series=True) for jobs in (1, 2)]
    assert ways[0] == ways[1]


@pytest.mark.parametrize("engine", ENGINES)
def test_over_a_lossy_link_every_message_is_delivered_at_most_once(engine: str) -> None:
    answer = bench("--engine", engine, "--loss", "0.3", "--seconds", "10", "--deadline", "5s")
    assert answer["duplicates"] == 0
    assert answer["delivered"] + answer["missing"] == answer["sent"] == 2000
    assert answer["counts"]["receiver"]["broken"] == 0
    lost = answer["counts"]["forward"]["lost"] / answer["forward_datagrams"]
    assert lost == pytest.approx(0.3, abs=0.05)
    assert answer["overhead"] > 1.3


def test_the_reverse_way_is_as_lossy_as_the_forward_one_unless_told() -> None:
    same, clean = bench("--loss", "30%", "--seconds", "3"), bench("--loss", "30%", "--rloss", "0", "--seconds", "3")
    assert same["counts"]["reverse"]["lost"] > 0
    assert clean["counts"]["reverse"]["lost"] == 0
    assert (same["rloss"], clean["rloss"]) == (0.3, 0.0)


def test_nothing_arrives_where_everything_is_lost() -> None:
    answer = bench("--loss", "100%", "--seconds", "1")
    assert (answer["delivered"], answer["missing_pct"], answer["p50_ms"], answer["max_ms"]) == (0, 100.0, None, None)


def test_the_deadline_is_the_engines_too() -> None:
    short, long = (bench("--loss", "30%", "--seconds", "10", "--deadline", limit) for limit in ("160ms", "3s"))
    assert short["counts"]["sender"].get("kcp_expired", 0) > 0
    assert long["counts"]["sender"].get("kcp_expired", 0) == 0
    assert long["missing"] == 0
    assert 0 < short["missing"] < 0.3 * short["sent"]  # time for a second attempt, but hardly


def test_max_overhead_and_residual_decide_how_many_copies_are_sent() -> None:
    usual, thrifty, modest = (
        bench("--loss", "30%", "--seconds", "20", *more)
        for more in ((), ("--max-overhead", "1.1"), ("--residual", "0.05"))
    )
    copies = [answer["counts"]["sender"].get("kcp_copies", 0) for answer in (usual, thrifty, modest)]
    assert copies[1] < copies[0]
    assert copies[2] < copies[0]
    assert usual["missing"] == 0


def test_a_packet_behind_its_deadline_is_late_and_missing() -> None:
    answer = bench("--seconds", "1", "--deadline", "49ms", "--engine", "compat")
    assert (answer["late"], answer["missing"], answer["delivered"]) == (200, 200, 0)


def test_a_second_sender_takes_its_share_of_the_link_and_is_not_counted() -> None:
    words = ("--engine", "compat", "--seconds", "6", "--rate", "2.6Mbit/s", "--series")
    alone, shared = bench(*words), bench(*words, "--cross", "2Mbit/s@2s-4s")
    assert alone["counts"]["forward"]["queue_dropped"] == 0
    assert shared["counts"]["forward"]["queue_dropped"] > 0
    assert shared["series"][:2] == alone["series"][:2]
    free = ("--engine", "compat", "--seconds", "3")
    assert bench(*free, "--cross", "2Mbit/s@0-2s")["overhead"] == bench(*free)["overhead"]


def test_in_a_blackout_both_ways_lose_everything_and_later_packets_show_when_it_heals() -> None:
    answer = bench("--seconds", "6", "--blackout", "2s-4s", "--series")
    assert answer["counts"]["forward"]["dark"] > 0
    assert answer["counts"]["forward"]["lost"] == 0
    assert answer["heal_ms"] >= 50
    assert sum(second["missing"] for second in answer["series"][:2]) == 0
    assert answer["missing"] > 200  # at least what was sent in its first 1.6 s


def test_the_series_adds_up() -> None:
    answer = bench("--loss", "30%", "--seconds", "4", "--series", "--seeds", "2")
    series = answer["series"]
    assert sum(second["sent"] for second in series) == answer["sent"]
    assert sum(second["missing"] for second in series) == answer["missing"]
    carried = sum(second["bytes"] for second in series)
    assert carried / (answer["sent"] * answer["size"]) == pytest.approx(answer["overhead"], abs=1e-4)


def test_the_table_is_for_people() -> None:
    done = CliRunner().invoke(main, ["bench", "link", "--virtual", "--seconds", "1", "--loss", "5%"])
    assert done.exit_code == 0
    assert "5.0% forward" in done.stdout
    assert "overhead" in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--loss", "2"], "more than the whole"),
        (["--loss", "nan"], "not a fraction"),
        (["--rloss", "-1"], "not a fraction"),
        (["--delay", "50"], "no unit"),
        (["--delay", "11s"], "not within"),
        (["--deadline", "0"], "not within"),
        (["--burst", "nan"], "not a number of packets"),
        (["--burst", "many"], "could not convert"),
        (["--pps", "0"], "range"),
        (["--size", "11"], "range"),
        (["--frame", "0"], "range"),
        (["--seconds", "nan"], "not seconds"),
        (["--seconds", "0"], "not seconds"),
        (["--seconds", "86400", "--pps", "100000"], "packets in a run"),
        (["--engine", "fast"], "media"),
        (["--rate", "3"], "no unit"),
        (["--queue", "3GiB"], "at most"),
        (["--cross", "1Mbit/s"], "RATE@FROM-UNTIL"),
        (["--cross", "1bit/s@1s-2s"], "1kbit/s"),
        (["--blackout", "5s"], "FROM-UNTIL"),
        (["--blackout", "7s-5s"], "ends before"),
        (["--seeds", "0"], "range"),
        (["stray"], "stray"),
    ],
)
def test_a_bad_value_is_a_usage_error_that_names_it(words: list[str], says: str) -> None:
    done = CliRunner().invoke(link, ["--virtual", *words])
    assert done.exit_code == 2
    assert says in done.output


@pytest.mark.parametrize("option", [["--cross", "1Mbit/s@1s-2s"], ["--blackout", "1s-2s"]])
def test_what_only_the_virtual_clock_can_do_says_so(option: list[str]) -> None:
    done = CliRunner().invoke(link, option)
    assert done.exit_code == 2
    assert "--virtual" in done.output


@pytest.fixture
def no_wheel(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    stock._library.cache_clear()
    monkeypatch.setattr(stock, "find_spec", lambda name: None)
    yield
    stock._library.cache_clear()


@pytest.mark.usefixtures("no_wheel")
def test_without_the_wheel_the_stock_engine_names_what_to_install() -> None:
    done = CliRunner().invoke(link, ["--virtual", "--engine", "stock", "--seconds", "1"])
    assert done.exit_code == 1
    assert "zrelay[bench]" in done.output


def test_an_end_that_spins_is_told_off(monkeypatch: pytest.MonkeyPatch) -> None:
    class Spinning:
        def turn(self, *_: object) -> None:
            pass

        def deadline(self) -> int:
            return 0

    monkeypatch.setattr(virtual, "pair", lambda *_: (Spinning(), Spinning()))
    with pytest.raises(virtual.StuckError):
        virtual.run(Case(seconds=1))


def test_the_tally_knows_early_late_again_and_never_sent() -> None:
    tally = Tally(4, size=100, frame=2, deadline_ns=400 * MS)
    assert [tally.leaves(S + i * 700 * MS) for i in range(3)] == [0, 1, 2]
    tally.arrives(0, S + 400 * MS)
    tally.arrives(1, S + 1101 * MS)
    tally.arrives(0, S + 500 * MS)
    tally.arrives(3, S + 500 * MS)
    assert (tally.delivered, tally.late, tally.duplicates, tally.foreign) == (1, 1, 1, 1)
    assert list(tally.delays_us()) == [400_000]
    assert tally.by_second(S, 2) == [(2, 1), (1, 1)]
    assert tally.first_after(S) == S + 400 * MS
    assert tally.first_after(S + 1) == S + 1101 * MS
    assert tally.first_after(S + 701 * MS) is None


def test_a_path_counts_what_it_is_given_and_not_what_is_lost() -> None:
    path = Path(S, 2, delay_ns=10 * MS, dark_from=S + 2 * MS, dark_until=S + 3 * MS)
    path.put(b"first", S)
    path.cross(b"stranger", S)
    path.put(b"dark", S + 2 * MS)
    path.put(b"third", S + 3 * MS)
    assert path.deadline() == S + 10 * MS
    assert [path.get(S + 10 * MS), path.get(S + 10 * MS), path.get(S + 13 * MS)] == [b"first", None, b"third"]
    assert (path.put_datagrams, path.put_bytes, path.dark, path.by_second()) == (3, 14, 1, [14, 0])


def test_an_end_refuses_what_its_window_cannot_hold_and_says_so() -> None:
    tally = Tally(4000, size=100, frame=8, deadline_ns=400 * MS)
    end = KcpEnd(tally, S)
    end.send(4000, S)
    assert tally.sent == 4000
    assert end.counts()["refused"] == 4000 - 2048  # queue and window


def test_spans_and_second_senders_are_read_as_they_are_written() -> None:
    assert Span.parse("500ms-2s") == Span(500 * MS, 2 * S)
    assert Cross.parse("1Mbit/s@5s-15s") == Cross(1_000_000, Span(5 * S, 15 * S))


def test_percentiles_are_nearest_ranks() -> None:
    assert percentile_ms([], 0.5) is None
    assert [percentile_ms([1000, 2000, 3000, 4000], share) for share in (0.5, 0.75, 0.76, 1.0)] == [2, 3, 4, 4]
