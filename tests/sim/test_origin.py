"""The origin relay dies and its publisher comes back with the same epoch: viewers two hops away see media again."""

from __future__ import annotations

import pytest

from tests.sim.world import MS, SECOND, VIDEO, LinkConf, World

STREAM = "cam/1"


@pytest.mark.parametrize("seed", range(5))
def test_media_flows_again_after_the_origin_starts_anew_with_the_same_epoch(seed: int) -> None:
    world = World(seed)
    world.chain(["a", "b", "c"], LinkConf(loss=0.02 * seed))
    world.run(world.now + 500 * MS)

    def send(first: int, count: int) -> None:
        worker, slot = world.ingress_of("a", STREAM)
        for number in range(first, first + count):
            world.rtp("a", worker, slot, VIDEO, number, 600)
            world.run(world.now + 10 * MS)

    world.publish("a", STREAM)
    sink = world.subscribe("c", STREAM)
    world.run(world.now + 3 * SECOND)
    send(0, 300)
    world.boot("a")
    world.publish("a", STREAM)
    world.run(world.now + 4 * SECOND)
    send(10_000, 200)
    world.run(world.now + SECOND)
    ((_, numbers),) = sink.numbers.items()
    assert sum(number >= 10_000 for number in numbers) >= 195, "its numbers begin again: none of them is late"
    assert len(set(numbers)) == len(numbers)
    world.check()
