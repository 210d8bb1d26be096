"""What is kept of links, what peers may say of theirs (T17), and what the control plane makes of probes."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest

from relay import actions as act
from relay.commands import core_codec
from relay.linkcmd import summary
from relay.links import MINUTE_NS, MINUTES, REPORT_AGE_NS, Links, path_row, report_of, row, table
from relay.messages import Drop, Pull, Report, encode_message
from relay.units import Address
from tests.py.test_pulls import Middle, asked, ok

SECOND = 1_000_000_000
FINE = {"rtt_ms": 12.5, "loss_in": 0.0, "loss_out": 0.25, "jitter_ms": 0.3}


def view(**more: Any) -> dict[str, Any]:
    return {
        "up": True, "deaf": False, "unheard": False, "ask": False, "mtu": 1500, "promise": 25, "theirs": 25, "heard": 1,
        "since": 0, "dead_after": 200_000_000, "srtt_us": 20_500, "rtt_min_us": 20_000, "pings": 4, "samples": 4,
        "longest_in": 1, "longest_out": 2, "flaps": 0, "loss_in": 0.01, "loss_out": 0.3, "jitter_ns": 400_000,
        "queue_in_ns": 0, "queue_out_ns": 1_000_000, "offset_ns": -5_000_000, "drift_ppm": 12.0,
        "delay_in_ns": 9_600_000, "delay_out_ns": 10_400_000, "delay_error_ns": 10_000_000, "reordered": 0,
        "received": 100, "expected": 101, "addr": bytes(20), "moves": 0,
    } | more  # fmt: skip


def test_a_minute_is_kept_when_it_is_over_and_an_hour_of_them_at_most() -> None:
    links = Links()
    seen = 0
    for second in range(60 * (MINUTES + 5)):
        seen += 3
        links.sample("b", view(samples=seen, up=second % 4 != 0), [10_000, 20_000, 90_000], second * SECOND)
        assert links.taken("b") == seen
    history = links.history("b")
    assert len(history) == MINUTES
    assert history[-1] == {
        "ended_s": 60 * (MINUTES + 4), "rtt_p50_ms": 20.0, "rtt_p99_ms": 90.0, "loss_in_pct": 1.0, "loss_out_pct": 30.0,
        "jitter_ms": 0.4, "up_pct": 75.0,
    }  # fmt: skip
    assert links.history("c") == []


def test_flaps_and_round_trips_go_on_counting_over_a_new_session() -> None:
    links = Links()
    links.sample("b", view(samples=2, flaps=2), [400, 700_000], 0)
    links.sample("b", view(samples=1, flaps=1), [30_000], SECOND)
    links.sample("b", view(samples=1, flaps=1), [], 2 * SECOND)
    facts = links.facts("b", view())
    assert facts.flaps == 3
    assert facts.rtt_counts[0] == 1
    assert facts.rtt_counts[-1] == 3
    assert facts.rtt_sum_s == pytest.approx(0.7304)


def test_a_ping_counts_as_unanswered_when_a_second_has_brought_no_answer() -> None:
    links = Links()
    links.sample("b", view(samples=8, pings=10), [1000] * 8, 0)
    assert (links.facts("b", view()).answered, links.facts("b", view()).unanswered) == (8, 0)
    links.sample("b", view(samples=9, pings=13), [1000], SECOND)
    assert (links.facts("b", view()).answered, links.facts("b", view()).unanswered) == (9, 1)
    links.sample("b", view(samples=10, pings=13), [1000], 2 * SECOND)
    links.sample("b", view(samples=0, pings=2), [], 3 * SECOND)  # another session
    links.sample("b", view(samples=2, pings=2), [1000] * 2, 4 * SECOND)
    assert (links.facts("b", view()).answered, links.facts("b", view()).unanswered) == (12, 3)


@pytest.mark.parametrize(
    "bad",
    [
        {"rtt_ms": -1}, {"rtt_ms": math.nan}, {"rtt_ms": 0}, {"rtt_ms": 1e9}, {"rtt_ms": math.inf}, {"loss_in": -0.01},
        {"loss_out": 1.01}, {"loss_in": math.nan}, {"jitter_ms": -1}, {"jitter_ms": 1e9}, {"rtt_ms": "12"},
        {"rtt_ms": None},
    ],
)  # fmt: skip
def test_t17_a_report_with_one_value_that_cannot_be_is_refused_whole(bad: dict[str, Any]) -> None:
    links = Links()
    assert links.on_report("b", {"c": FINE, "d": FINE | bad}, 0) == "report"
    assert links.rtt_ms_of("c", 0) is None


@pytest.mark.parametrize(
    "said", [7, [], {"c": 7}, {"c": {}}, {1: FINE}, {"x" * 300: FINE}, {str(i): FINE for i in range(1025)}]
)
def test_t17_what_is_no_report_is_refused(said: Any) -> None:
    assert Links().on_report("b", said, 0) == "report"


def test_t17_nobody_reports_about_itself_or_for_another_and_the_median_wins() -> None:
    links = Links()
    assert links.on_report("b", {"b": FINE}, 0) == "report"
    for sender, rtt in (("b", 20.0), ("c", 22.0), ("d", 0.001)):  # d wants the traffic
        assert links.on_report(sender, {"e": FINE | {"rtt_ms": rtt}}, 0) is None
    assert links.rtt_ms_of("e", 0) == 20.0
    assert links.on_report("d", {"e": FINE | {"rtt_ms": 0.002}}, 0) is None  # again: it still has one voice
    assert links.rtt_ms_of("e", 0) == 20.0
    assert links.rtt_ms_of("e", REPORT_AGE_NS) is None


def test_what_we_report_is_what_a_peer_takes() -> None:
    said = report_of({"b": view(), "c": view(samples=0), "d": view(srtt_us=0, jitter_ns=10**15)})
    assert set(said) == {"b", "d"}
    assert Links().on_report("a", msgspec.to_builtins(said), 0) is None


@pytest.mark.parametrize(
    ("links", "word"),
    [({"b": FINE}, None), ({"down": FINE}, "report"), (None, None), ({"b": FINE | {"rtt_ms": -1}}, "report")],
)
def test_a_report_over_the_wire_is_taken_or_a_violation(links: Any, word: str | None) -> None:
    mid = Middle()
    payload = encode_message(Report(links=msgspec.Raw(msgspec.msgpack.encode(links))))
    assert mid.control.on_message(mid.slots["down"], payload, 0) == word


def commands(drained: list[act.Action]) -> list[tuple[str, dict[str, int]]]:
    decoded = [core_codec().decode(action.record) for action in drained if isinstance(action, act.Command)]
    return [(record.op, record.fields) for record in decoded]


def test_the_workers_learn_the_path_mtu_when_it_changes_and_a_kick_when_the_peer_is_heard_again() -> None:
    mid = Middle()
    slot = mid.slots["down"]
    mid.control.drain()
    mid.control.on_link(slot, view(mtu=1200), 0)
    mid.control.on_link(slot, view(mtu=1200), 0)
    assert commands(mid.control.drain()) == [("session_mtu", {"session": slot, "mtu": 1120})]
    mid.control.on_link(slot, view(mtu=1200, up=False, deaf=True), 0)
    states = {link.peer: link.state for link in mid.control.links()}
    assert states["down"] == "silent"
    mid.control.on_heard(slot, SECOND)  # we hear it, it does not hear us: not up
    assert {link.peer: link.state for link in mid.control.links()} == states
    mid.control.drain()
    mid.control.on_link(slot, view(mtu=1200), 2 * SECOND)
    assert {link.peer: link.state for link in mid.control.links()}["down"] == "up"
    assert commands(mid.control.drain()) == [("session_kick", {"session": slot})]


def test_a_silent_parent_is_left_for_another_one_and_kept_when_there_is_none() -> None:
    mid = Middle()
    mid.hear("down", asked())
    pulls = {peer: message for peer, message in mid.out()[0] if isinstance(message, Pull)}
    mid.hear("up1", ok(pulls["up1"]))
    mid.out()
    mid.control.on_link(mid.slots["up2"], view(up=False, deaf=True), 0)
    mid.control.on_link(mid.slots["up1"], view(up=False, deaf=True), 0)
    assert [message for _, message in mid.out()[0]] == []  # nobody else: the conversation stays
    mid.control.on_link(mid.slots["up1"], view(), 0)
    mid.control.on_link(mid.slots["up2"], view(), 0)
    mid.out()
    mid.control.on_link(mid.slots["up1"], view(up=False, unheard=True), 0)
    said, told = mid.out()
    assert {(peer, type(message)) for peer, message in said} == {("up1", Drop), ("up2", Pull)}
    assert "pull_stop" in [op for op, _ in told]


def test_rows_and_tables_show_what_is_known() -> None:
    shown = row(view(), [20_000, 21_000, 30_000], 3 * SECOND)
    assert (shown["rtt_ms"], shown["rtt_p50_ms"], shown["rtt_p99_ms"]) == (20.5, 21.0, 30.0)
    assert (shown["loss_in_pct"], shown["loss_out_pct"], shown["offset_ms"]) == (1.0, 30.0, -5.0)
    assert (shown["t_dead_ms"], shown["since_s"], shown["hears"], shown["heard"]) == (200.0, 3.0, True, True)
    assert [shown[f"delay_{name}_ms"] for name in ("in", "out", "error")] == [9.6, 10.4, 10.0]
    clocks = {f"{name}_ns": None for name in ("offset", "delay_in", "delay_out", "delay_error")}
    blank = row(view(samples=0, drift_ppm=None, **clocks), [], 0)
    unknown = ("rtt_ms", "rtt_p50_ms", "offset_ms", "delay_in_ms", "delay_out_ms", "delay_error_ms")
    assert {blank[key] for key in unknown} == {None}
    rates = {"receiving_bps": 1_234_567, "sending_bps": 20_000}
    lines = table(
        [{"peer": "b", "state": "up", "address": "127.0.0.1:7600"} | shown | rates, {"peer": "c", "state": "greeting"}]
    )
    _, first, second = lines.splitlines()
    for part in (
        "b ",
        "up",
        "127.0.0.1:7600",
        "21.00 / 30.00 ms",
        "9.6 / 10.4 ±10.0 ms",
        "1.0 / 30.0 %",
        "1500",
        "200 ms",
        "1.235 / 0.020",
    ):
        assert part in first
    assert second.split() == ["c", "greeting", *["-"] * 8]


def test_pings_summary_is_that_of_ping() -> None:
    assert summary("b", 5, [1000, 2000, 3000]) == [
        "--- b: 5 probes, 3 answers, 40 % without one",
        "rtt min/avg/max/mdev = 1.000/2.000/3.000/0.667 ms",
    ]
    assert summary("b", 0, []) == ["--- b: 0 probes, 0 answers, 0 % without one"]
    assert MINUTE_NS == 60 * SECOND


def test_another_address_of_the_peer_goes_to_every_worker_and_back_to_a_new_one() -> None:
    mid = Middle()
    slot = mid.slots["down"]
    (here,) = mid.control._sessions.peers["down"].addresses
    there = Address("10.9.9.9", here.port)
    mid.control._sessions.peers["down"].addresses = [here, there]
    mid.control.drain()
    mid.control.on_link(slot, view(mtu=1200, addr=there.pack()), 0)
    mid.control.on_link(slot, view(mtu=1200, addr=there.pack()), 0)
    ops = [op for op, _ in commands(mid.control.drain())]
    assert ops == ["session_addr", "session_kick", "session_mtu"]
    assert {link.peer: link.address for link in mid.control.links()}["down"] == str(there)
    mid.control.on_worker_up(0, 0)
    told = [core_codec().decode(action.record) for action in mid.control.drain() if isinstance(action, act.Command)]
    (added,) = [record for record in told if record.op == "session_add" and record.fields["session"] == slot]
    assert added.addr == there.pack() or added.addr == there
    listed = [record.fields["number"] for record in told if record.op == "session_path"]
    assert listed == [0, 1]


def test_an_address_that_is_not_listed_any_more_ends_the_session() -> None:
    mid = Middle()
    slot = mid.slots["down"]
    mid.control.drain()
    mid.control.on_link(slot, view(addr=Address("10.9.9.9", 1).pack()), 0)
    assert [action.slot for action in mid.control.drain() if isinstance(action, act.SessionDrop)] == [slot]


def test_a_peer_with_two_addresses_has_a_line_for_each_in_the_table() -> None:
    path = {"proven": True, "srtt_us": 1500, "loss": 0.25, "known": 8}
    link = {"peer": "b", "state": "up"} | row(view(), [], 0)
    link["paths"] = [
        path_row(path | {"used": True}, "10.0.0.1:1"),
        path_row({"proven": False, "srtt_us": 0, "loss": 0.0, "known": 0, "used": False}, "10.0.1.1:1"),
    ]
    _, _, used, other = table([link]).splitlines()
    assert used.split() == ["used", "10.0.0.1:1", "1.50", "ms", "25.0", "%"]
    assert other.split() == ["no", "answer", "10.0.1.1:1", "-", "-"]
