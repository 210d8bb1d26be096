"""Subscribers on two workers of each relay: both get every packet, at the same instant, in the same order."""

from __future__ import annotations

import pytest

from tests.sim.world import AUDIO, MS, SECOND, VIDEO, LinkConf, Sink, World

STREAM, OTHER = "cam/1", "cam/2"


def run_pairs(seed: int, streams: tuple[str, ...] = (STREAM, OTHER)) -> tuple[World, list[tuple[Sink, Sink]]]:
    """Two streams, one on each worker, each with a subscriber on either worker of each relay: (beside, mirrored)."""
    world = World(seed)
    world.chain(["a", "b"], LinkConf(delay_ns=5 * MS, jitter_ns=MS, loss=(seed % 3) / 50), workers=2)
    world.run(world.now + 500 * MS)
    pairs: list[tuple[Sink, Sink]] = []
    for stream in streams:
        world.publish("a", stream)
    for stream in streams:
        for relay in "ab":
            near = world.subscribe(relay, stream, "near")
            world.overload(relay, stream)
            pairs.append((near, world.subscribe(relay, stream, "far")))
            control = world.relays[relay].control
            assert control.subscribe_answer(stream, "far").worker != control.subscribe_answer(stream, "near").worker
            world.relays[relay].control.on_load(control.worker_of(stream), SECOND, 0, world.now + 1)  # idle again
    world.run(world.now + SECOND)
    assert all(world.relays[r].control.subscribe_answer(s, "far").confirmed for r in "ab" for s in streams)
    return world, pairs


def send(world: World, first: int, count: int, streams: tuple[str, ...] = (STREAM, OTHER)) -> None:
    for number in range(first, first + count):
        for stream in streams:
            worker, slot = world.ingress_of("a", stream)
            world.rtp("a", worker, slot, VIDEO, number, 1200)
            world.rtp("a", worker, slot, AUDIO, number, 120)
        world.run(world.now + 10 * MS)
    world.run(world.now + SECOND)


@pytest.mark.parametrize("seed", range(6))
def test_both_workers_of_each_relay_give_every_packet_at_the_same_instant(seed: int) -> None:
    world, pairs = run_pairs(seed)
    send(world, 0, 150)
    for near, far in pairs:
        assert len(near.order) == 300
        assert far.order == near.order
        assert far.times == near.times, "a wake-up was lost"
    world.check()
    for relay in world.relays.values():
        stats = [forwarder.stats() for forwarder in relay.forwarders]
        assert sum(each["mirror_sent"] for each in stats) == 600
        assert sum(each["mirror_received"] for each in stats) >= 600  # key frame requests, too


def test_an_epoch_a_restart_of_the_publisher_and_a_leaving_subscriber_keep_both_alike() -> None:
    world, pairs = run_pairs(1, (STREAM,))
    send(world, 0, 50, (STREAM,))
    world.publish("a", STREAM, epoch=2)
    world.run(world.now + SECOND)
    send(world, 1000, 50, (STREAM,))
    for near, far in pairs:
        assert len(near.order) == 200
        assert far.order == near.order
    for relay in "ab":
        world.relays[relay].control.unsubscribe(STREAM, "near", world.now)
        world.relays[relay].pump()
    send(world, 2000, 50, (STREAM,))
    assert [len(far.order) for _, far in pairs] == [300, 300]
    for relay in "ab":
        world.relays[relay].control.unsubscribe(STREAM, "far", world.now)
        world.relays[relay].pump()
    world.relays["a"].control.unpublish(STREAM, None, world.now)
    world.run(world.now + 5 * SECOND)
    for relay in world.relays.values():
        assert relay.control.slots_in_use() == {"streams": 0, "subs": 0, "ingress": 0, "children": 0}
        assert all(forwarder.stats()["mirrors"] == 0 for forwarder in relay.forwarders)
    world.check()


def test_media_of_one_worker_wakes_the_other_although_nothing_else_happens() -> None:
    """The owner is worker 1: worker 0, which is asked first, has had its turn and sleeps when the packet comes."""
    world, pairs = run_pairs(2)
    worker, slot = world.ingress_of("a", OTHER)
    assert worker == 1
    before = [len(far.order) for _, far in pairs]
    world.rtp("a", worker, slot, VIDEO, 5000, 1200)
    assert [len(far.order) - had for (_, far), had in zip(pairs, before, strict=True)] == [0, 0, 1, 0]
