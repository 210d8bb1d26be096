"""T03, hijack of a stream by its first packet ("RTP bleed"): an attacker who knows everything but the port.

10^5 RTP packets with the right SSRC, payload type and sequence numbers come from other ports and another host: before
the stream is set up, while it is, and for 3 s after. None is forwarded, and the attacker is sent nothing.
"""

from __future__ import annotations

import asyncio
import random
import struct

import pytest

from relay.client import stream_path
from relay.commands import encode
from relay.dev import DevMesh
from relay.units import Address
from tests.net.rtp import Sender, Sink, publish_body
from tests.net.test_streams import no_ledger_is_off, until
from tests.py.badinput import NOW, SECOND, forwarder, moved, rtp

STREAM, INGRESS, SUB, SSRC = 0, 4, 0, 7
FORMAT = 0 | 5 << 8 | 97 << 16  # audio, Opus, payload type 97
MS = SECOND // 1000
PUBLISHER, SUBSCRIBER = Address("192.0.2.1", 9000), Address("192.0.2.2", 7000)
ATTACKERS = [Address("192.0.2.1", 9001), Address("192.0.2.1", 8999), Address("198.51.100.1", 9000)]
PACKETS = 100_000
SETUP = (
    encode("stream_open", stream=STREAM, local=1, epoch=1),
    encode("stream_track", stream=STREAM, track=0, format=FORMAT, clock_rate=48000),
    encode("ingress_bind", ingress=INGRESS, stream=STREAM, learn=0),
    encode("ingress_source", ingress=INGRESS, addr=PUBLISHER),
    encode("sub_add", sub=SUB, stream=STREAM, tracks=1, layers=0xFFFF, addr=SUBSCRIBER),
)


class Scene:
    """One worker on a virtual clock, an attacker with a budget of PACKETS, and who was sent what."""

    def __init__(self) -> None:
        self.fwd = forwarder()
        self.now = NOW
        self.rng = random.Random(3)
        self.attacked = 0
        self.sent: dict[bytes, list[bytes]] = {}

    def attack(self, count: int, seq: int) -> None:
        """Packets around the sequence number that the publisher has reached, and now and then RTCP to both sockets."""
        for _ in range(count):
            source = self.rng.choice(ATTACKERS).pack()
            packet = rtp(seq + self.rng.randrange(-2, 3), ssrc=SSRC, payload=b"attack")
            assert not self.fwd.ingress_input(INGRESS, packet, source, self.now)
            self.attacked += 1
        nack = struct.pack(">BBHI", 0x80, 201, 1, 1) + struct.pack(">BBHIIHH", 0x81, 205, 3, 1, SSRC, seq & 0xFFFF, 0)
        self.fwd.egress_input(nack, ATTACKERS[2].pack(), self.now)

    def publish(self, seq: int) -> bool:
        return self.fwd.ingress_input(INGRESS, rtp(seq, ssrc=SSRC), PUBLISHER.pack(), self.now)

    def turn(self) -> None:
        for _, address, data in self.fwd.turn(self.now):
            self.sent.setdefault(address, []).append(data)
        assert set(self.fwd.ledgers().values()) == {0}


def test_t03_of_100_000_packets_none_is_forwarded_and_nothing_goes_to_the_attacker() -> None:
    scene = Scene()
    seq = 65_000  # wraps on the way
    for _ in range(10):  # before: the port is open, but belongs to no stream
        scene.attack(2000, seq)
        scene.turn()
    for record in SETUP:  # during: between any two commands
        scene.fwd.command(record)
        scene.attack(2000, seq)
        scene.turn()
    published = []
    while scene.attacked < PACKETS - 10_000:  # after: the publisher speaks every 20 ms
        assert scene.publish(seq)
        published.append(rtp(seq, ssrc=SSRC))
        scene.attack(500, seq)
        scene.turn()
        scene.now += 20 * MS
        seq += 1
    silent_until = scene.now + 3 * SECOND  # and after: it is silent for 3 s, as long as any lock could last
    while scene.now < silent_until:
        scene.attack(200, seq)
        scene.turn()
        scene.now += 60 * MS
    assert scene.attacked >= PACKETS
    assert scene.publish(seq), "the publisher is still who it was"
    published.append(rtp(seq, ssrc=SSRC))
    scene.turn()
    assert scene.sent == {SUBSCRIBER.pack(): published}
    drops = moved({}, scene.fwd.drops())
    assert drops.pop("rtcp_source") > 0
    assert drops.keys() == {"stream", "source"}
    assert sum(drops.values()) == scene.attacked
    assert scene.fwd.check()


def test_t03_a_learned_source_is_not_taken_over_while_the_publisher_speaks() -> None:
    """`learn` is for loopback only, where the first packet wins; from then on it is as strict as a list."""
    scene = Scene()
    for record in (*SETUP[:2], encode("ingress_bind", ingress=INGRESS, stream=STREAM, learn=1), SETUP[4]):
        scene.fwd.command(record)
    published = []
    for seq in range(150):  # 3 s
        assert scene.publish(seq)
        published.append(rtp(seq, ssrc=SSRC))
        scene.attack(PACKETS // 150 + 1, seq)
        scene.turn()
        scene.now += 20 * MS
    assert scene.attacked >= PACKETS
    assert scene.sent == {SUBSCRIBER.pack(): published}
    assert moved({}, scene.fwd.drops())["source"] == scene.attacked


@pytest.mark.net
def test_t03_over_real_sockets() -> None:
    """The same in small: a listed source, and an attacker on the same host who also floods the port before."""

    async def scenario() -> None:
        async with DevMesh(1) as mesh, mesh.client("bj-1") as relay:
            sink, sender, attacker = await Sink.open(), Sender(), Sender()
            attacker.socket.setblocking(False)
            low, _ = mesh.relays[0].ingress_ports
            flood = [low + offset for offset in range(8)]

            def attack(seq: int, ports: list[int]) -> None:
                for port in ports:
                    for guess in range(20):
                        attacker.send(port, 9, seq + guess)

            attack(0, flood)
            source = f"127.0.0.1:{sender.socket.getsockname()[1]}"
            body = publish_body() | {"ingress": {"kind": "rtp", "port": low, "source": [source]}}
            publishing = asyncio.ensure_future(relay.put(stream_path("cam"), body))
            while not publishing.done():
                attack(0, flood[:1])
                await asyncio.sleep(0.001)
            assert (await publishing)["ingress"]["address"] == f"127.0.0.1:{low}"
            subscriber = {"kind": "rtp", "address": f"127.0.0.1:{sink.port}"}
            await relay.put(f"{stream_path('cam')}/subscribers/one", subscriber)
            for seq in range(150):  # 3 s
                sender.send(low, 9, seq)
                attack(seq, [low])
                await asyncio.sleep(0.02)
            await until(lambda: len(sink.numbers[9]) >= 150)
            await asyncio.sleep(0.1)
            assert sink.numbers == {9: list(range(150))}
            with pytest.raises(BlockingIOError):
                attacker.socket.recv(2048)
            status = await relay.get("/v1/status")
            assert status["drops"]["source"] > 1000
            await no_ledger_is_off(mesh)
            for end in (sink, sender, attacker):
                end.close()

    asyncio.run(scenario())
