"""T18: an authenticated peer exceeds each cap of a link ten times; how long media takes over the other link.

    a (hostile) ──── b ──── c (honest: pulls `cam`, published at b)

On the virtual clock, with one worker of the size that a relay has: what the delay shows is what the hostile link takes
of pools, windows, and turns that both share. Without the caps each of these makes the other link's packets come late
or never.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest

from relay.children import CHILDREN_PER_SESSION_MAX
from relay.messages import Pull, encode_message
from tests.sim.world import AUDIO, MS, SECOND, VIDEO, LinkConf, Sink, World

PACKETS, EVERY = 300, 10 * MS
LONGER_NS = MS
TIMES = 10
QUEUE_MAX, REORDER_MAX, WINDOW_MAX = 4 << 20, 8192, 8192
STREAMS = 1024  # of a worker: what a relay is made for
PUSH, HEAD, MTU = 81, 24, 1340

Attack = Callable[[int], None]  # with the number of the honest packet that comes next


class Bystander:
    """The three relays; `delays` publishes for the honest link and attacks meanwhile."""

    def __init__(self) -> None:
        self.world = world = World(1, streams_max=STREAMS, pkts_max=65536)
        world.chain(["a", "b", "c"], LinkConf(delay_ns=5 * MS, jitter_ns=0))
        world.run(world.now + SECOND)
        world.publish("b", "cam")
        self.sink: Sink = world.subscribe("c", "cam")
        world.run(world.now + SECOND)
        self.b = world.relays["b"]

    def p99(self, attack: Attack = lambda number: None) -> int:
        """Of all packets, nanoseconds from the publisher to the subscriber behind the honest link."""
        world, sent = self.world, []
        for number in range(PACKETS):
            sent.append(world.now)
            attack(number)  # first, so that what it leaves behind stands in front
            world.rtp("b", *world.ingress_of("b", "cam"), AUDIO, number, 200)
            world.run(world.now + EVERY)
        world.run(world.now + SECOND)
        came: dict[int, int] = {}
        for (_, number), at in zip(self.sink.order, self.sink.times, strict=True):
            came.setdefault(number, at)
        assert sorted(came) == list(range(PACKETS))
        world.check()
        delays = sorted(came[number] - sent[number] for number in range(PACKETS))
        return delays[int(0.99 * PACKETS)]

    def stat(self, name: str) -> int:
        return self.b.forwarders[0].stats()[name]

    # -- what a hostile peer does -----------------------------------------------------------------------------------

    def is_hostile(self) -> None:
        """From now on `a` heeds nothing that it is told, by peer or worker."""
        control = self.world.relays["a"].control
        control.on_message = lambda *_: None  # type: ignore[method-assign]
        control.on_event = lambda *_: None  # type: ignore[method-assign]

    def pull(self, stream: str, conv: int) -> None:
        relay = self.world.relays["a"]
        (session,) = relay.sessions
        message = Pull(r=conv, stream=stream, conv=conv, lane=0, route=["a"], from_=None)
        assert relay.outbox.send(session, encode_message(message), self.world.now)
        relay.pump()

    def convs_from(self, streams: int) -> list[int]:
        """Conversations on which `b` has streams from `a`; what they are is read off the wire."""
        world, convs = self.world, []

        def tap(source: str, to: str, lane: int, data: bytes) -> bool:
            if (source, to, lane) == ("a", "b", 0) and len(data) > 60 and data[20] == PUSH:
                self.head, conv = data[:8], int.from_bytes(data[16:20], "little")
                if conv not in convs:
                    convs.append(conv)
            return False

        for number in range(streams):
            world.publish("a", f"evil/{number}")
            world.subscribe("b", f"evil/{number}")
        world.run(world.now + SECOND)
        world.drop = tap
        for number in range(streams):
            world.rtp("a", *world.ingress_of("a", f"evil/{number}"), VIDEO, 0, 200)
            world.run(world.now + EVERY)
        world.drop = None
        assert len(convs) == streams
        self.counter = 1 << 20
        return convs

    def push(self, conv: int, sn: int, frg: int, size: int) -> None:
        """A segment of `a`'s, whatever its own engine thinks of it."""
        segment = struct.pack("<IBBHIIII", conv, PUSH, frg, 1024, 0, sn, 0, size) + bytes(size)
        self.counter += 1
        data = self.head + struct.pack("<Q", self.counter) + segment + bytes(16)
        source = self.world.relays["a"].address_of_lane(0).pack()
        assert self.b.forwarders[0].link_input(data, source, self.world.now)
        self.b.awake.add(0)


