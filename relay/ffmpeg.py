"""ffmpeg as publisher, player and judge: the command lines of the demo, the tests and the README, in one place."""

from __future__ import annotations

import asyncio
import shutil
import socket
import struct
from pathlib import Path
from typing import Any

from relay.dev import die_with_parent
from relay.units import Address

VIDEO_PAYLOAD_TYPE = 96
AUDIO_PAYLOAD_TYPE = 97
FPS = 30
STOP_TIMEOUT_S = 5.0
FIRST_SEQ = 30_000  # of every track that is published here: see `say_first`
# The receiver ends by itself when every track has said good-bye.
RTP = ("-seq", str(FIRST_SEQ), "-rtpflags", "send_bye", "-f", "rtp")

TRACK_V0: dict[str, Any] = {
    "id": "v0", "kind": "video", "codec": "h264", "payload_type": VIDEO_PAYLOAD_TYPE, "clock_rate": 90000,
    "fmtp": "packetization-mode=1",
}  # fmt: skip
TRACK_A0: dict[str, Any] = {
    "id": "a0", "kind": "audio", "codec": "opus", "payload_type": AUDIO_PAYLOAD_TYPE, "clock_rate": 48000,
    "channels": 2,
}  # fmt: skip


class MissingTool(Exception):
    """ffmpeg is not installed; the message names the package."""


def ffmpeg() -> str:
    """The path of ffmpeg."""
    path = shutil.which("ffmpeg")
    if path is None:
        raise MissingTool("ffmpeg is not installed: apt-get install ffmpeg")
    return path


async def run(*arguments: str) -> str:
    """ffmpeg to its end; its stdout. RuntimeError with the end of its stderr when it fails."""
    process = await asyncio.create_subprocess_exec(
        ffmpeg(), "-hide_banner", "-loglevel", "error", "-nostdin", *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, preexec_fn=die_with_parent(),
    )  # fmt: skip
    try:
        out, err = await process.communicate()
    finally:
        await end(process)
    if process.returncode != 0:
        raise RuntimeError(f"ffmpeg {' '.join(arguments)}: {err.decode(errors='replace')[-800:]}")
    return out.decode()


async def end(process: asyncio.subprocess.Process) -> None:
    """Kills it when it still runs: the caller was cancelled."""
    if process.returncode is None:
        process.kill()
        await process.wait()


async def make_source(path: Path, seconds: float, *, video: bool = True, size: str = "1280x720") -> None:
    """A test picture (H.264, 30 fps, key frame a second, no B frames) and a tone (Opus), encoded once to a file."""
    picture = (
        "-f", "lavfi", "-i", f"testsrc2=size={size}:rate={FPS}", "-c:v", "libx264", "-preset", "ultrafast",
        "-tune", "zerolatency", "-pix_fmt", "yuv420p", "-g", str(FPS), "-b:v", "2M", "-map", "0:v",
    ) if video else ()  # fmt: skip
    tone = ("-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000", "-c:a", "libopus", "-ac", "2", "-b:a", "64k")
    inputs = [*picture[:4], *tone[:4]]
    outputs = [*picture[4:], *tone[4:], "-map", f"{1 if video else 0}:a"]
    await run("-y", *inputs, *outputs, "-t", f"{seconds:g}", str(path))


def publish_arguments(source: Path, ingress: Address, *, video: bool = True) -> list[str]:
    """Sends the file in real time as RTP, both tracks to one ingress, RTCP to the same port (rtcp-mux).

    ``h264_mp4toannexb`` puts the parameter sets in front of every key frame, so that players may join at any.
    """
    to = f"rtp://{ingress}?rtcpport={ingress.port}"
    tracks = ["-map", "0:a", "-c", "copy", "-payload_type", str(AUDIO_PAYLOAD_TYPE), *RTP, to]
    if video:
        tracks += [
            "-map", "0:v", "-c", "copy", "-bsf:v", "h264_mp4toannexb",
            "-payload_type", str(VIDEO_PAYLOAD_TYPE), *RTP, to,
        ]  # fmt: skip
    return ["-re", "-i", str(source), *tracks]


