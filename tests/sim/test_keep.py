"""What outlives what: media an agent that is gone, keys a path that is gone, links the last epoch of a lane."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from relay import _core
from tests.sim.test_probe import STREAM, states
from tests.sim.world import AUDIO, BATCH_ENTRIES, LANE_AGENT, MS, SECOND, VIDEO, LinkConf, Sink, World

DELAY_NS, JITTER_NS = 10 * MS, 1 * MS
HANDSHAKE = (0x08, 0x09, 0x0A)  # types of datagrams
FULL = bool(os.environ.get("ZR_FULL"))


class Flow:
    """b pulls from a, 10 ms away, and has one subscriber; a packet every `every_ns`, all of which came so far."""

    def __init__(self, seed: int, every_ns: int, *, loss: float = 0.0) -> None:
        self.world = World(seed, sealed=True)
        self.world.chain(["a", "b"], LinkConf(delay_ns=DELAY_NS, jitter_ns=JITTER_NS, loss=loss))
        self.every_ns, self.sent = every_ns, 0
        self.world.run(self.world.now + 2 * SECOND)
        self.world.publish("a", STREAM)
        self.sink: Sink = self.world.subscribe("b", STREAM)
        self.world.run(self.world.now + SECOND)
        self.go(1)
        self.check_all_came()

    def go(self, seconds: float) -> None:
        """Publishes for that long; sets the clock forward."""
        world, begin = self.world, self.world.now
        worker, slot = world.ingress_of("a", STREAM)
        for n in range(int(seconds * SECOND / self.every_ns)):
            track, number = AUDIO if self.sent % 4 == 3 else VIDEO, self.sent
            world.at(
                begin + n * self.every_ns,
                lambda t=track, i=number: world.rtp("a", worker, slot, t, i, 300, key_every=20),
            )
            self.sent += 1
        world.run(begin + int(seconds * SECOND))

    def check_all_came(self) -> None:
        self.world.run(self.world.now + 200 * MS)
        assert sorted(number for _, number in self.sink.order) == list(range(self.sent))

    def deaths(self) -> list[int]:
        return [relay.lane.stats()["link_deaths"] for relay in self.world.relays.values()]

    def keys(self) -> list[list[int]]:
        """What tells the sessions and their keys apart, of both relays."""
        return [[relay.lane.index(slot) for slot in sorted(relay.sessions)] for relay in self.world.relays.values()]


def agent_of_a(source: str, to: str, lane: int, data: bytes) -> bool:
    return source == "a" and lane == LANE_AGENT


def agents_of_both(source: str, to: str, lane: int, data: bytes) -> bool:
    return lane == LANE_AGENT


@pytest.mark.parametrize("pps", [10, 25])
@pytest.mark.parametrize("gone", [agent_of_a, agents_of_both])
def test_media_loses_nothing_while_an_agent_is_gone(pps: int, gone: Callable[[str, str, int, bytes], bool]) -> None:
    flow = Flow(1, SECOND // pps)
    keys = flow.keys()
    flow.world.drop = gone
    for _ in range(5):
        flow.go(3)
        assert states(flow.world) == ("up", "up")
    flow.check_all_came()
    assert flow.deaths() == [0, 0]
    assert flow.keys() == keys
    flow.world.drop = None
    flow.go(1)
    flow.check_all_came()
    assert (flow.deaths(), flow.keys()) == ([0, 0], keys)
    flow.world.check()


def test_a_relay_that_dies_after_its_agent_is_known_to_be_dead_within_two_seconds() -> None:
    flow = Flow(2, SECOND // 25)
    flow.world.drop = agent_of_a
    flow.go(3)
    flow.world.drop = lambda source, to, lane, data: source == "a"
    flow.go(1)
    assert states(flow.world)[1] == "up"
    flow.go(1)
    assert states(flow.world) == ("silent", "silent")
    flow.world.check()


@pytest.mark.parametrize("seconds", [15, 30, 600] if FULL else [15, 30])
def test_after_a_hole_the_old_keys_go_on_within_a_round_trip_and_30_ms(seconds: int) -> None:
    flow = Flow(3, 20 * MS)
    keys = flow.keys()
    flow.world.drop = lambda source, to, lane, data: True
    flow.go(min(seconds, 30))
    flow.world.run(flow.world.now + max(seconds - 30, 0) * SECOND)  # minutes of media would take minutes
    assert states(flow.world) == ("silent", "silent")
    assert flow.keys() == keys
    flow.world.drop = lambda source, to, lane, data: data[0] in HANDSHAKE
    healed, before = flow.world.now, len(flow.sink.times)
    flow.go(1)
    assert flow.sink.times[before] - healed <= 2 * (DELAY_NS + JITTER_NS) + 30 * MS
    assert states(flow.world) == ("up", "up")
    assert flow.keys() == keys
    flow.world.drop = None
    flow.go(2)
    assert states(flow.world) == ("up", "up")
    assert flow.deaths() == [1, 1]
    assert set(range(flow.sent - 100, flow.sent)) <= {number for _, number in flow.sink.order}
    flow.world.check()


def replace(flow: Flow, epoch: int) -> None:
    """Relay a's worker begins anew as another process, with this epoch of its lane."""
    relay, now = flow.world.relays["a"], flow.world.now
    relay.control.on_worker_lost(0, now)
    relay.forwarders[0] = _core.Forwarder(0, now, batch_entries=BATCH_ENTRIES, epoch=epoch)
    relay.control.on_lane_epoch(0, epoch, now)
    relay.control.on_worker_up(0, now)
    relay.pump()


def test_the_epoch_after_the_last_one_is_a_new_session_and_media_goes_on() -> None:
    flow = Flow(4, 20 * MS)
    sessions = [flow.keys()]
    for epoch in (65534, 65535, 1, 2):
        replace(flow, epoch)
        flow.go(1)
        before = len(flow.sink.order)
        flow.go(1)
        assert len(flow.sink.order) - before >= 49, epoch
        sessions.append(flow.keys())
    assert sessions[0] == sessions[1] == sessions[2] != sessions[3] == sessions[4]
    assert states(flow.world) == ("up", "up")
    flow.world.check()
