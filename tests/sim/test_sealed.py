"""The chain of three relays with keys: the same traffic, the same restart, and the handshake in place of the hello."""

import os

import pytest

from tests.sim.test_chain import STREAM, check_run, run_chain
from tests.sim.world import MS, SECOND, VIDEO, LinkConf, SimRelay, Sink, World

SEEDS = 100 if os.environ.get("ZR_FULL") else 6
REKEYS = 1000 if os.environ.get("ZR_FULL") else 20
BATCH = 3


@pytest.mark.parametrize("first", range(0, SEEDS, BATCH))
def test_with_keys_every_packet_at_most_once_and_all_accounted_for(first: int) -> None:
    for seed in range(first, min(first + BATCH, SEEDS)):
        run = run_chain(seed, sealed=True)
        try:
            check_run(run)
        except Exception as error:
            raise AssertionError(f"seed {seed}: {error}") from error
        for relay in run.world.relays.values():
            assert all(view.state == "up" for view in relay.control.links()), relay.name


def test_with_keys_the_same_seed_gives_the_same_trace() -> None:
    first, second = (run_chain(5, sealed=True).world for _ in range(2))
    assert first.arrived == second.arrived > 500
    assert first.trace() == second.trace()


def test_no_datagram_lacks_its_key_while_the_keys_change_under_load() -> None:
    """Every 300 ms, from either side, then from one: no lane refuses anything, nor one that was idle until then."""
    world = World(6, sealed=True)
    world.chain(["a", "b"], LinkConf(delay_ns=30 * MS, jitter_ns=5 * MS, loss=0.01), workers=2)
    world.run(world.now + SECOND)
    busy = send(world, STREAM, REKEYS * 60)
    for number in range(REKEYS):
        relay = world.relays["b" if number > REKEYS // 2 else "ab"[number % 2]]
        world.at(world.now + number * 300 * MS, lambda relay=relay: rekey(relay))
    world.run(world.now + REKEYS * 300 * MS + SECOND)
    idle = send(world, "cam/2", 1200)
    assert world.relays["a"].control.worker_of(STREAM) != world.relays["a"].control.worker_of("cam/2")
    world.run(world.now + 8 * SECOND)
    world.check()
    assert [len(sink.numbers[1000 + VIDEO.payload_type]) for sink in (busy, idle)] == [REKEYS * 60, 1200]
    for relay in world.relays.values():
        for lane in (relay.lane, *relay.forwarders):
            words = {word for word, count in lane.drops().items() if count > 0}
            assert words <= ({"noindex"} if lane is relay.lane else set()), relay.name  # a response that came twice
            # Each lane was told of each, but for those that came while a lost message of the one before was repeated.
            assert lane.stats()["rekeys"] >= REKEYS // 2 * 97 // 100


def send(world: World, stream: str, packets: int) -> Sink:
    """So many packets from a to b, from 1 s on."""
    world.publish("a", stream)
    sink = world.subscribe("b", stream)
    worker, slot = world.ingress_of("a", stream)
    for number in range(packets):
        at = world.now + SECOND + number * 5 * MS
        world.at(at, lambda n=number: world.rtp("a", worker, slot, VIDEO, n, 1000))
    return sink


def rekey(relay: SimRelay) -> None:
    for slot in relay.sessions:
        relay.control.on_rekey(slot, 1, relay.world.now)
    relay.pump()


def test_relays_that_ask_for_cookies_find_each_other_as_well() -> None:
    """The gate is under load at both ends: every handshake message must carry a cookie, and soon does."""
    world = World(7, sealed=True)
    world.chain(["a", "b"], LinkConf(delay_ns=30 * MS, loss=0.3))
    for _ in range(10):
        for relay in world.relays.values():
            relay.lane.busy(900)
        world.run(world.now + 200 * MS)
    for relay in world.relays.values():
        assert [view.state for view in relay.control.links()] == ["up"]
    assert sum(relay.lane.stats()["gate_replies"] for relay in world.relays.values()) > 0
    world.check()