def receive_arguments(sdp: Path, target: Path) -> list[str]:
    """Receives by the SDP into a file, patient with reordering: one second, 2 000 packets."""
    return [
        "-analyzeduration", "1000000", "-fpsprobesize", "0",  # start writing at once: what is there is never discarded
        "-protocol_whitelist", "file,udp,rtp", "-max_delay", "1000000", "-reorder_queue_size", "2000",
        "-i", str(sdp), "-map", "0", "-c", "copy", "-y", str(target),
    ]  # fmt: skip


class Receiver:
    """An ffmpeg that receives until it is stopped."""

    def __init__(self, sdp: Path, target: Path) -> None:
        self._sdp, self._target = sdp, target
        self._process: asyncio.subprocess.Process | None = None
        self._ports: list[int] = []

    async def start(self, ports: dict[int, int], timeout_s: float = 10.0) -> None:
        """Until it listens on ``ports``, payload type to port, one a track: packets sent after that are seen."""
        self._ports = list(ports.values())
        self._process = await asyncio.create_subprocess_exec(
            ffmpeg(), "-hide_banner", "-loglevel", "error", *receive_arguments(self._sdp, self._target),
            stdin=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE, preexec_fn=die_with_parent(),
        )  # fmt: skip
        for _ in range(int(timeout_s / 0.02)):
            if bound_udp_ports() >= set(self._ports):
                for payload_type, port in ports.items():
                    say_first(payload_type, port)
                return
            if self._process.returncode is not None:
                break
            await asyncio.sleep(0.02)
        raise RuntimeError(f"ffmpeg does not listen on {self._ports}: {await self.stop()}")

    async def stop(self, patience_s: float = 0.0) -> str:
        """Waits up to ``patience_s`` for it to end by itself, then says good-bye to it; what it said on stderr.

        Not every publisher says good-bye. A signal reaches ffmpeg only at the next packet, and a second one makes it
        throw away what it has not written yet; so the good-byes come from here, one for each track.
        """
        process = self._process
        if process is None:
            return ""
        said = asyncio.ensure_future(process.communicate())
        try:
            await asyncio.wait({said}, timeout=patience_s)
            if not said.done():
                for port in self._ports:
                    say_bye(port)
                await asyncio.wait({said}, timeout=STOP_TIMEOUT_S)
        finally:
            self._process = None
            if process.returncode is None:
                process.kill()
            _, err = await said  # also when we were cancelled: nobody else reads its end
        return err.decode(errors="replace")


def say_first(payload_type: int, port: int) -> None:
    """An RTP packet without payload (RFC 3550 5.1), numbered one before ``FIRST_SEQ``, to a local port.

    ffmpeg begins a track with the packet that comes first and throws away what that one overtook. Links deliver in any
    order, so one lost packet in front of a track (5 % of the demo's runs, twice) would be missing from the recording.
    """
    _say(port, struct.pack(">BBHII", 0x80, payload_type, FIRST_SEQ - 1, 0, 0))


def say_bye(port: int) -> None:
    """An RTCP BYE without sources (RFC 3550 6.6) behind an empty receiver report, to a local port."""
    _say(port, struct.pack(">BBHIBBH", 0x80, 201, 1, 0, 0x80, 203, 0))


def _say(port: int, datagram: bytes) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(datagram, ("127.0.0.1", port))


def bound_udp_ports() -> set[int]:
    """Local UDP ports that somebody has bound."""
    ports = set()
    for table in ("/proc/net/udp", "/proc/net/udp6"):
        try:
            lines = Path(table).read_text().splitlines()[1:]
        except OSError:
            continue
        ports |= {int(line.split()[1].rpartition(":")[2], 16) for line in lines}
    return ports


async def video_hashes(path: Path) -> list[str]:
    """A hash of every decoded frame, in order."""
    return _hashes(await run("-i", str(path), "-map", "0:v", "-f", "framemd5", "-"))


async def audio_hashes(path: Path) -> list[str]:
    """A hash of every encoded audio packet, in order."""
    return _hashes(await run("-i", str(path), "-map", "0:a", "-c", "copy", "-f", "framemd5", "-"))


def _hashes(framemd5: str) -> list[str]:
    """stream, dts, pts, duration, size, hash; what follows is about side data."""
    lines = (line for line in framemd5.splitlines() if line and not line.startswith("#"))
    return [line.split(",")[5].strip() for line in lines]
