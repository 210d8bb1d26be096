"""A6: a path that changes a byte in three of ten datagrams. To a sealed link that is loss, and nothing worse."""

import os

import pytest

from tests.sim.test_chain import STREAM
from tests.sim.world import KEY_EVERY, MS, SECOND, VIDEO, LinkConf, World

SEEDS = 20 if os.environ.get("ZR_FULL") else 2
SHARE = 0.3
PACKETS = 1000
SETTLED_NS = 60 * SECOND  # until a link has seen how long its runs of losses are


class Mangler:
    """Changes one byte in a share of what is sent."""

    def __init__(self, world: World) -> None:
        self._random, self.changed = world.random, 0

    def __call__(self, data: bytes) -> bytes:
        if self._random.random() >= SHARE:
            return data
        self.changed += 1
        at = self._random.randrange(len(data))
        return data[:at] + bytes([data[at] ^ self._random.randrange(1, 256)]) + data[at + 1 :]


class Watched(World):
    """Keeps what subscribers are sent, behind the RTP header."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed, sealed=True)
        self.payloads: list[bytes] = []

    def _trace(self, source: bytes, to: bytes, data: bytes) -> None:
        super()._trace(source, to, data)
        if source == b"rtp":
            self.payloads.append(data[12:])


def payload(number: int) -> bytes:
    """As World.rtp makes it."""
    return (b"\x41\x9a" if number % KEY_EVERY else b"\x65\x88") + number.to_bytes(4, "big") + bytes(1000 - 18)


def flaps_of(world: World) -> list[int]:
    return [sum(one.lane.probe(slot, world.now)["flaps"] for slot in one.sessions) for one in world.relays.values()]


@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_sealed_link_stays_up_and_delivers_nothing_changed_when_three_of_ten_datagrams_are(seed: int) -> None:
    world = Watched(seed)
    mangler = world.change = Mangler(world)
    world.chain(["a", "b"], LinkConf(delay_ns=10 * MS, jitter_ns=2 * MS))
    began = world.now
    while not all(view.state == "up" for relay in world.relays.values() for view in relay.control.links()):
        world.run(world.now + 10 * MS)
        assert world.now - began <= 2 * SECOND, "the handshake survives it, too"
    world.run(began + SETTLED_NS)
    flaps = flaps_of(world)
    world.publish("a", STREAM)
    sink = world.subscribe("b", STREAM)
    worker, slot = world.ingress_of("a", STREAM)
    world.run(world.now + 2 * SECOND)
    first = world.now
    for number in range(PACKETS):
        world.at(first + number * 5 * MS, lambda n=number: world.rtp("a", worker, slot, VIDEO, n, 1000))
    while world.now < first + PACKETS * 5 * MS + 2 * SECOND:
        world.run(world.now + 50 * MS)
        for relay in world.relays.values():
            assert [view.state for view in relay.control.links()] == ["up"], (relay.name, world.now - first)
    assert flaps_of(world) == flaps
    numbers = sink.numbers[1000 + VIDEO.payload_type]
    assert len(set(numbers)) == len(numbers)
    assert set(numbers) <= set(range(PACKETS))
    assert world.payloads == [payload(number) for number in numbers]
    print(f"{mangler.changed} changed, {len(numbers)} of {PACKETS} delivered, flaps {flaps}")
    assert len(numbers) >= 0.97 * PACKETS
    refused = sum(
        sum(lane.drops().values()) for relay in world.relays.values() for lane in (relay.lane, *relay.forwarders)
    )
    assert refused >= 0.99 * mangler.changed  # the last ones are still on their way
    assert any(relay.lane.drops()["auth"] > 0 for relay in world.relays.values())
    world.check()
