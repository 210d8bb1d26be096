"""After a pause, a copy or a fork no key of before is used again: what counts as one, and what follows."""

from __future__ import annotations

from typing import Any

import pytest

from relay.continuity import REASONS, Continuity, Guard, Moment
from relay.node import _look
from tests.sim.test_probe import STREAM, flow, stream
from tests.sim.world import MS, SECOND, LinkConf, World


def moment(at: int, away: int = 0, *, gap: int = 80, pid: int = 7, boot_id: str = "b", generation: str = "") -> Moment:
    """At `at` ns of CLOCK_MONOTONIC, of a machine that was suspended for `away` ns so far; `gap` between two reads."""
    return Moment(at, at + away + gap // 2, at + gap, pid, boot_id.encode(), generation.encode())


def whys(*moments: Moment) -> list[str | None]:
    continuity = Continuity(moments[0])
    return [continuity.broken(next) for next in moments[1:]]


def test_a_machine_that_runs_on_is_not_broken_however_slowly_its_clocks_are_read() -> None:
    gaps = (80, 5 * SECOND, 90, 300 * MS, 85)
    assert whys(*(moment(n * SECOND, gap=gap) for n, gap in enumerate(gaps * 20))) == [None] * 99


@pytest.mark.parametrize("away", [2 * MS, SECOND, 86400 * SECOND])
def test_a_pause_is_told_once(away: int) -> None:
    assert whys(moment(0), moment(SECOND), moment(2 * SECOND, away), moment(3 * SECOND, away)) == [None, "pause", None]


def test_a_pause_right_after_the_process_was_put_aside_is_seen_as_well() -> None:
    assert whys(moment(0), moment(SECOND, gap=SECOND), moment(3 * SECOND, 50 * MS)) == [None, "pause"]


@pytest.mark.parametrize(
    ("other", "why"), [({"pid": 8}, "fork"), ({"boot_id": "c"}, "boot"), ({"generation": "2"}, "clone")]
)
def test_another_process_kernel_or_generation_is_a_break(other: dict[str, Any], why: str) -> None:
    same: dict[str, Any] = {"generation": "1"}
    now = {**same, **other}
    assert whys(moment(0, **same), moment(1, **same), moment(2, **now), moment(3, **now)) == [None, why, None]
    assert why in REASONS


def test_what_cannot_be_read_for_a_while_is_no_break_and_is_not_forgotten() -> None:
    known, blank = {"boot_id": "b", "generation": "1"}, {"boot_id": "", "generation": ""}
    assert whys(moment(0, **known), moment(1, **blank), moment(2, **known)) == [None, None]
    assert whys(moment(0, **known), moment(1, **blank), moment(2, boot_id="b", generation="2")) == [None, "clone"]


def test_this_machine_goes_on_while_we_look() -> None:
    continuity = Continuity(_look())
    assert {continuity.broken(_look()) for _ in range(1000)} == {None}


def test_after_a_pause_every_session_has_other_keys_and_streams_go_on() -> None:
    world = World(3, sealed=True)
    world.chain(["a", "b"], LinkConf(delay_ns=10 * MS, loss=0.01))
    world.run(world.now + 2 * SECOND)
    stream(world)
    relay, said = world.relays["b"], []
    away, seen = 0, {add.keys.send.reveal() for add in relay.control._sessions.adds() if add.keys is not None}
    guard = Guard(
        lambda: moment(world.now, away), relay.control.discard_sessions, lambda *event, **fields: said.append(fields)
    )
    guard.check(world.now)
    assert relay.control.links()[0].state == "up"
    away = 20 * SECOND
    guard.check(world.now)
    assert relay.control.links()[0].state == "down"
    relay.pump()
    assert relay.sessions == set()  # the lanes were told
    before = len(world.sink.times)  # type: ignore[attr-defined]
    flow(world, seconds=2)
    guard.check(world.now)
    assert [view.state for end in world.relays.values() for view in end.control.links()] == ["up", "up"]
    now = {add.keys.send.reveal() for add in relay.control._sessions.adds() if add.keys is not None}
    assert len(now) == len(seen) == 1
    assert not now & seen
    assert len(world.sink.times) - before >= 120  # type: ignore[attr-defined]
    assert guard.counts == {"pause": 1, "clone": 0, "boot": 0, "fork": 0}
    assert [fields["reason"] for fields in said] == ["pause"]
    assert relay.control.worker_of(STREAM) == 0
    world.check()
