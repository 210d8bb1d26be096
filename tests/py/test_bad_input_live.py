"""Bad input, U and K30 to K33, over real sockets against one running relay: worker's and agent's port both."""

from __future__ import annotations

import asyncio
import itertools
import socket
from collections.abc import Iterator

import pytest

from relay.client import stream_path
from relay.messages import Pull, PullNo, PullOk, wire_tracks
from relay.tracks import Track
from tests.py.badinput import (
    AGENT,
    BAD_RTP,
    MEDIA_ROWS,
    ROWS,
    WORKER,
    MediaRow,
    Row,
    media,
    mixed_run,
    moved,
    rtp,
    segment,
    send_run,
)
from tests.py.badinput_live import LiveRelay
from tests.py.running_relay import PEER_ID, port_of

pytestmark = pytest.mark.net

LANES = pytest.mark.parametrize("lane", [WORKER, AGENT], ids=["worker", "agent"])
OPUS = Track(id="a0", kind="audio", codec="opus", payload_type=97, clock_rate=48000, channels=2)


@pytest.fixture(scope="module")
def live() -> Iterator[LiveRelay]:
    relay = LiveRelay()
    try:
        relay.start()
        yield relay
    finally:
        relay.stop()


class LivePull:
    """A stream that the relay pulls from the test's peer, with a subscriber that the test is."""

    def __init__(self, live: LiveRelay) -> None:
        self.live = live
        self.number = 100_000  # the last media number given
        self._sn = itertools.count()
        self._seq = itertools.count(1)
        self.sink = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sink.bind(("127.0.0.1", 0))
        self.sink.setblocking(False)

    async def open(self, stream: str) -> None:
        peer, client = self.live.hand, self.live.client
        subscriber = {"kind": "rtp", "address": f"127.0.0.1:{self.sink.getsockname()[1]}"}
        await client.put(f"{stream_path(stream)}/subscribers/one", subscriber)
        pull = await peer.message(Pull)
        assert pull.stream == stream
        self._conv, self._lane = pull.conv, pull.lane
        peer.say(PullOk(
            r=pull.r, conv=pull.conv, lane=0, epoch=1, tracks=wire_tracks([OPUS]), next=self.number, route=[PEER_ID]
        ))  # fmt: skip
        async with asyncio.timeout(20):
            while not (await client.put(f"{stream_path(stream)}/subscribers/one?wait=2s", subscriber))["confirmed"]:
                await asyncio.sleep(0.02)
        assert await self.passes()
        assert await self.passes()

    def give(self, message: bytes) -> None:
        self.live.hand.send(self._lane, segment(self._conv, next(self._sn), message))

    async def passes(self, **header: int) -> bool:
        """Whether the next good packet reaches the subscriber as the next thing it hears."""
        packet = rtp(next(self._seq))
        self.number += 1
        self.give(media(self.number, packet, **header))
        async with asyncio.timeout(20):
            return await asyncio.get_running_loop().sock_recv(self.sink, 2048) == packet


@pytest.fixture(scope="module")
def pulled(live: LiveRelay) -> Iterator[LivePull]:
    pull = LivePull(live)
    live.run(pull.open("bad/input"))
    yield pull
    pull.sink.close()


@pytest.mark.parametrize("row", ROWS, ids=str)
@LANES
def test_each_datagram_is_dropped_for_exactly_this_reason(live: LiveRelay, lane: int, row: Row) -> None:
    datagrams = row.make(lane)
    assert live.run(live.throw(lane, datagrams)) == {row.word: len(datagrams)}


@pytest.mark.parametrize("case", ["U40"])
@LANES
def test_a_super_packet_is_split_and_counts_as_its_datagrams_would(live: LiveRelay, lane: int, case: str) -> None:
    run, expected = mixed_run(lane)

    async def send_as_one() -> None:
        send_run(live.stranger, run, port_of(live.relay.data, lane))

    assert live.run(live.drops_after(send_as_one, len(run))) == expected
    assert live.run(live.throw(lane, run)) == expected


