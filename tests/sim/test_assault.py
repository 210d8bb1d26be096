"""T09: a lane that is flooded with forged data loses its conversations to another lane; nobody else notices."""

from __future__ import annotations

import pytest

from relay.assault import FORGED_PPS, JUNK_PPS, LOST_PPS, REST_NS, Assault
from tests.sim.world import AUDIO, MS, SECOND, VIDEO, LinkConf, World

LOOK = 250 * MS


def flooded(assault: Assault, seconds: float, **pps: float) -> list[float]:
    """When an attack was seen to begin, with these drops a second on worker 0."""
    begun, lost = [], pps.pop("lost", 0.0)
    for look in range(int(seconds * SECOND) // LOOK):
        now = SECOND + look * LOOK
        drops = {word: int(count * look / 4) for word, count in pps.items()}
        if assault.look(0, drops, int(lost * look / 4), now):
            begun.append((now - SECOND) / SECOND)
    return begun


def test_wrong_tags_are_an_attack_from_a_threshold_on_and_junk_only_with_an_overflow() -> None:
    assert flooded(Assault(1), 3, auth=FORGED_PPS) == [0.25]
    assert flooded(Assault(1), 3, auth=FORGED_PPS * 0.99) == []
    assert flooded(Assault(1), 3, noindex=1_000_000) == []  # two compares each: the lane holds
    assert flooded(Assault(1), 3, noindex=JUNK_PPS, lost=LOST_PPS) == [0.25]
    assert flooded(Assault(1), 3, noindex=JUNK_PPS * 0.99, lost=10_000) == []  # our own load overflows the socket
    assert flooded(Assault(1), 3, replay=100_000, kcp_una=100_000, lost=10_000) == []  # no stranger's


def test_a_lane_rests_thirty_seconds_after_the_last_look_and_a_new_page_is_no_attack() -> None:
    assault = Assault(2)
    flooded(assault, 1, auth=10 * FORGED_PPS)
    last = SECOND + 3 * LOOK
    assert assault.attacked(0, last + REST_NS - 1)
    assert not assault.attacked(0, last + REST_NS)
    assert not assault.attacked(1, last)
    assert not assault.look(0, {"auth": 1}, 0, last + 2 * REST_NS)  # a successor counts from 0
    assert not assault.look(0, {"auth": 2}, 0, last + 2 * REST_NS)  # no time has passed


def look(world: World) -> None:
    """What the agent does four times a second, on every relay."""
    for relay in world.relays.values():
        for worker, forwarder in enumerate(relay.forwarders):
            relay.control.on_drops(worker, forwarder.drops(), 0, world.now)
        relay.pump()


@pytest.mark.parametrize("seed", range(3))
def test_conversations_leave_a_flooded_lane_within_a_second_and_no_number_is_lost(seed: int) -> None:
    world = World(seed, sealed=True)
    world.chain(["a", "b"], LinkConf(delay_ns=5 * MS, jitter_ns=MS), workers=2)
    world.run(world.now + SECOND)
    for stream in ("cam/1", "cam/2"):
        world.publish("a", stream)
    hit, spared = (world.subscribe("b", stream) for stream in ("cam/1", "cam/2"))
    control = world.relays["b"].control
    world.run(world.now + 500 * MS)
    lane, other = control.worker_of("cam/1"), control.worker_of("cam/2")
    assert lane != other
    heads: list[tuple[bytes, bytes]] = []

    def tap(source: str, to: str, sender: int, data: bytes) -> bool:
        if source == "a" and sender != 63 and data[0] == 0x0B and data[4] & 63 == lane:
            heads.append((data[:16], world.relays["a"].address_of_lane(sender).pack()))
        return False

    world.drop = tap
    moved_at = None
    for number in range(250):  # 2.5 s; from 0.5 s to 2 s wrong tags come, 30 000 a second
        for stream in ("cam/1", "cam/2"):
            worker, slot = world.ingress_of("a", stream)
            world.rtp("a", worker, slot, VIDEO, number, 600)
            world.rtp("a", worker, slot, AUDIO, number, 100)
        if 50 <= number < 200:
            head, source = heads[0]
            for n in range(300):
                forged = head[:8] + (1_000_000 + number * 300 + n).to_bytes(8, "little") + bytes(64)
                world.relays["b"].forwarders[lane].link_input(forged, source, world.now)
            world.relays["b"].awake.add(lane)
            world.relays["b"].pump()
        if number % 25 == 0:
            look(world)
        world.run(world.now + 10 * MS)
        if moved_at is None and number >= 50 and control.worker_of("cam/1") != lane:
            moved_at = number
    world.run(world.now + SECOND)
    assert moved_at is not None
    assert (moved_at - 50) * 10 * MS <= SECOND
    assert control.worker_of("cam/1") == control.worker_of("cam/2") == other
    assert world.relays["b"].forwarders[lane].drops()["auth"] >= 150 * 300 * 0.9
    for sink in (hit, spared):
        for got in sink.numbers.values():
            assert sorted(set(got)) == list(range(250))
    assert all(len(got) == 250 for got in spared.numbers.values())
    assert world.relays["b"].forwarders[other].drops()["auth"] == 0
    world.check()


@pytest.mark.parametrize("seed", range(3))
def test_children_of_published_streams_leave_a_flooded_lane_within_a_second_and_no_number_is_lost(seed: int) -> None:
    world = World(seed, sealed=True)
    world.chain(["a", "b"], LinkConf(delay_ns=20 * MS, jitter_ns=MS, loss=0.05), workers=2)  # much is to be repaired
    world.run(world.now + SECOND)
    streams = ("cam/1", "cam/2")
    for stream in streams:
        world.publish("a", stream)
    sinks = [world.subscribe("b", stream) for stream in streams]
    a = world.relays["a"]
    world.run(world.now + 500 * MS)
    before = a.control.slots_in_use()
    lane, other = (world.ingress_of("a", stream)[0] for stream in streams)
    assert lane != other
    heads: list[tuple[bytes, bytes]] = []
    last_media = 0

    def tap(source: str, to: str, sender: int, data: bytes) -> bool:
        nonlocal last_media
        if source == "b" and sender != 63 and data[0] == 0x0B and data[4] & 63 == lane:
            heads.append((data[:16], world.relays["b"].address_of_lane(sender).pack()))
        if source == "a" and sender == lane and len(data) > 100:
            last_media = world.now
        return False

    world.drop = tap
    for number in range(250):  # 2.5 s; from 0.5 s to 2 s wrong tags come, 30 000 a second
        for stream in streams:
            worker, slot = world.ingress_of("a", stream)
            world.rtp("a", worker, slot, VIDEO, number, 600, key_every=1)  # a replay from the latest has not all
            world.rtp("a", worker, slot, AUDIO, number, 100)
        if number == 50:
            began = world.now
        if 50 <= number < 200:
            head, source = heads[0]
            for n in range(300):
                forged = head[:8] + (1_000_000 + number * 300 + n).to_bytes(8, "little") + bytes(64)
                a.forwarders[lane].link_input(forged, source, world.now)
            a.awake.add(lane)
            a.pump()
        if number % 25 == 0:
            look(world)
        world.run(world.now + 10 * MS)
    world.run(world.now + SECOND)
    assert began < last_media <= began + SECOND
    for sink in sinks:
        for got in sink.numbers.values():
            assert sorted(set(got)) == list(range(250))
    assert all(len(got) == 250 for got in sinks[1].numbers.values())
    world.check()
    for stream in streams:
        world.relays["b"].control.unsubscribe(stream, "one", world.now)
    world.run(world.now + 5 * SECOND)
    for _ in range(130):  # 32 s: the attack is over, and nobody is there any more
        world.run(world.now + LOOK)
        look(world)
    assert a.control.slots_in_use() == before | {"subs": 0, "children": 0}
    world.check()