@pytest.fixture(scope="module")
def quiet() -> int:
    return Bystander().p99()


def test_pulls_ten_times_the_cap_of_streams_leave_the_other_links_delay_as_it_was(quiet: int) -> None:
    rig = Bystander()
    rig.world.publish("b", "evil")
    rig.is_hostile()
    asked = TIMES * CHILDREN_PER_SESSION_MAX

    def attack(number: int) -> None:
        for conv in range(asked * number // PACKETS, asked * (number + 1) // PACKETS):
            rig.pull("evil", 2 * conv + 2)
        if number % 10 == 0:
            rig.world.rtp("b", *rig.world.ingress_of("b", "evil"), VIDEO, number, 200)

    assert rig.p99(attack) - quiet <= LONGER_NS
    assert rig.b.control.rejected()["quota"] == asked - CHILDREN_PER_SESSION_MAX


def test_media_ten_times_the_cap_of_bytes_for_a_link_leaves_the_other_links_delay_as_it_was(quiet: int) -> None:
    rig = Bystander()
    rig.world.publish("b", "evil")
    rig.is_hostile()
    convs, size, seconds = 32, 1200, 1
    for conv in range(convs):
        rig.pull("evil", 2 * conv + 2)
    rig.world.run(rig.world.now + SECOND)
    each = TIMES * QUEUE_MAX // size // convs // (seconds * SECOND // EVERY)

    def attack(number: int) -> None:
        if number < seconds * SECOND // EVERY:
            for n in range(each):
                rig.world.rtp("b", *rig.world.ingress_of("b", "evil"), AUDIO, number * each + n, size)

    assert rig.p99(attack) - quiet <= LONGER_NS
    assert rig.stat("child_queue_max") <= QUEUE_MAX + MTU
    assert rig.b.forwarders[0].drops()["window"] + rig.b.forwarders[0].drops()["fan_shed"] > 0


def test_numbers_ten_windows_ahead_of_a_gap_leave_the_other_links_delay_as_it_was(quiet: int) -> None:
    rig = Bystander()
    (conv,) = rig.convs_from(1)

    def attack(number: int) -> None:
        thrown = TIMES * WINDOW_MAX
        for sn in range(thrown * number // PACKETS, thrown * (number + 1) // PACKETS):
            rig.push(conv, 100 + sn, 0, 100)

    assert rig.p99(attack) - quiet <= LONGER_NS
    assert rig.stat("kcp_window_drops") >= (TIMES - 1) * WINDOW_MAX


def test_halves_of_messages_ten_times_the_cap_of_a_link_leave_the_other_links_delay_as_it_was(quiet: int) -> None:
    rig = Bystander()
    convs = rig.convs_from(32)

    def attack(number: int) -> None:
        if number >= 30:  # all within the 400 ms that halves are kept
            return
        each = TIMES * REORDER_MAX // len(convs)
        for n in range(each * number // 30, each * (number + 1) // 30):
            for conv in convs:
                rig.push(conv, 2 + 2 * n, 1, 1200)

    assert rig.p99(attack) - quiet <= LONGER_NS
    assert rig.stat("reorder_max") == REORDER_MAX
    assert rig.stat("reorder_refused") >= (TIMES - 1) * REORDER_MAX
