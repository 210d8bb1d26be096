"""A peer with the right keys whose KCP is malformed, over real sealed lanes on a virtual clock: its link is closed.

h is hostile and its datagrams are made by hand under the keys that its own handshake gave it; v is its victim, from
which d gets a stream meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from relay import actions as act
from relay.report import control_report
from tests.py.badinput import moved, segment
from tests.py.sealer import Sealer
from tests.sim.world import AUDIO, MS, SECOND, SOCK_LINK, LinkConf, Sink, World

PUSH, ACK, WASK, WINS = 81, 82, 83, 84
AGENT, WORKER = 63, 0
PACKET_NS = 40 * MS

# What is sealed, and the one word it is refused by; of conversation 0 on the agent's lane, of none on a worker's.
MALFORMED = {
    "K01": ("kcp_short", segment(0, 0, b"")[:23]),
    "K03": ("kcp_cmd", segment(0, 0, b"x", cmd=80)),
    "K05": ("kcp_len", segment(0, 0, b"")[:20] + b"\xff" * 4),
    "K07": ("kcp_trail", segment(0, 0, b"", cmd=WINS) + bytes(23)),
    "K08": ("kcp_len", segment(0, 0, b"")),
    "K10": ("kcp_len", segment(0, 0, b"x", cmd=ACK)),
    "K11": ("kcp_una", segment(0, 0, b"", cmd=WINS, una=1 << 30)),
    "K13": ("kcp_ack", segment(0, 1 << 30, b"", cmd=ACK)),
    "K20": ("kcp_frg", segment(0, 0, b"x", frg=255)),
}
ANYWHERE = ("K01", "K03", "K05")  # for these no conversation needs to be open


class Played:
    """The world h - v - d, sealed; h speaks in its own voice and in ours."""

    def __init__(self, seed: int) -> None:
        self.world = World(seed, sealed=True)
        self.world.chain(["h", "v", "d"], LinkConf(delay_ns=2 * MS, jitter_ns=0))
        self.h, self.v = self.world.relays["h"], self.world.relays["v"]
        self.logs: list[tuple[str, str, str, int]] = []
        self.keys: act.SessionAdd | None = None
        for relay, see in ((self.h, self._note_keys), (self.v, self._note_log)):
            relay._perform = self._watched(relay._perform, see)  # type: ignore[method-assign]
        self.strays = self.knocks = 0
        self.sealers: dict[tuple[int, int], Sealer] = {}  # by index and our lane
        self.world.run(self.world.now + SECOND)
        self.since = {lane: dict(target.drops()) for lane, target in self.lanes().items()}

    @staticmethod
    def _watched(perform: Callable[[act.Action], None], see: Callable[[act.Action], None]):  # type: ignore[no-untyped-def]
        def watched(action: act.Action) -> None:
            see(action)
            perform(action)

        return watched

    def _note_keys(self, action: act.Action) -> None:
        if isinstance(action, act.SessionAdd):
            self.keys = action

    def _note_log(self, action: act.Action) -> None:
        if isinstance(action, act.Log) and action.fields.get("code") == "ZR1009":
            self.logs.append((action.level, action.event, action.fields["peer"], action.fields["closed_ms"]))

    def lanes(self) -> dict[int, Any]:
        return {AGENT: self.v.lane, WORKER: self.v.forwarders[WORKER]}

    def lie(self, body: bytes, count: int, *, lane: int = AGENT) -> None:
        """As throw; then they are there."""
        self.throw(body, count, lane=lane)
        self.world.run(self.world.now + 20 * MS)

    def throw(self, body: bytes, count: int, *, lane: int) -> None:
        """So many datagrams from h's worker to a lane of v's, each with a counter of its own."""
        assert self.keys is not None
        assert self.keys.keys is not None
        index = self.keys.peer_index
        if (index, lane) not in self.sealers:
            self.sealers[index, lane] = Sealer(self.keys.keys, index, lane=WORKER, to_lane=lane)
        for _ in range(count):
            data = self.sealers[index, lane].seal(body)
            self.world.send(self.h, WORKER, SOCK_LINK, self.v.address_of_lane(lane).pack(), data)

    def drops(self, lane: int) -> dict[str, int]:
        """What v's lane has refused since the beginning, without what came when the session was closed."""
        refused = moved(self.since[lane], self.lanes()[lane].drops())
        self.strays, self.knocks = refused.pop("noindex", 0), refused.pop("closed", 0)
        return refused

    def states(self) -> dict[str, str]:
        return {link.peer: link.state for link in self.v.control.links()}

    def closed_ms(self) -> dict[str, int]:
        """As GET /v1/links says it."""
        rows = control_report(self.v.control, self.v.lane, self.world.now)["links"]
        return {row["peer"]: row["closed_ms"] for row in rows if "closed_ms" in row}

    def stream(self, packets: int) -> Sink:
        """From v to d, from now on."""
        self.world.publish("v", "cam")
        sink = self.world.subscribe("d", "cam")
        worker, slot = self.world.ingress_of("v", "cam")
        for number in range(packets):
            at = self.world.now + SECOND + number * PACKET_NS
            self.world.at(at, lambda n=number: self.world.rtp("v", worker, slot, AUDIO, n, 200))
        return sink


