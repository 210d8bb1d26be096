"""A4: relays that start while strangers who know the mesh key flood both with initiations whose MAC1 is right.

On a virtual clock, through the lane's gate, which is under load from the first burst on: who begins needs a cookie.
What the flood costs the agent is measured with real sockets: tests/net/test_flood_delay.py.
"""

import os
import random

from relay.handshake_wire import ZRELAY, Macs
from relay.noise import KeyPair
from relay.units import Address
from tests.sim.world import DATA_PORT, MS, SECOND, LinkConf, SimRelay, World

FULL = bool(os.environ.get("ZR_FULL"))
SETUPS = 100
PER_MS = 50 if FULL else 2  # at each relay: 50 000 a second; 2 000, when it has 1 000 for all
EVERY_MS = 10
SOURCES = 10_000
MADE = 500
LATE_NS = SECOND


class Strangers:
    """Initiations with a right MAC1, of nothing behind it, each from another of ten thousand sources in turn."""

    def __init__(self, world: World) -> None:
        self._world, rng = world, random.Random(4)
        self._said: dict[str, list[bytes]] = {}
        assert world.private is not None
        for name, private in world.private.items():
            macs = Macs(ZRELAY, KeyPair(private).public, bytes(32))
            size = ZRELAY.initiation_bytes - 4 - 32
            self._said[name] = [macs.finish(b"\x08\0\0\0" + rng.randbytes(size), None) for _ in range(MADE)]
        self._sources = [Address(f"10.{n >> 8}.{n & 255}.9", 4000).pack() for n in range(SOURCES)]
        self.thrown = 0
        self.throw()

    def throw(self) -> None:
        """Those of EVERY_MS, and so on for ever."""
        for name, relay in self._world.relays.items():
            said = self._said[name]
            for n in range(self.thrown, self.thrown + PER_MS * EVERY_MS):
                relay.arrive(DATA_PORT, said[n % MADE], self._sources[n % SOURCES])
        self.thrown += PER_MS * EVERY_MS
        self._world.at(self._world.now + EVERY_MS * MS, self.throw)


def met(world: World) -> bool:
    """Each is up, and with the other as it is now: both send under keys that the other has."""
    ends = [session_of(relay) for relay in world.relays.values()]
    if not all(view.state == "up" for relay in world.relays.values() for view in relay.control.links()):
        return False
    (ours, theirs), (there, here) = ends
    return (ours, theirs) == (here, there)


def session_of(relay: SimRelay) -> tuple[int, int]:
    """(our boot id, the peer's) of its session."""
    (peer,) = relay.control._sessions.peers.values()
    return (-1, -2) if peer.session is None else (peer.session.our_boot, peer.session.boot_id)


def test_honest_relays_find_each_other_within_a_second_while_strangers_flood_both_gates_A4() -> None:
    world = World(4, sealed=True, pkts_max=256)
    world.chain(["a", "b"], LinkConf(delay_ns=20 * MS, jitter_ns=5 * MS))
    strangers = Strangers(world)
    world.run(world.now + SECOND)
    took = []
    loaded = cookies = 0
    for number in range(SETUPS):
        name = "ab"[number % 2]
        old = world.relays[name].lane.stats()
        loaded, cookies = loaded + (old["gate_loads"] > 0), cookies + old["gate_replies"]
        began = world.now
        world.boot(name)
        while not met(world):
            world.run(world.now + 5 * MS)
            assert world.now - began < 10 * SECOND, number
        took.append(world.now - began)
        world.run(world.now + random.Random(number).randrange(20) * MS)
    took.sort()
    median, p99 = took[SETUPS // 2], took[SETUPS * 99 // 100]
    print(
        f"{strangers.thrown} initiations at each relay; set-ups: median {median / 1e6:.0f} ms, p99 {p99 / 1e6:.0f} ms"
    )
    assert p99 <= LATE_NS
    assert loaded > SETUPS // 2, "the gates were under load"
    assert cookies > strangers.thrown // 10
    world.check()
