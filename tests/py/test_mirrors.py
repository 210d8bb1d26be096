"""A stream on more workers than its own: what the control plane tells each, whoever comes, goes or dies in between."""

from __future__ import annotations

import random

import pytest

from relay.requests import Ingress, PublishRequest
from tests.py.fake_mesh import AUDIO, VIDEO, FakeRelay, Mesh, S, body, chain, to

BUSY, IDLE = 0.9, 0.05


def relay_of(mesh: Mesh, name: str = "a") -> FakeRelay:
    return mesh.relays[name]


def load(mesh: Mesh, *shares: float, name: str = "a") -> None:
    """The workers' counters as they are after a second with these shares, twice: no joins are in flight."""
    control = mesh[name]
    for _ in range(3):
        mesh.now += S
        for worker, share in enumerate(shares):
            cost = control._desk.placement._costs[worker]  # counters go on from where they stand
            control.on_load(worker, cost.busy_ns + int(share * S), cost.pairs, mesh.now)


def mirrored(workers: int = 2) -> Mesh:
    """Stream cam of worker 0, subscriber one there, subscriber two on worker 1."""
    mesh = chain(1, workers=workers)
    mesh["a"].publish("cam", body(), mesh.now)
    mesh["a"].subscribe("cam", "one", to(5000), mesh.now)
    load(mesh, BUSY, *[IDLE] * (workers - 1))
    mesh["a"].subscribe("cam", "two", to(5002), mesh.now)
    relay_of(mesh).pump()
    return mesh


def answer(mesh: Mesh, sid: str) -> tuple[int, bool]:
    found = mesh["a"].subscribe_answer("cam", sid)
    return found.worker, found.confirmed


def test_a_subscriber_of_a_busy_worker_lands_on_another_which_the_answer_names() -> None:
    mesh = mirrored()
    owner, target = relay_of(mesh).workers
    assert (answer(mesh, "one"), answer(mesh, "two")) == ((0, True), (1, True))
    ((slot, stream),) = target.streams.items()
    assert (stream["local"], stream["from"], stream["epoch"]) == (2, 0 | 0 << 8, 1)
    assert owner.mirrors == {(0, 1): (slot, stream["feed"])}
    assert [of for of, _, _ in target.subs.values()] == [slot]
    assert len(owner.subs) == 1


def test_it_is_confirmed_only_when_its_streams_worker_feeds_the_mirror() -> None:
    mesh = chain(1, workers=2)
    mesh["a"].publish("cam", body(), mesh.now)
    relay_of(mesh).pump()
    load(mesh, BUSY, IDLE)
    mesh["a"].subscribe("cam", "two", to(), mesh.now)
    assert answer(mesh, "two") == (1, False)
    relay_of(mesh).pump()
    assert answer(mesh, "two") == (1, True)


def test_the_last_subscriber_of_a_mirror_takes_it_along() -> None:
    mesh = mirrored()
    mesh["a"].subscribe("cam", "three", to(5004), mesh.now)
    relay_of(mesh).pump()
    owner, target = relay_of(mesh).workers
    assert len(target.subs) == 2
    for sid, left in (("two", 1), ("three", 0)):
        mesh["a"].unsubscribe("cam", sid, mesh.now)
        relay_of(mesh).pump()
        assert (len(target.streams), len(owner.mirrors)) == (left, left)
    mesh["a"].unsubscribe("cam", "one", mesh.now)
    mesh["a"].unpublish("cam", None, mesh.now)
    relay_of(mesh).pump()
    assert mesh["a"].slots_in_use() == {"streams": 0, "subs": 0, "ingress": 0, "children": 0}


def test_a_higher_epoch_feeds_every_mirror_anew_and_keeps_its_subscribers() -> None:
    mesh = mirrored()
    owner, target = relay_of(mesh).workers
    ((_, feed),) = owner.mirrors.values()
    mesh["a"].publish("cam", body(2), mesh.now)
    relay_of(mesh).pump()
    ((slot, newer),) = owner.mirrors.values()
    assert newer != feed
    assert (target.streams[slot]["feed"], target.streams[slot]["epoch"]) == (newer, 2)
    assert len(target.subs) == 1
    assert answer(mesh, "two") == (1, True)


@pytest.mark.parametrize("worker", [0, 1])
def test_either_worker_lost_is_told_everything_again(worker: int) -> None:
    mesh = mirrored()
    relay = relay_of(mesh)
    relay.lose_worker(worker)
    owner, target = relay.workers
    assert relay.workers[1 - worker].peers_up[-1] == worker
    ((slot, stream),) = target.streams.items()
    assert owner.mirrors == {(0, 1): (slot, stream["feed"])}
    assert (len(owner.subs), len(target.subs)) == (1, 1)
    assert answer(mesh, "two") == (1, True)


def test_a_mirrors_worker_that_is_down_leaves_the_rest_alone_and_gets_no_new_subscribers() -> None:
    mesh = mirrored(3)
    relay = relay_of(mesh)
    relay.control.on_worker_lost(1, mesh.now)
    relay.pump()
    assert answer(mesh, "two") == (1, False)
    assert relay.workers[0].mirrors == {}
    mesh["a"].subscribe("cam", "three", to(5004), mesh.now)
    relay.pump()
    assert answer(mesh, "three") == (2, True)