@pytest.mark.parametrize("case", MALFORMED)
def test_sixteen_malformed_datagrams_of_a_sealed_peer_close_its_link_and_each_is_counted_by_its_word(case: str) -> None:
    word, body = MALFORMED[case]
    played = Played(1)
    played.lie(body, 15)
    assert played.states() == {"h": "up", "d": "up"}
    assert played.logs == []
    played.lie(body, 1)
    assert played.drops(AGENT) == {word: 16}
    assert played.logs == [("error", "link closed: violations", "h", 1000)]
    assert played.states()["h"] != "up"
    assert played.states()["d"] == "up"
    assert played.closed_ms() == {"h": pytest.approx(1000, abs=120)}
    played.lie(body, 5)  # its keys are gone: no violation, nobody's
    assert played.drops(AGENT) == {word: 16}
    assert played.strays >= 5
    played.world.run(played.world.now + 10 * SECOND)
    assert played.states() == {"h": "up", "d": "up"}
    assert played.closed_ms() == {}
    played.world.check()


def test_a_burst_over_two_lanes_is_told_whole() -> None:
    """Neither lane sees sixteen, and nothing comes afterwards to remind it of what it has not told."""
    played = Played(5)
    for lane in (WORKER, AGENT):
        for body in (MALFORMED["K03"][1], MALFORMED["K05"][1]):
            played.throw(body, 4, lane=lane)
    played.world.run(played.world.now + 50 * MS)
    assert played.states()["h"] != "up"
    assert [played.drops(lane) for lane in (WORKER, AGENT)] == [{"kcp_cmd": 4, "kcp_len": 4}] * 2


@pytest.mark.parametrize("case", ANYWHERE)
def test_what_a_worker_hears_counts_with_what_the_agent_hears(case: str) -> None:
    word, body = MALFORMED[case]
    played = Played(2)
    played.lie(body, 8, lane=WORKER)
    played.lie(body, 7)
    assert played.states() == {"h": "up", "d": "up"}
    played.lie(body, 1, lane=WORKER)
    assert played.states()["h"] != "up"
    assert (played.drops(WORKER), played.drops(AGENT)) == ({word: 9}, {word: 7})
    assert [log[2:] for log in played.logs] == [("h", 1000)]
    played.world.check()


def test_each_time_the_link_stays_closed_for_twice_as_long_and_a_stream_to_another_peer_loses_nothing() -> None:
    played = Played(3)
    packets, closings = 600, 3
    sink, ends = played.stream(packets), played.world.now + 2 * SECOND + packets * PACKET_NS
    word, body = MALFORMED["K03"]
    for closing in range(closings):
        for _ in range(4):
            played.lie(body, 4, lane=AGENT)
        closed_at = played.world.now
        assert played.states()["h"] != "up", closing
        while played.states()["h"] != "up":
            assert played.world.now < closed_at + 12 * SECOND, closing
            played.world.run(played.world.now + 10 * MS)
        assert played.world.now - closed_at >= (SECOND << closing) - 110 * MS
    assert [log[2:] for log in played.logs] == [("h", 1000 << closing) for closing in range(closings)]
    assert played.drops(AGENT)[word] == 16 * closings
    assert played.knocks == played.v.control.handshake_counts()[1]["closed"] > 0  # meanwhile
    played.world.run(ends)
    assert sink.numbers[1000 + AUDIO.payload_type] == list(range(packets))
    assert played.states() == {"h": "up", "d": "up"}
    played.world.check()


def test_fifteen_malformed_datagrams_in_ten_seconds_close_nothing() -> None:
    played = Played(4)
    for _ in range(3):
        played.lie(MALFORMED["K03"][1], 15)
        played.world.run(played.world.now + 10 * SECOND)
        assert played.states() == {"h": "up", "d": "up"}
    assert played.drops(AGENT) == {"kcp_cmd": 45}
    assert played.logs == []
