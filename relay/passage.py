"""Media from one end of a mesh to the other, measured: what the demo shows and the end-to-end tests assert.

    async with Passage(mesh, "cam1", tracks) as passage:
        await passage.publish()          stream at the first relay
        await passage.subscribe()        a player and a counter at the last one; waits until confirmed
        await passage.listen()           ffmpeg opens the SDP
        await passage.send(arguments)    ffmpeg publishes to its end
        carried = await passage.finish(source)

In this order the first frame is never missed.
"""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from relay import ffmpeg
from relay.client import Client, stream_path
from relay.dev import DevMesh, free_ports
from relay.units import Address

DRAIN_S = 2.5
CONFIRM_TIMEOUT_S = 20.0
SETTLE_S = 5.0  # for ledgers: a worker that was not let run in the middle of a turn has counted half of it
SUBSCRIBERS = 2  # the player and the counter


@dataclass
class Counter(asyncio.DatagramProtocol):
    """A subscriber that counts: RTP packets, and the gaps and repeats in each source's sequence numbers."""

    packets: int = 0
    rtcp: int = 0
    repeated: int = 0
    longest: int = 0
    _seen: dict[int, set[int]] = field(default_factory=dict)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if len(data) < 12 or 192 <= data[1] <= 223:
            self.rtcp += 1
            return
        (seq,), (ssrc,) = struct.unpack_from(">H", data, 2), struct.unpack_from(">I", data, 8)
        seen = self._seen.setdefault(ssrc, set())
        self.packets += 1
        self.longest = max(self.longest, len(data))
        self.repeated += seq in seen
        seen.add(seq)

    @property
    def missing(self) -> int:
        """Sequence numbers between a source's first and last that never came (a demo is shorter than one wrap)."""
        missing = 0
        for seen in self._seen.values():
            low = min(seen)
            spread = {(seq - low) & 0xFFFF for seq in seen}
            if max(spread) > 0x8000:  # the numbers wrapped: count from the other side of the gap
                low = min(seq for seq in seen if seq > 0x8000)
                spread = {(seq - low) & 0xFFFF for seq in seen}
            missing += max(spread) + 1 - len(spread)
        return missing


@dataclass
class Carried:
    """What went in and what came out. Hashes in order: decoded pictures, encoded audio packets."""

    sent_video: list[str]
    got_video: list[str]
    sent_audio: list[str]
    got_audio: list[str]
    counter: Counter
    status: dict[str, dict[str, Any]]  # by relay, in the order of the chain
    kinds: frozenset[str]  # of the stream's tracks: "video", "audio"

    def faults(self) -> list[str]:
        """What is wrong, in words; empty when everything arrived once, unharmed and accounted for."""
        wrong = [
            f"no {kind} was sent"
            for kind, sent in (("video", self.sent_video), ("audio", self.sent_audio))
            if kind in self.kinds and not sent
        ]
        if self.sent_video != self.got_video:
            wrong.append(f"{len(self.sent_video)} pictures sent, {len(self.got_video)} decoded, or one is damaged")
        if self.sent_audio != self.got_audio:
            wrong.append(f"{len(self.sent_audio)} audio packets sent, {len(self.got_audio)} came, or one is damaged")
        if self.counter.packets == 0 or self.counter.missing or self.counter.repeated:
            wrong.append(
                f"the counting subscriber got {self.counter.packets}, missed {self.counter.missing}, "
                f"got {self.counter.repeated} twice"
            )
        totals = [status["totals"] for status in self.status.values()]
        accepted, handed_out = totals[0]["media_accepted"], totals[-1]["fan_sent"]
        if self.counter.packets + self.counter.rtcp != accepted:
            wrong.append(
                f"the origin took {accepted} packets, the counting subscriber got {self.counter.packets} of RTP "
                f"and {self.counter.rtcp} of RTCP"
            )
        if handed_out != SUBSCRIBERS * accepted:
            wrong.append(f"the origin took {accepted} packets, {SUBSCRIBERS} subscribers were sent {handed_out}")
        for name, status in self.status.items():
            if any(status["ledgers"].values()):
                wrong.append(f"{name}: packets in and out do not add up: {status['ledgers']}")
        return wrong


