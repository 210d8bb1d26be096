"""max_rate shared out over the workers that serve a peer: together never more, and told before the child is."""

from __future__ import annotations

from typing import Any

from relay.rates import RATE_MIN, Rates
from tests.py.fake_mesh import Mesh, S, body, chain, to

MBIT = 1_000_000


def test_the_workers_that_serve_a_peer_share_its_rate_and_get_it_back() -> None:
    told: dict[int, int] = {}
    rates = Rates(lambda session: 9 * MBIT, lambda worker, session, bps: told.__setitem__(worker, bps))
    rates.joins(1, 0)
    assert told == {0: 9 * MBIT}
    rates.joins(1, 2)
    rates.joins(1, 2)
    assert told == {0: 4_500_000, 2: 4_500_000}
    rates.leaves(1, 2)
    assert told[0] == 4_500_000
    rates.leaves(1, 2)
    assert told[0] == 9 * MBIT
    rates.leaves(1, 0)
    rates.leaves(1, 0)  # not there: nothing happens
    rates.joins(1, 1)
    assert told[1] == 9 * MBIT


def test_without_a_rate_nobody_is_told_anything_until_there_is_one() -> None:
    told: list[tuple[int, int, int]] = []
    rate = 0
    rates = Rates(lambda session: rate, lambda *said: told.append(said))
    rates.joins(1, 0)
    rates.joins(1, 1)
    assert told == []
    rate = 100_000
    rates.again()
    assert told == [(0, 1, RATE_MIN), (1, 1, RATE_MIN)]  # no share below what a bucket can keep
    rate = 0
    rates.again()
    assert told[2:] == [(0, 1, 0), (1, 1, 0)]


def commands_of(mesh: Mesh, name: str) -> list[tuple[str, dict[str, Any]]]:
    return [said for worker in mesh.relays[name].workers for said in worker.log]


def test_a_worker_hears_of_a_peers_rate_before_its_first_child() -> None:
    mesh = chain(2)
    mesh.run(S)
    rights = mesh["a"]._desk.rights
    rights._max_rate["b"] = 5 * MBIT
    mesh["a"].publish("s", body(), mesh.now)
    mesh["b"].subscribe("s", "one", to(), mesh.now)
    mesh.run(S)
    assert mesh["b"].subscribe_answer("s", "one").confirmed
    ops = [op for op, _ in commands_of(mesh, "a") if op in ("session_rate", "child_add")]
    assert ops == ["session_rate", "child_add"]
    assert [fields["bps"] for op, fields in commands_of(mesh, "a") if op == "session_rate"] == [5 * MBIT]