@pytest.mark.parametrize("case", ["U04"])
@LANES
def test_an_empty_plaintext_is_a_sign_of_life_and_nothing_else(live: LiveRelay, lane: int, case: str) -> None:
    async def scenario() -> None:
        before = await live.whole_status()
        for _ in range(50):
            live.hand.send(lane)
        async with asyncio.timeout(20):
            while (await live.status())["totals"]["link_empty"] < before["totals"]["link_empty"] + 50:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.02)
        after = await live.whole_status()
        if lane == WORKER:  # the agent also hears the heartbeats of its peers
            counted = moved(before["workers"][0]["stats"], after["workers"][0]["stats"])
            assert (counted["link_empty"], counted["link_accepted"]) == (50, 50)
        assert moved(before["drops"], after["drops"]) == {}

    live.run(scenario())


@pytest.mark.parametrize("row", MEDIA_ROWS, ids=str)
def test_each_message_is_dropped_for_exactly_this_reason_and_the_stream_continues(
    live: LiveRelay, pulled: LivePull, row: MediaRow
) -> None:
    messages = row.make(pulled.number)

    async def give() -> None:
        for message in messages:
            pulled.give(message)

    async def scenario() -> None:
        assert await live.drops_after(give, len(messages)) == {row.word: len(messages)}
        assert await pulled.passes()

    live.run(scenario())


@pytest.mark.parametrize("drop_class", [7, 15], ids=lambda value: f"K30 class {value}")
def test_a_drop_class_above_6_is_accepted(live: LiveRelay, pulled: LivePull, drop_class: int) -> None:
    async def scenario() -> None:
        before = await live.drops()
        assert await pulled.passes(drop_class=drop_class)
        assert moved(before, await live.drops()) == {}

    live.run(scenario())


@pytest.mark.parametrize("word", BAD_RTP, ids=lambda word: f"K33 ingress {word}")
def test_bad_rtp_of_a_publisher_is_dropped_and_the_stream_continues(live: LiveRelay, word: str) -> None:
    async def scenario() -> None:
        stream = stream_path(f"ingress/{word}")
        with (
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as publisher,
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sink,
        ):
            publisher.bind(("127.0.0.1", 0))
            sink.bind(("127.0.0.1", 0))
            sink.setblocking(False)
            source = f"127.0.0.1:{publisher.getsockname()[1]}"
            track = {"id": "a0", "kind": "audio", "codec": "opus", "payload_type": 97, "clock_rate": 48000}
            body = {"epoch": 1, "tracks": [track], "ingress": {"kind": "rtp", "source": [source]}}
            answer = await live.client.put(stream, body)
            await live.client.put(
                f"{stream}/subscribers/one", {"kind": "rtp", "address": f"127.0.0.1:{sink.getsockname()[1]}"}
            )
            port = int(answer["ingress"]["address"].rpartition(":")[2])

            async def publish() -> None:
                for packet in BAD_RTP[word]:
                    publisher.sendto(packet, ("127.0.0.1", port))

            assert await live.drops_after(publish, len(BAD_RTP[word])) == {word: len(BAD_RTP[word])}
            publisher.sendto(rtp(1), ("127.0.0.1", port))
            async with asyncio.timeout(20):
                assert await asyncio.get_running_loop().sock_recv(sink, 2048) == rtp(1)
        await live.client.delete(stream)

    live.run(scenario())


@pytest.mark.parametrize("case", ["K32"])
def test_our_own_id_in_a_pulls_route_is_answered_loop_and_logged(live: LiveRelay, case: str) -> None:
    async def scenario() -> None:
        live.hand.say(Pull(r=77, stream="bad/loop", conv=99, lane=0, route=[PEER_ID, live.relay.name]))
        answer = await live.hand.message(PullNo)
        assert (answer.r, answer.code) == (77, "loop")
        assert "pull refused: loop" in (await live.status())["last_errors"]
        assert "ZR1003" in live.relay.log_path.read_text()

    live.run(scenario())
