"""Load generation and `zrelay bench fanout`, `hop`, `run`: what they take and answer, and that a loss is seen."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import psutil
import pytest
from click.testing import CliRunner

from relay._load import Generator, Sinks
from relay.bench import contenders, hop, result, run
from relay.bench.accounts import cpu_ns, socket_drops
from relay.bench.delays import percentile_ns, percentiles_us
from relay.bench.duel import Outcome, Side, rounds_of
from relay.bench.fanout import usual_pps
from relay.bench.fingerprint import differences, fingerprint
from relay.bench.result import load
from relay.bench.show import show_sides
from relay.bench.traffic import Counted, Shape, Traffic
from relay.cli import main
from relay.errors import CoreError
from relay.units import Address

SIDE_BY_SIDE = {
    *("cpu_us_per_packet", "bare_cpu_us_per_packet", "ratio_to_bare", "peer", "peer_cpu_us_per_packet"),
    *("ratio_to_peer", "delivered_pct", "syscalls_per_packet", "p50_us", "p99_us", "p999_us", "size", "frame", "pps"),
    *("subscribers", "seconds", "rounds", "claimable", "limited_by", "fingerprint", "wall_s"),
}
ANY = Address("127.0.0.1", 0).pack()


def bench(*words: str) -> dict[str, Any]:
    """The JSON of a run: all there is on stdout."""
    done = CliRunner().invoke(main, ["bench", *words, "--json"])
    assert done.exit_code == 0, done.output
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def keeps(path: Path, answer: dict[str, Any], verb: str) -> None:
    """The file holds what was printed, with the machine; `bench compare` and `bench report` take it as it is."""
    kept = load(str(path))
    assert differences(kept.machine, fingerprint()) == []
    figures = {measured.name: measured for measured in kept.measured}
    assert figures[f"{verb}.cpu_us_per_packet"].stats["median"] == answer["cpu_us_per_packet"]
    assert figures[f"{verb}.delivered_pct"].stats["median"] == answer["delivered_pct"]
    assert kept.measured[0].extra["result"] == answer
    assert CliRunner().invoke(main, ["bench", "compare", str(path), str(path)]).exit_code == 0
    page = path.with_suffix(".html")
    assert CliRunner().invoke(main, ["bench", "report", str(path), "-o", str(page)]).exit_code == 0
    assert f"{verb}.cpu_us_per_packet" in page.read_text()


def test_fanout_delivers_everything_and_its_json_is_alone_on_stdout(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(contenders.shutil, "which", lambda name: None)  # no peer: the shorter run
    kept = tmp_path / "fanout.json"
    answer = bench("fanout", "--seconds", "0.3", "--subscribers", "5", "--pps", "800", "--save", str(kept))
    keeps(kept, answer, "fanout")
    assert answer.keys() >= SIDE_BY_SIDE
    assert (answer["delivered_pct"], answer["bare_delivered_pct"]) == (100, 100)
    assert answer["sides"]["relay"]["wanted"] == answer["sides"]["relay"]["sent"] * 5 == 1200
    assert answer["cpu_us_per_packet"] > 0
    assert answer["ratio_to_bare"] == pytest.approx(
        answer["cpu_us_per_packet"] / answer["bare_cpu_us_per_packet"], rel=0.02
    )
    assert (answer["peer"], answer["peer_cpu_us_per_packet"], answer["ratio_to_peer"]) == (None, None, None)
    assert "gstreamer1.0-tools" in answer["peer_lacking"]
    assert answer["claimable"] is False


def test_one_hop_goes_over_the_link_and_one_relay_does_not(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(contenders.shutil, "which", lambda name: None)
    kept = tmp_path / "hop.json"
    chain = bench("hop", "--seconds", "0.3", "--pps", "800", "--save", str(kept))
    keeps(kept, chain, "hop")
    assert chain.keys() >= SIDE_BY_SIDE
    assert chain["delivered_pct"] == 100
    assert (chain["mode"], chain["frame"]) == ("segmented", 8)
    assert chain["counters"]["rx_link"] > 0
    assert "srt-tools" in chain["peer_lacking"]
    assert len(chain["sides"]["relay"]["cpu_us_per_packet_processes"]) == 2
    single = bench("hop", "--seconds", "0.3", "--pps", "800", "--relays", "1")
    assert single["delivered_pct"] == 100
    assert (single["mode"], single["frame"]) == ("singles", 1)
    assert "rx_link" not in single["counters"]


def test_run_verifies_every_packet_of_every_stream_and_tells_its_progress_on_stderr(tmp_path: Path) -> None:
    kept = tmp_path / "run.json"
    words = ("--publishers", "3", "--subscribers", "2", "--duration", "1200ms", "--ramp", "600ms", "--save", str(kept))
    done = CliRunner().invoke(main, ["bench", "run", *words, "--json"])
    assert done.exit_code == 0, done.output
    assert "generator" in done.stderr
    answer = json.loads(done.stdout)
    keeps(kept, answer, "run")
    assert answer["delivered"] == answer["wanted"] == 2 * answer["sent"] > 0
    assert (answer["duplicates"], answer["corrupt"], answer["missing"]) == (0, 0, 0)
    assert answer["sent"] < 3 * 416 * 1.2  # the second and third began later
    assert answer["p50_us"] <= answer["p99_us"] <= answer["p999_us"] <= answer["max_us"]


def test_for_people_a_run_ends_with_what_limited_it() -> None:
    done = CliRunner().invoke(main, ["bench", "run", "--duration", "300ms", "--subscribers", "1"])
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[-1].startswith("what limited this run: ")


@pytest.mark.parametrize("words", [["ring", "--seconds", "0.2"], ["link", "--virtual", "--seconds", "1"]])
def test_every_result_for_people_ends_with_what_limited_it(words: list[str]) -> None:
    done = CliRunner().invoke(main, ["bench", *words])
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[-1].startswith("what limited this run: ")


def test_addresses_of_this_network_namespace_are_ours_and_others_are_not() -> None:
    for host, ours in (("127.0.0.1", True), ("localhost", True), ("198.51.100.7", False), ("[2001:db8::7]", False)):
        assert run._is_ours(f"http://{host}:7481") is ours, host


def test_side_by_side_for_people_has_a_line_of_each_and_what_limited_them(capsys: pytest.CaptureFixture[str]) -> None:
    sides = [Side(name, Counted(wanted=10, good=9, run_ns=10), [cost]) for name, cost in (("r", 2.0), ("b", 1.0))]
    show_sides({**Outcome(Shape(), 1, 1, sides[0], sides[1], None, "no tool").figures(), "wall_s": 1.0}, "title")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("title: ")
    assert "relay / bare: 2.000" in lines
    assert "no peer: no tool" in lines
    assert any(line.startswith("nothing is claimed") for line in lines)
    assert lines[-1] == "what limited this run: nothing; 1.0 s"


def test_over_a_lossy_link_the_engine_repairs_and_run_says_what_it_took() -> None:
    answer = bench("run", "--duration", "1s", "--loss", "20%", "--subscribers", "1", "--rate", "2Mbit/s")
    assert answer["delivered_pct"] > 99
    assert answer["counters"]["kcp_retrans_timeout"] + answer["counters"].get("kcp_copies", 0) > 0
    assert (answer["duplicates"], answer["corrupt"]) == (0, 0)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["fanout", "--subscribers", "0"], "range"),
        (["fanout", "--size", "35"], "range"),
        (["fanout", "--seconds", "nan"], "--seconds"),
        (["hop", "--size", "1317"], "range"),
        (["hop", "--relays", "3"], "range"),
        (["hop", "--mode", "fast"], "segmented"),
        (["run", "--rate", "9kbit/s"], "less than a packet"),
        (["run", "--rate", "fast"], "--rate"),
        (["run", "--duration", "0s"], "more than nothing"),
        (["run", "--ramp", "20s"], "not shorter"),
        (["run", "--duration", "25h"], "more than a day"),
        (["run", "--publishers", "4096", "--subscribers", "40"], "at most"),
        (["run", "--loss", "5%", "--relays", "1"], "two relays"),
        (["run", "--relay", "http://127.0.0.1:1", "--loss", "5%"], "mesh of our own"),
        (["run", "--edge", "http://127.0.0.1:1"], "needs --relay"),
        (["run", "--relay", "http://192.0.2.1:7481"], "--i-own-this"),  # L10
        (["run", "--relay", "http://relay.example:7481"], "--i-own-this"),
        (["run", "--relay", "http://127.0.0.1:1", "--edge", "http://192.0.2.1:1"], "--i-own-this"),
    ],
)
def test_a_bad_value_is_a_usage_error_that_names_it(words: list[str], says: str) -> None:
    done = CliRunner().invoke(main, ["bench", *words])
    assert done.exit_code == 2
    assert says in done.output


def test_a_relay_that_does_not_answer_is_one_line_and_exit_1() -> None:
    done = CliRunner().invoke(main, ["bench", "run", "--relay", "http://127.0.0.1:1", "--duration", "1s"])
    assert done.exit_code == 1
    assert done.stdout == ""
    assert "127.0.0.1:1" in done.stderr


def test_a_signal_ends_a_run_in_the_middle_and_takes_its_processes_along() -> None:
    command = [sys.executable, "-m", "relay.cli", "bench", "run", "--duration", "60s", "--subscribers", "1", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
        assert run.stderr is not None
        assert "generator" in run.stderr.readline()  # under way
        children = psutil.Process(run.pid).children(recursive=True)
        run.send_signal(signal.SIGTERM)
        out, _ = run.communicate(timeout=40)
    assert (run.returncode, out) == (128 + signal.SIGTERM, "")
    assert children
    assert psutil.wait_procs(children, timeout=20)[1] == []


def test_a_packet_lost_on_the_way_is_missing() -> None:
    traffic = Traffic(Shape(pps=500, frame=1, mode="singles"))
    sink = traffic.subscribers()[0][0]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as relay:
        relay.bind(("127.0.0.1", 0))
        relay.settimeout(20)
        traffic.aim([Address(*relay.getsockname())])
        done: list[Counted] = []
        thread = threading.Thread(target=lambda: done.append(traffic.round(0.1)))
        thread.start()
        for number in range(50):
            data = relay.recv(2048)
            if number not in (3, 44):
                relay.sendto(data, (sink.ip, sink.port))
        thread.join()
    counted = done[0]
    assert (counted.sent, counted.good, counted.missing) == (50, 48, 2)
    assert counted.delivered_pct == 96


def test_a_sink_that_is_not_emptied_tells_what_the_kernel_dropped() -> None:
    sinks = Sinks(ANY, 1, per_stream=1, ssrc=1, size=1200, rcvbuf=4096, gro=False)
    port = sinks.ports()[0]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for _ in range(200):
            sender.sendto(bytes(1200), ("127.0.0.1", port))
    assert 0 < sinks.dropped()[0] < 200
    assert socket_drops([port]) == sinks.dropped()[0]


def test_a_generator_that_cannot_keep_up_says_that_it_is_what_limits() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        target = Address(*sock.getsockname()).pack()
        generator = Generator(ANY, target, ssrc=1, frame=1, size=1200, pps=5_000_000, payload_type=97, segment=False)
        generator.run(2_000_000)
    counts = generator.counts()
    assert counts["due"] == 10_000
    side = Side("any")
    side.counted = Counted(
        due=counts["due"],
        sent=counts["sent"],
        frames=counts["frames"],
        late_frames=counts["late"],
        generator_busy_ns=counts["busy_ns"],
        run_ns=counts["run_ns"],
    )
    assert "the generator (" in side.limited_by()
    assert "timing" in side.limited_by()


@pytest.mark.parametrize(
    ("side", "says"),
    [
        (Side("x", Counted(run_ns=100)), "nothing"),
        (Side("x", Counted(run_ns=100), cpu_ns={"a": 10, "b": 90}), "the contender's CPU (90 % of a core)"),
        (Side("x", Counted(run_ns=100, sinks_busy_ns=95)), "the sinks' CPU"),
        (Side("x", Counted(run_ns=100, sink_drops=3)), "3 at the sinks'"),
        (Side("x", Counted(run_ns=100), drops=2), "2 dropped at the contender's"),
        (Side("x", Counted(run_ns=100), machine_busy_pct=99), "the machine"),
    ],
)
def test_what_limited_a_run_is_said_in_words(side: Side, says: str) -> None:
    assert says in side.limited_by()


def test_nothing_is_claimed_from_a_run_that_lost_packets() -> None:
    def side(name: str, good: int) -> Side:
        return Side(name, Counted(wanted=100_000, good=good), [1.0])

    shape = Shape()
    for lost, claim in ((0, True), (10, True), (11, False)):
        outcome = Outcome(shape, 1, 1, side("a", 100_000), side("b", 100_000 - lost), side("c", 100_000))
        assert outcome.figures()["claimable"] is claim
    assert Outcome(shape, 1, 1, side("a", 100_000), side("b", 100_000), None).figures()["claimable"] is False


def test_sizes_out_of_range_are_refused_by_the_core() -> None:
    with pytest.raises(CoreError):
        Sinks(ANY, 0, per_stream=1, ssrc=1, size=1200, rcvbuf=0, gro=True)
    with pytest.raises(CoreError):
        Generator(ANY, ANY, ssrc=1, frame=1, size=20, pps=1, payload_type=97, segment=True)
    with pytest.raises(ValueError, match="addresses"):
        Sinks(b"short", 1, per_stream=1, ssrc=1, size=1200, rcvbuf=0, gro=True)


def test_percentiles_come_from_the_middle_of_a_bucket() -> None:
    buckets = [0] * 320
    buckets[5], buckets[8 * 10] = 99, 1
    assert percentile_ns(buckets, 0.5) == 5.5
    assert percentile_ns(buckets, 0.99) == 5.5
    assert percentile_ns(buckets, 1.0) == pytest.approx(4096 * 1.0625, rel=0.01)
    assert percentiles_us([0] * 320) == {"p50_us": None, "p99_us": None, "p999_us": None, "max_us": None}


def test_rounds_are_five_where_there_is_time_and_rates_fit_the_machine() -> None:
    assert [rounds_of(seconds) for seconds in (0.5, 2, 9)] == [(1, 0.5), (3, 2 / 3), (15, 0.6)]
    assert [usual_pps(count) for count in (1, 50, 500, 4000)] == [20_000, 3000, 300, 100]


def test_cpu_time_of_a_process_that_is_gone_is_an_error() -> None:
    with pytest.raises(ProcessLookupError):
        cpu_ns(1 << 22)


def test_rounds_become_samples_and_their_ratios_are_of_neighbours(tmp_path: Path) -> None:
    sides = [Side("any", Counted(wanted=9, good=9), costs) for costs in ([2.0, 3.0, 2.2], [1.0, 2.0, 1.1])]
    figures = Outcome(Shape(), 1, 3, sides[0], sides[1], None, "no tool").figures()
    result.save(str(tmp_path / "a.json"), "fanout", figures)
    kept = {measured.name: measured for measured in load(str(tmp_path / "a.json")).measured}
    assert kept["fanout.cpu_us_per_packet"].samples == (2.0, 3.0, 2.2)
    assert kept["fanout.bare_cpu_us_per_packet"].samples == (1.0, 2.0, 1.1)
    assert kept["fanout.ratio_to_bare"].samples == (2.0, 1.5, 2.0)
    assert "fanout.ratio_to_peer" not in kept


def test_a_saved_fan_out_that_costs_more_beyond_its_rounds_is_a_regression(tmp_path: Path) -> None:
    def saved(name: str, *costs: float) -> str:
        sides = [Side("any", Counted(wanted=9, good=9), list(rounds)) for rounds in (costs, [1.0] * len(costs))]
        figures = Outcome(Shape(), 1, len(costs), sides[0], sides[1], None, "no tool").figures()
        result.save(str(tmp_path / name), "fanout", figures)
        return str(tmp_path / name)

    old = saved("old.json", 2.0, 2.1, 2.05, 2.02, 2.08)
    for name, costs, code in (
        ("the same", (2.1, 2.0, 2.06, 2.03, 2.07), 0),
        ("a fifth more", (2.4, 2.5, 2.45, 2.43, 2.48), 3),
        ("a fifth more, in noise", (2.0, 2.9, 2.45, 2.1, 2.48), 0),
        ("less", (1.5, 1.6, 1.55, 1.52, 1.58), 0),
    ):
        assert CliRunner().invoke(main, ["bench", "compare", old, saved("new.json", *costs)]).exit_code == code, name


def test_only_the_case_a_bar_was_set_for_has_it() -> None:
    assert hop._bars(Shape(pps=20_000), 2, sealed=False) == hop.BARS
    assert hop._bars(Shape(pps=20_000), 2, sealed=True) == hop.SEALED_BARS
    assert hop._bars(Shape(pps=5000, mode="singles"), 1, sealed=False) == hop.SINGLE_BARS
    assert hop._bars(Shape(pps=20_000, mode="burst"), 2, sealed=False) == {}
    assert hop._bars(Shape(pps=10_000), 2, sealed=False) == {}
