"""Children of published streams whose lane is under attack: where they are served, whoever dies, comes or goes."""

from __future__ import annotations

import random
from collections import Counter

from relay.assault import FORGED_PPS, LOOK_NS, REST_NS
from relay.commands import core_codec
from tests.py.fake_mesh import MS, FakeRelay, Mesh, S, body, chain, to

Told = Counter[int]  # wrong tags that a worker's counters show so far


def looks(mesh: Mesh, told: Told, *flooded: int, count: int = 2) -> None:
    """The agent of `a` looks so often; these workers' lanes are flooded with forgeries meanwhile."""
    relay = mesh.relays["a"]
    for _ in range(count):
        told.update(dict.fromkeys(flooded, 2 * FORGED_PPS * LOOK_NS // S))
        for worker in range(len(relay.workers)):
            if mesh["a"]._desk.workers.up[worker]:
                mesh["a"].on_drops(worker, {"auth": told[worker]}, 0, mesh.now)
        relay.pump()
        mesh.run(LOOK_NS)


def served(workers: int = 3) -> tuple[Mesh, FakeRelay, Told]:
    """`cam`, published on worker 0 of `a`, pulled by `b` for one player."""
    mesh = chain(2, workers=workers)
    mesh.run(S)
    mesh["a"].publish("cam", body(), mesh.now)
    mesh["b"].subscribe("cam", "one", to(), mesh.now)
    mesh.run(S)
    relay, told = mesh.relays["a"], Told()
    looks(mesh, told)
    assert lanes(relay) == [0]
    return mesh, relay, told


def lanes(relay: FakeRelay) -> list[int]:
    """Who serves children; each worker holds what the control plane thinks that it holds."""
    held = [worker for worker, fake in enumerate(relay.workers) for _, child, _ in fake.subs.values() if child]
    streams = relay.control._streams
    assert held == sorted(child.worker for stream in streams for child in stream.children.values())
    return held


def ends_clean(mesh: Mesh, told: Told) -> None:
    """When the attack is over and nobody is there any more, nothing is left of it."""
    mesh["b"].unsubscribe("cam", "one", mesh.now)
    mesh.run(8 * S, 50 * MS)
    looks(mesh, told, count=REST_NS // LOOK_NS + 3)
    assert mesh["a"].slots_in_use() == {"streams": 1, "subs": 0, "ingress": 1, "children": 0}
    assert all(not worker.mirrors and not worker.subs for worker in mesh.relays["a"].workers)


def test_they_are_served_by_a_mirror_with_all_that_is_cached_and_the_stream_stays() -> None:
    mesh, relay, told = served()
    looks(mesh, told, 0, count=3)
    assert lanes(relay) == [1]
    assert mesh["a"].worker_of("cam") == 0
    ((_, target),) = relay.workers[0].mirrors
    assert target == 1
    assert [fields["whole"] for op, fields in relay.workers[0].log if op == "mirror_add"] == [1]
    assert mesh["b"].subscribe_answer("cam", "one").confirmed
    looks(mesh, told, count=REST_NS // LOOK_NS + 3)
    assert lanes(relay) == [1], "nobody is moved back"
    ends_clean(mesh, told)


def test_with_one_worker_or_all_lanes_flooded_each_is_served_all_the_same() -> None:
    for workers in (1, 2):
        mesh, relay, told = served(workers)
        looks(mesh, told, *range(workers), count=6)
        assert lanes(relay) in ([[0]] if workers == 1 else [[0], [1]])
        assert mesh["b"].subscribe_answer("cam", "one").confirmed
        ends_clean(mesh, told)


def test_when_the_shelter_is_flooded_too_they_go_on_and_home_when_that_is_quiet_again() -> None:
    mesh, relay, told = served()
    looks(mesh, told, 0, count=3)
    looks(mesh, told, 0, 1, count=3)
    assert lanes(relay) == [2]
    assert set(relay.workers[0].mirrors) == {(0, 2)}
    looks(mesh, told, 1, count=REST_NS // LOOK_NS + 3)
    looks(mesh, told, 2, count=3)
    assert lanes(relay) == [0]
    assert relay.workers[0].mirrors == {}
    ends_clean(mesh, told)


def test_one_that_acknowledges_nothing_there_is_told_that_it_is_gone_and_may_ask_again() -> None:
    mesh, relay, told = served()
    looks(mesh, told, 0, count=3)
    ((sub, (slot, _, _)),) = relay.workers[1].subs.items()
    stuck = core_codec().encode_event("child_stuck", 0, sub=sub, stream=slot)
    mesh["a"].on_event(1, core_codec().decode_event(stuck), mesh.now)
    relay.pump()
    assert lanes(relay) == []
    mesh.run(S)
    assert lanes(relay) == [1]
    ends_clean(mesh, told)


def test_they_ask_again_when_the_shelters_worker_dies_or_the_streams_own() -> None:
    for what in ("move_worker", "lose_worker"):
        for worker in (1, 0):
            mesh, relay, told = served()
            looks(mesh, told, 0, count=3)
            getattr(relay, what)(worker)
            mesh.run(S)
            looks(mesh, told, 0, count=3)
            assert len(lanes(relay)) == 1, (what, worker)
            assert lanes(relay) != [0], (what, worker)
            assert mesh["b"].subscribe_answer("cam", "one").confirmed
            ends_clean(mesh, told)


def test_a_higher_epoch_finds_them_in_their_shelter_and_the_end_of_the_stream_takes_it_along() -> None:
    mesh, relay, told = served()
    looks(mesh, told, 0, count=3)
    mesh["a"].publish("cam", body(2), mesh.now)
    mesh.run(S)
    assert lanes(relay) == [1]
    mesh["a"].unpublish("cam", None, mesh.now)
    mesh.run(8 * S, 50 * MS)
    assert mesh["a"].slots_in_use() == {"streams": 0, "subs": 0, "ingress": 0, "children": 0}
    assert all(not worker.streams and not worker.mirrors for worker in relay.workers)


def test_whatever_is_flooded_dies_comes_or_goes_every_child_is_served_once_and_nothing_leaks() -> None:
    for seed in range(30):
        rng, told = random.Random(seed), Told()
        mesh = chain(2, seed, workers=3)
        relay, epochs = mesh.relays["a"], Counter[str]()
        mesh.run(S)
        for _ in range(50):
            stream, worker = f"cam/{rng.randrange(3)}", rng.randrange(3)
            match rng.randrange(9):
                case 0 | 1:
                    epochs[stream] += 1
                    mesh["a"].publish(stream, body(epochs[stream]), mesh.now)
                case 2:
                    mesh["a"].unpublish(stream, None, mesh.now)
                case 3:
                    mesh["b"].subscribe(stream, "x", to(), mesh.now)
                case 4:
                    mesh["b"].unsubscribe(stream, "x", mesh.now)
                case 5:
                    mesh["a"].subscribe(stream, "y", to(), mesh.now)
                    mesh["a"].unsubscribe(stream, "y" if rng.random() < 0.5 else "z", mesh.now)
                case 6:
                    looks(mesh, told, worker, count=rng.randrange(1, 5))
                case 7:
                    relay.lose_worker(worker)
                case 8:
                    relay.move_worker(worker)
            mesh.run(20 * MS)
        looks(mesh, told, count=REST_NS // LOOK_NS + 3)
        lanes(relay)
        for stream in (f"cam/{number}" for number in range(3)):
            mesh["b"].unsubscribe(stream, "x", mesh.now)
            mesh["a"].unsubscribe(stream, "y", mesh.now)
            mesh["a"].unpublish(stream, None, mesh.now)
        mesh.run(8 * S, 50 * MS)
        looks(mesh, told)
        assert mesh["a"].slots_in_use() == {"streams": 0, "subs": 0, "ingress": 0, "children": 0}, seed
        assert all(not worker.streams and not worker.subs and not worker.mirrors for worker in relay.workers), seed
