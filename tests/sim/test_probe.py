"""Links that know their own health, in whole relays: cuts of one direction, a stopped agent, a smaller path."""

from __future__ import annotations

from tests.sim.world import AUDIO, LANE_AGENT, MS, SECOND, VIDEO, LinkConf, World

STREAM = "cam/1"


def pair(seed: int = 1, loss: float = 0.01) -> World:
    """b pulls from a, 10 ms away; a publishes, and b has one subscriber."""
    world = World(seed)
    world.chain(["a", "b"], LinkConf(delay_ns=10 * MS, jitter_ns=1 * MS, loss=loss))
    world.run(world.now + 2 * SECOND)
    return world


def flow(world: World, *, size: int = 300, every_ns: int = 10 * MS, seconds: float) -> None:
    """Publishes at a for that long; sets the clock forward."""
    worker, slot = world.ingress_of("a", STREAM)
    start = world.now
    for n in range(int(seconds * SECOND / every_ns)):
        world.at(
            start + n * every_ns,
            lambda number=n: world.rtp("a", worker, slot, VIDEO if number % 4 else AUDIO, number, size, key_every=20),
        )
    world.run(start + int(seconds * SECOND))


def stream(world: World) -> None:
    world.publish("a", STREAM)
    world.run(world.now + 100 * MS)
    world.sink = world.subscribe("b", STREAM)  # type: ignore[attr-defined]
    flow(world, seconds=1)


def states(world: World) -> tuple[str, str]:
    return world.relays["a"].control.links()[0].state, world.relays["b"].control.links()[0].state


def view(world: World, relay: str) -> dict[str, object]:
    it = world.relays[relay]
    found = it.lane.probe(min(it.sessions), world.now)
    assert found is not None
    return found


def test_a_link_at_rest_knows_its_round_trip_its_size_and_the_other_clock() -> None:
    world = pair(loss=0.0)
    world.run(world.now + 30 * SECOND)
    for relay in ("a", "b"):
        seen = view(world, relay)
        assert seen["up"]
        assert 20_000 <= int(str(seen["srtt_us"])) <= 24_000
        assert seen["mtu"] == 1500
        assert abs(int(str(seen["offset_ns"]))) < 1 * MS
        assert seen["dead_after"] == 200 * MS
        assert seen["flaps"] == 0
    world.check()


def test_a_cut_of_one_direction_is_known_at_both_ends_and_a_stream_goes_on_when_it_heals() -> None:
    for seed in range(6):
        world = pair(seed)
        stream(world)
        limit = 2 * max(int(str(view(world, relay)["dead_after"])) for relay in ("a", "b"))
        world.drop = lambda source, to, lane, data: source == "a"
        cut = world.now
        while states(world) != ("silent", "silent"):
            world.run(world.now + 1 * MS)
            assert world.now - cut <= limit, states(world)
        flow(world, seconds=1)
        world.drop = None
        healed, before = world.now, len(world.sink.times)  # type: ignore[attr-defined]
        flow(world, seconds=1)
        assert states(world) == ("up", "up")
        arrived = [at for at in world.sink.times[before:] if at >= healed]  # type: ignore[attr-defined]
        assert arrived[0] - healed <= (22 + 30) * MS  # a round trip and what d5 allows
        assert len(arrived) >= 95
        world.check()


def test_a_stopped_agent_is_no_dead_relay_while_its_workers_are_heard() -> None:
    world = pair()
    stream(world)
    flow(world, seconds=1)  # the session is known to be busy
    world.drop = lambda source, to, lane, data: source == "a" and lane == LANE_AGENT
    flow(world, seconds=5)
    world.run(world.now + 5 * SECOND)  # its worker has nothing to send but heartbeats
    assert states(world)[1] == "up"
    assert world.relays["b"].lane.stats()["link_deaths"] == 0
    world.drop = lambda source, to, lane, data: source == "a"
    world.run(world.now + 2 * SECOND)
    assert states(world)[1] == "silent"
    world.drop = None
    world.run(world.now + 1 * SECOND)
    assert states(world) == ("up", "up")
    world.check()


def test_a_path_that_silently_shrinks_is_used_at_its_new_size_within_300_ms() -> None:
    world = pair()
    stream(world)
    flow(world, size=1300, seconds=1)
    assert view(world, "a")["mtu"] == 1500
    world.drop = lambda source, to, lane, data: len(data) + 48 > 1300
    shrunk = world.now
    flow(world, size=1300, seconds=2)
    assert view(world, "a")["mtu"] == 1280
    assert states(world) == ("up", "up")
    times = [at for at in world.sink.times if at > shrunk]  # type: ignore[attr-defined]
    assert times[0] - shrunk <= 300 * MS + 30 * MS
    assert len(times) >= 160  # all but those in flight while the size was not known yet
    world.drop = None
    flow(world, size=1300, every_ns=20 * MS, seconds=11)
    assert view(world, "a")["mtu"] == 1500
    world.check()


def test_an_idle_neighbour_costs_less_than_20_kbit_a_second() -> None:
    world = pair(loss=0.0)
    sent = {"a": 0, "b": 0}
    begun = world.now

    def count(source: str, to: str, lane: int, data: bytes) -> bool:
        sent[source] += len(data) + 28
        return False

    world.drop = count
    world.run(begun + 30 * SECOND)
    for total in sent.values():
        assert 25 * 60 * 8 / 1000 * 0.9 <= total * 8 / 30 / 1000 <= 20