def test_an_answer_from_before_a_mirror_was_closed_does_not_feed_it() -> None:
    """stream_open is answered after the last subscriber has gone, or after the mirror was opened anew."""
    mesh = chain(1, workers=2)
    relay, control = relay_of(mesh), mesh["a"]
    control.publish("cam", body(), mesh.now)
    relay.pump()
    load(mesh, BUSY, IDLE)
    late: list[bytes] = []
    take = relay.workers[1].command
    relay.workers[1].command = lambda record: late.append(take(record) or b"") or None  # type: ignore[method-assign]
    control.subscribe("cam", "two", to(), mesh.now)
    relay.pump()
    control.unsubscribe("cam", "two", mesh.now)
    control.subscribe("cam", "two", to(), mesh.now)
    relay.pump()
    from relay.commands import core_codec

    for event in filter(None, late):
        control.on_event(1, core_codec().decode_event(event), mesh.now)
        relay.pump()
    ((slot, stream),) = relay.workers[1].streams.items()
    assert relay.workers[0].mirrors == {(0, 1): (slot, stream["feed"])}
    assert answer(mesh, "two") == (1, True)


def test_streams_of_one_group_stay_on_one_worker_and_their_overflow_too() -> None:
    mesh = chain(1, workers=4)
    control = mesh["a"]
    for number in range(3):
        request = PublishRequest(epoch=1, tracks=[VIDEO, AUDIO], ingress=Ingress(), group="room")
        control.publish(f"cam/{number}", request, mesh.now)
    relay_of(mesh).pump()
    assert {control.publish_answer(f"cam/{number}").worker for number in range(3)} == {0}
    load(mesh, BUSY, 0.3, 0.3, IDLE)
    control.subscribe("cam/0", "x", to(), mesh.now)
    load(mesh, BUSY, IDLE, IDLE, 0.3)  # now others are less busy
    for number in range(3):
        control.subscribe(f"cam/{number}", "y", to(), mesh.now)
        assert control.subscribe_answer(f"cam/{number}", "y").worker == 3


def test_100_joiners_in_the_same_second_do_not_all_land_on_one_worker() -> None:
    mesh = chain(1, workers=2)
    control = mesh["a"]
    control.publish("cam", body(), mesh.now)
    for second, busy_ns in ((1, 0), (2, S // 2)):
        for worker in range(2):
            control.on_load(worker, busy_ns // (1 + worker), second * 20_000, second * S)  # 25 us a pair, at half load
    for number in range(100):
        control.subscribe("cam", f"s{number}", to(5000 + 2 * number), mesh.now)
    relay_of(mesh).pump()
    landed = [len(worker.subs) for worker in relay_of(mesh).workers]
    assert sum(landed) == 100
    assert min(landed) >= 20, landed


def test_whatever_comes_and_goes_both_workers_hold_what_is_wanted() -> None:
    for seed in range(40):
        rng = random.Random(seed)
        mesh = chain(2, workers=3)
        relay, control = relay_of(mesh, "b"), mesh["b"]
        mesh.run(S)
        subs: set[tuple[str, str]] = set()
        published: dict[str, int] = {}
        for _ in range(60):
            stream, sid = f"cam/{rng.randrange(3)}", rng.choice("xyz")
            match rng.randrange(8):
                case 0:
                    published[stream] = published.get(stream, 0) + 1
                    mesh[rng.choice("ab")].publish(stream, body(published[stream]), mesh.now)
                case 1:
                    mesh["a"].unpublish(stream, None, mesh.now)
                    mesh["b"].unpublish(stream, None, mesh.now)
                case 2 | 3 | 4:
                    control.subscribe(stream, sid, to(), mesh.now)
                    subs.add((stream, sid))
                case 5:
                    control.unsubscribe(stream, sid, mesh.now)
                    subs.discard((stream, sid))
                case 6:
                    relay.lose_worker(rng.randrange(3))
                case 7:
                    load(mesh, *(rng.choice((BUSY, IDLE)) for _ in range(3)), name="b")
            mesh.run(20_000_000)
        mesh.run(8 * S, 50_000_000)
        for stream, sid in subs:
            found = control._streams.get(stream)
            assert found is not None
            sub = found.subs[sid]
            assert found.reaches(sub) == found.confirmed, (seed, stream, sid)
            if found.confirmed:
                at = found.at(sub.worker)
                assert relay.workers[sub.worker].subs[sub.slot][0] == at.slot, seed
        wanted = {
            (s.worker, s.slot, m.worker): (m.slot, m.feed)
            for s in control._streams
            if s.opened
            for m in s.mirrors.values()
        }
        held = {(w, s, t): v for w, worker in enumerate(relay.workers) for (s, t), v in worker.mirrors.items()}
        assert held == wanted, seed
        for stream, sid in subs:
            control.unsubscribe(stream, sid, mesh.now)
        for stream in published:
            mesh["a"].unpublish(stream, None, mesh.now)
            control.unpublish(stream, None, mesh.now)
        mesh.run(8 * S, 50_000_000)
        assert control.slots_in_use() == {"streams": 0, "subs": 0, "ingress": 0, "children": 0}, seed
        assert all(worker.streams == {} and worker.subs == {} and worker.mirrors == {} for worker in relay.workers)