class Passage:
    """One stream through ``mesh``: published at its first relay, taken out at its last."""

    def __init__(self, mesh: DevMesh, stream_id: str, tracks: Sequence[dict[str, Any]]) -> None:
        self._mesh, self._stream_id, self._tracks = mesh, stream_id, list(tracks)
        self._origin, self._edge = mesh.relays[0].name, mesh.relays[-1].name
        self._ports: dict[str, int] = {track["id"]: free_ports(2) for track in tracks}
        self._transport: asyncio.DatagramTransport | None = None
        self._receiver: ffmpeg.Receiver | None = None
        self.counter = Counter()
        self.ingress = Address("127.0.0.1", 0)
        self.received = mesh.folder / f"received-{stream_id.replace('/', '-')}.mkv"

    async def __aenter__(self) -> Passage:
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(lambda: self.counter, local_addr=("127.0.0.1", 0))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._receiver is not None:
            await self._receiver.stop()
        if self._transport is not None:
            self._transport.close()

    async def publish(self) -> None:
        """Registers the stream; sources are learned."""
        body = {"epoch": 1, "tracks": self._tracks, "ingress": {"kind": "rtp", "source": "learn"}}
        async with self._mesh.client(self._origin) as origin:
            answer = await origin.put(stream_path(self._stream_id), body)
        self.ingress = Address.parse(answer["ingress"]["address"])

    async def subscribe(self) -> dict[str, Any]:
        """Player and counter; the stream's view at the last relay once the way stands."""
        assert self._transport is not None
        port = self._transport.get_extra_info("sockname")[1]
        async with self._mesh.client(self._edge) as edge:
            addresses = {track: f"127.0.0.1:{port}" for track, port in self._ports.items()}
            path = stream_path(self._stream_id)
            await edge.put(f"{path}/subscribers/player", {"kind": "rtp", "addresses": addresses})
            await confirmed(edge, self._stream_id, "counter", {"kind": "rtp", "address": f"127.0.0.1:{port}"})
            self._sdp_path.write_text(await edge.get(f"{path}/sdp?sid=player"))
            view: dict[str, Any] = await edge.get(path)
        return view

    @property
    def _sdp_path(self) -> Path:
        return self.received.with_suffix(".sdp")

    async def listen(self) -> None:
        """Starts the player."""
        self._receiver = ffmpeg.Receiver(self._sdp_path, self.received)
        await self._receiver.start({track["payload_type"]: self._ports[track["id"]] for track in self._tracks})

    async def send(self, arguments: Sequence[str], on_progress: Callable[[float], None] | None = None) -> None:
        """Runs the publishing ffmpeg to its end; ``on_progress`` gets the seconds since its start."""
        sending = asyncio.ensure_future(ffmpeg.run(*arguments))
        await self.watch(sending, on_progress)

    @staticmethod
    async def watch(sending: asyncio.Future[Any], on_progress: Callable[[float], None] | None = None) -> None:
        """Until ``sending`` is done; its error is raised. It goes when the caller is cancelled."""
        start = time.monotonic()
        try:
            while not sending.done():
                if on_progress is not None:
                    on_progress(time.monotonic() - start)
                await asyncio.wait({sending}, timeout=0.1)
        finally:
            sending.cancel()
        await sending

    async def finish(self, source: Path) -> Carried:
        """Lets the last packets through, stops the player, compares with ``source``."""
        assert self._receiver is not None
        await self._receiver.stop(patience_s=DRAIN_S)
        status = {}
        for relay in self._mesh.relays:
            async with self._mesh.client(relay.name) as client:
                status[relay.name] = await _settled(client)
        kinds = frozenset(track["kind"] for track in self._tracks)
        video = [await ffmpeg.video_hashes(path) if "video" in kinds else [] for path in (source, self.received)]
        audio = [await ffmpeg.audio_hashes(path) if "audio" in kinds else [] for path in (source, self.received)]
        return Carried(video[0], video[1], audio[0], audio[1], self.counter, status, kinds)


async def _settled(client: Client) -> dict[str, Any]:
    """The relay's status at a moment when every ledger is 0; the last one, when there is no such moment."""
    ends = time.monotonic() + SETTLE_S
    while True:
        status: dict[str, Any] = await client.get("/v1/status")
        if not any(status["ledgers"].values()) or time.monotonic() > ends:
            return status
        await asyncio.sleep(0.02)


async def confirmed(edge: Client, stream_id: str, sid: str, body: dict[str, Any]) -> dict[str, Any]:
    """PUTs the subscriber until its way stands; TimeoutError after 20 s."""
    path = f"{stream_path(stream_id)}/subscribers/{sid}?wait=2s"
    async with asyncio.timeout(CONFIRM_TIMEOUT_S):
        while True:
            answer: dict[str, Any] = await edge.put(path, body)
            if answer["confirmed"]:
                return answer
            await asyncio.sleep(0.02)
