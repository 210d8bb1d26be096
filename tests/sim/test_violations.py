"""An authenticated peer that breaks the protocol, over real sealed lanes: 16 times in 10 s close its link, live."""

from __future__ import annotations

import pytest

from relay.messages import Have, encode_message
from tests.sim.world import MS, SECOND, LinkConf, World


def states(world: World, name: str) -> dict[str, str]:
    return {link.peer: link.state for link in world.relays[name].control.links()}


def lie(world: World, name: str, payload: bytes, count: int) -> None:
    """Control messages of that relay to `b`, each sealed by its own lane."""
    relay = world.relays[name]
    (slot,) = relay.sessions
    for _ in range(count):
        assert relay.outbox.send(slot, payload, world.now)
    relay.pump()
    world.run(world.now + 100 * MS)


@pytest.mark.parametrize("payload", [b"\xc1", b"\x80"], ids=["no msgpack", "no message"])
def test_sixteen_violations_close_a_sealed_link_for_a_second_and_another_goes_on(payload: bytes) -> None:
    world = World(7, sealed=True)
    world.chain(["a", "b", "c"], LinkConf(delay_ns=2 * MS, jitter_ns=0))
    world.run(world.now + SECOND)
    assert states(world, "b") == {"a": "up", "c": "up"}
    lie(world, "c", payload, 15)
    assert states(world, "b") == {"a": "up", "c": "up"}
    lie(world, "c", payload, 1)
    assert states(world, "b")["a"] == "up"
    assert states(world, "b")["c"] != "up"
    world.run(world.now + 500 * MS)
    assert states(world, "b")["c"] != "up"  # whatever it says meanwhile
    world.run(world.now + 8 * SECOND)
    assert states(world, "b") == {"a": "up", "c": "up"}
    world.check()


def test_fifteen_violations_every_ten_seconds_close_nothing() -> None:
    world = World(8, sealed=True)
    world.chain(["a", "b"], LinkConf(delay_ns=2 * MS, jitter_ns=0))
    world.run(world.now + SECOND)
    for _ in range(3):
        lie(world, "a", b"\xc1", 15)
        world.run(world.now + 10 * SECOND)
        assert states(world, "b") == {"a": "up"}
    lie(world, "a", encode_message(Have(streams={})), 40)  # honest words count for nothing
    assert states(world, "b") == {"a": "up"}
