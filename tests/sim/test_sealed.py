"""Media over a chain of relays whose links are sealed, with new keys several times a second: nothing is missed.

The handshake is played by this test: both ends of a session get their keys out of their two indices.
"""

from __future__ import annotations

import hashlib

import msgspec
import pytest

from relay import _core
from relay import actions as act
from relay.secret import Secret
from relay.workers import Workers
from tests.sim.world import AUDIO, MS, SECOND, SOCK_LINK, VIDEO, LinkConf, SimRelay, World

STREAM = "cam/1"
COUNT = 200
DELAY = 10 * MS
REKEY_EVERY = 100 * MS
REKEYS = 20
DATA, TAG = 0x0B, 16
WANT_OF_A_KEY = ("noindex", "auth", "expired", "lane", "ratelimit", "limit", "src", "replay")


def keys_of(index: int, peer_index: int, generation: int) -> act.SessionKeys:
    """The end with the lower index has begun the handshake."""
    low, high = sorted((index, peer_index))
    first, second = (hashlib.sha256(f"{low} {high} {generation} {way}".encode()).digest() for way in (0, 1))
    send, recv = (first, second) if index == low else (second, first)
    return act.SessionKeys(1 + generation % 2, Secret(send), Secret(recv), initiator=index == low)


def sealed(action: act.Action) -> act.Action:
    if not isinstance(action, act.SessionAdd) or action.keys is not None:
        return action
    return msgspec.structs.replace(action, keys=keys_of(action.index, action.peer_index, 0))


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Data between relays that left anywhere; every session gets keys."""
    datagrams: list[bytes] = []
    perform, add_session, send = SimRelay._perform, Workers.add_session, World.send

    def seen(self: World, relay: SimRelay, lane: int, sock: int, to: bytes, data: bytes) -> None:
        if sock == SOCK_LINK and data[0] == DATA:
            datagrams.append(data)
        send(self, relay, lane, sock, to, data)

    monkeypatch.setattr(SimRelay, "_perform", lambda self, action: perform(self, sealed(action)))
    monkeypatch.setattr(
        Workers, "add_session", lambda self, worker, told, *rest: add_session(self, worker, sealed(told), *rest)
    )
    monkeypatch.setattr(World, "send", seen)
    return datagrams


def rekey(world: World, sessions: dict[str, list[act.SessionAdd]], generation: int) -> None:
    """The responders have the new keys one way before the initiators."""
    for relay, adds in sessions.items():
        for add in adds:
            indices = (add.index + generation) % (1 << 26), (add.peer_index + generation) % (1 << 26)
            told = act.SessionRekey(add.slot, *indices, keys_of(add.index, add.peer_index, generation))

            def give(relay: str = relay, told: act.SessionRekey = told) -> None:
                end = world.relays[relay]
                end._perform(told)
                for worker in range(len(end.forwarders)):
                    end.control._workers.add_session(worker, told, world.now)
                for action in end.control.drain():
                    end._perform(action)
                end.pump()

            world.at(world.now + (DELAY if told.keys.initiator else 0) + 2 * MS, give)


@pytest.mark.parametrize("workers", [1, 2])
def test_media_over_sealed_links_misses_nothing_while_keys_change(sent: list[bytes], workers: int) -> None:
    world = World(7)
    world.chain(["a", "b", "c"], LinkConf(delay_ns=DELAY, jitter_ns=0), workers=workers)
    world.run(world.now + 500 * MS)
    sessions = {
        name: [add for add in relay.control._sessions.adds() if isinstance(add, act.SessionAdd)]
        for name, relay in world.relays.items()
    }
    assert sorted(map(len, sessions.values())) == [1, 1, 2]
    world.publish("a", STREAM)
    far = world.subscribe("c", STREAM)
    while not world.relays["c"].control.subscribe_answer(STREAM, "one").confirmed:
        assert world.now < 20 * SECOND, "the way never stood"
        world.run(world.now + 20 * MS)
    worker, slot = world.ingress_of("a", STREAM)
    started = world.now
    for track, every in ((VIDEO, 10 * MS), (AUDIO, 20 * MS)):
        for number in range(COUNT):
            world.at(
                started + number * every,
                lambda track=track, number=number: world.rtp("a", worker, slot, track, number, 1000),
            )
    for generation in range(1, REKEYS + 1):
        world.run(started + generation * REKEY_EVERY)
        rekey(world, sessions, generation)
    world.run(started + COUNT * 20 * MS + SECOND)
    world.check()
    for numbers in far.numbers.values():
        assert sorted(numbers) == list(range(COUNT))
    assert len(sent) > COUNT
    assert all(any(data[-TAG:]) for data in sent), "one left in plaintext"
    for relay in world.relays.values():
        counters: list[_core.Counters] = [relay.lane, *relay.forwarders]
        for counted in counters:
            drops = counted.drops()
            assert [drops[word] for word in WANT_OF_A_KEY] == [0] * len(WANT_OF_A_KEY)
            assert counted.stats()["link_unsealed"] == 0
        rekeyed = [counted.stats()["rekeys"] for counted in counters]
        assert min(rekeyed) == max(rekeyed) >= REKEYS
