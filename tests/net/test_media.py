"""Real media through real relays: ffmpeg and GStreamer in, ffmpeg out, every picture and audio packet compared."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import time
from pathlib import Path

import pytest

from relay import ffmpeg
from relay.demo import demo
from relay.dev import DevMesh, Impaired, free_ports
from relay.passage import Carried, Passage
from relay.units import Address

SECONDS = 3.0
STALL_S = 0.1
needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is missing: apt-get install ffmpeg")
needs_gstreamer = pytest.mark.skipif(
    shutil.which("gst-launch-1.0") is None,
    reason="GStreamer is missing: apt-get install gstreamer1.0-tools gstreamer1.0-plugins-{good,bad}",
)
pytestmark = [pytest.mark.net, needs_ffmpeg]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("media") / "source.mkv"
    asyncio.run(ffmpeg.make_source(path, SECONDS))
    return path


async def watch_stalls() -> float:
    """The longest that this machine did not let us run, s; asked for by cancelling it."""
    longest, last = 0.0, time.monotonic()
    with contextlib.suppress(asyncio.CancelledError):
        while True:
            await asyncio.sleep(0.01)
            longest, last = max(longest, time.monotonic() - last - 0.01), time.monotonic()
    return longest


def carry(source: Path, *, loss: str | None = None, video: bool = True, gstreamer: bool = False) -> Carried:
    """What has waited for a CPU longer than its deadline is dropped, as it should be: such a run is made again."""

    async def run() -> tuple[Carried, float]:
        watch = asyncio.ensure_future(watch_stalls())
        await asyncio.sleep(0)
        try:
            carried = await carry_once(source, loss=loss, video=video, gstreamer=gstreamer)
        finally:
            watch.cancel()
        return carried, await watch

    for _ in range(3):
        carried, stalled_s = asyncio.run(run())
        if carried.faults() == [] or stalled_s < STALL_S:
            break
    return carried


async def carry_once(source: Path, *, loss: str | None, video: bool, gstreamer: bool) -> Carried:
    bad = [Impaired("bj-1", "sh-1", ["--loss", loss, "--delay", "20ms", "--seed", "7"])] if loss else []
    tracks = [ffmpeg.TRACK_V0, ffmpeg.TRACK_A0] if video else [ffmpeg.TRACK_A0]
    async with DevMesh(3, impaired=bad) as mesh, Passage(mesh, "cam/1", tracks) as passage:
        await passage.publish()
        view = await passage.subscribe()
        assert view["route"] == ["bj-1", "sh-1", "gz-1"]
        await passage.listen()
        if gstreamer:
            await passage.watch(asyncio.ensure_future(gst_publish(source, passage.ingress.port)))
        else:
            await passage.send(ffmpeg.publish_arguments(source, passage.ingress, video=video))
        return await passage.finish(source)


async def gst_publish(source: Path, port: int) -> None:
    """The parameter sets come from h264parse, once a key frame: rtph264pay would put them before each of its slices."""
    first = f"seqnum-offset={ffmpeg.FIRST_SEQ}"
    process = await asyncio.create_subprocess_exec(
        "gst-launch-1.0", "-q", "filesrc", f"location={source}", "!", "matroskademux", "name=demux",
        "demux.video_0", "!", "queue", "!", "h264parse", "config-interval=-1", "!", "rtph264pay", "pt=96", "mtu=1200",
        first, "!", "udpsink", "host=127.0.0.1", f"port={port}",
        "demux.audio_0", "!", "queue", "!", "opusparse", "!", "rtpopuspay", "pt=97", first,
        "!", "udpsink", "host=127.0.0.1", f"port={port}",
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        _, err = await asyncio.wait_for(process.communicate(), SECONDS + 20)
    finally:
        await ffmpeg.end(process)
    assert process.returncode == 0, err.decode()


@pytest.mark.parametrize("loss", [None, "5%"])
def test_ffmpeg_through_three_relays_loses_and_harms_nothing(source: Path, loss: str | None) -> None:
    carried = carry(source, loss=loss)
    assert carried.faults() == []
    assert len(carried.sent_video) == SECONDS * ffmpeg.FPS


def test_ffmpegs_default_packet_size_travels_as_two_segments(source: Path) -> None:
    """1 472 bytes is ffmpeg's default: more than the 1 380 of one segment."""
    carried = carry(source)
    assert carried.faults() == []
    assert carried.counter.longest > 1380


@needs_gstreamer
def test_gstreamer_through_three_relays_loses_and_harms_nothing(source: Path) -> None:
    carried = carry(source, gstreamer=True)
    assert carried.faults() == []


def test_the_demo_tells_machines_the_same_in_json_lines(capsys: pytest.CaptureFixture[str]) -> None:
    assert asyncio.run(demo(as_json=True, seconds=SECONDS)) == 0
    said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert said[-1]["step"] == "every frame arrived, none damaged"
    pictures = next(row for row in said if row["step"].startswith("pictures"))
    assert pictures["sent"] == pictures["decoded"] == pictures["equal"] == SECONDS * ffmpeg.FPS
    assert [row["at_s"] for row in said] == sorted(row["at_s"] for row in said)


def test_audio_alone_travels_too(tmp_path: Path) -> None:
    path = tmp_path / "tone.mkv"
    asyncio.run(ffmpeg.make_source(path, SECONDS, video=False))
    carried = carry(path, video=False)
    assert carried.faults() == []
    assert len(carried.sent_audio) > SECONDS * 45  # 20 ms packets


class Overtaken(asyncio.DatagramProtocol):
    """Hands RTP on to a local port, the first packet behind the third."""

    def __init__(self, port: int) -> None:
        self.kept: list[bytes] = []
        self.to = ("127.0.0.1", port)

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if 192 <= data[1] <= 223 and len(self.kept) < 3:
            return  # RTCP: its sender report comes first
        self.kept.append(data)
        if len(self.kept) == 3:
            for datagram in (*self.kept[1:], self.kept[0]):
                self.transport.sendto(datagram, self.to)
        elif len(self.kept) > 3:
            self.transport.sendto(data, self.to)


def test_a_recording_has_the_first_packet_of_a_track_that_others_overtook(tmp_path: Path) -> None:
    """Links deliver in any order, and ffmpeg by itself begins with what comes first."""
    source, target, sdp = (tmp_path / name for name in ("tone.mkv", "got.mkv", "tone.sdp"))

    async def record() -> None:
        await ffmpeg.make_source(source, 1.0, video=False)
        port = free_ports(2)
        sdp.write_text(
            f"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=tone\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio {port} RTP/AVP 97\n"
            "a=rtpmap:97 opus/48000/2\na=rtcp-mux\n"
        )
        loop = asyncio.get_running_loop()
        way, _ = await loop.create_datagram_endpoint(lambda: Overtaken(port), local_addr=("127.0.0.1", 0))
        player = ffmpeg.Receiver(sdp, target)
        await player.start({ffmpeg.AUDIO_PAYLOAD_TYPE: port})
        ingress = Address("127.0.0.1", way.get_extra_info("sockname")[1])
        await ffmpeg.run(*ffmpeg.publish_arguments(source, ingress, video=False))
        assert await player.stop(patience_s=2.0) == ""
        way.close()

    asyncio.run(record())
    assert asyncio.run(ffmpeg.audio_hashes(target)) == asyncio.run(ffmpeg.audio_hashes(source))
