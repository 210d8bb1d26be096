"""The README's commands, as they are pasted: each block behind ``<!-- run: NAME -->`` runs against a real relay.

The relay listens where the README says. A port that somebody else holds is replaced, in the relay and in every block.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from relay import ffmpeg
from relay.dev import DevMesh, free_ports
from relay.units import Address

pytestmark = pytest.mark.net

README = Path(__file__).parents[2] / "README.md"
BLOCKS = dict(re.findall(r"<!-- run: ([\w-]+) -->\n```sh\n(.*?)```", README.read_text(), re.DOTALL))
API, INGRESS, VIDEO, AUDIO = 7481, 30000, 5004, 5006
SECONDS = 3


def needs(*tools: str) -> pytest.MarkDecorator:
    missing = [tool for tool in tools if shutil.which(tool) is None]
    return pytest.mark.skipif(bool(missing), reason=f"{', '.join(missing)} is missing")


def free(port: int, kind: int) -> bool:
    with socket.socket(socket.AF_INET, kind) as sock, contextlib.suppress(OSError):
        sock.bind(("127.0.0.1", port))
        return True
    return False


class Terminal:
    """A relay where the README has it, and a shell in an empty folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.mesh = DevMesh(1)
        self.port = {
            port: port if free(port, kind) else free_ports(1, kind)
            for port, kind in (
                (API, socket.SOCK_STREAM), (INGRESS, socket.SOCK_DGRAM), (VIDEO, socket.SOCK_DGRAM),
                (AUDIO, socket.SOCK_DGRAM),
            )
        }  # fmt: skip
        relay = self.mesh.relays[0]
        relay.api = Address("127.0.0.1", self.port[API])
        relay.ingress_ports = (self.port[INGRESS], self.port[INGRESS] + 9)
        self._started: list[asyncio.subprocess.Process] = []

    def line(self, name: str) -> str:
        """The block with ports that are free here and a shorter programme."""
        text = BLOCKS[name].replace("-t 10", f"-t {SECONDS}").replace("num-buffers=300", f"num-buffers={SECONDS * 30}")
        return re.sub(r"\b(7481|30000|5004|5006)\b", lambda found: str(self.port[int(found[1])]), text)

    async def start(self, name: str) -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            "bash", "-ec", self.line(name), cwd=self.folder, start_new_session=True, stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        self._started.append(process)
        return process

    async def run(self, name: str, timeout_s: float = 40.0) -> str:
        """To its end; what it printed."""
        return await self.end(await self.start(name), timeout_s)

    @staticmethod
    async def end(process: asyncio.subprocess.Process, timeout_s: float = 40.0) -> str:
        async with asyncio.timeout(timeout_s):
            out, _ = await process.communicate()
        said = out.decode(errors="replace")
        assert process.returncode == 0, said[-2000:]
        return said

    async def listening(self, *ports: int) -> None:
        async with asyncio.timeout(20):
            while not {self.port[port] for port in ports} <= ffmpeg.bound_udp_ports():
                await asyncio.sleep(0.02)

    async def close(self) -> None:
        for process in self._started:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.communicate()


@contextlib.asynccontextmanager
async def published(folder: Path) -> AsyncIterator[Terminal]:
    """The first two commands have run."""
    terminal = Terminal(folder)
    async with terminal.mesh:
        try:
            answer = await terminal.run("publish")
            assert f'"address":"127.0.0.1:{terminal.port[INGRESS]}"' in answer
            assert '"confirmed":true' in await terminal.run("subscribe")
            assert (folder / "cam1.sdp").read_text().startswith("v=0")
            yield terminal
        finally:
            await terminal.close()


def test_every_command_block_has_a_test_here() -> None:
    tested = "publish subscribe ffmpeg-send ffmpeg-play gstreamer-send gstreamer-play vlc-play"
    assert set(BLOCKS) == set(tested.split())


@needs("curl", "ffmpeg")
async def test_what_ffmpeg_sends_ffmpeg_plays(tmp_path: Path) -> None:
    async with published(tmp_path) as terminal:
        player = await terminal.start("ffmpeg-play")
        await terminal.listening(VIDEO, AUDIO)
        await terminal.run("ffmpeg-send")
        await terminal.end(player)
    assert len(await ffmpeg.video_hashes(tmp_path / "cam1.mkv")) == SECONDS * 30
    assert len(await ffmpeg.audio_hashes(tmp_path / "cam1.mkv")) >= SECONDS * 50


@needs("curl", "gst-launch-1.0")
async def test_what_gstreamer_sends_gstreamer_plays(tmp_path: Path) -> None:
    async with published(tmp_path) as terminal:
        player = await terminal.start("gstreamer-play")
        await terminal.listening(VIDEO)
        await terminal.run("gstreamer-send")
        await asyncio.sleep(1)  # the jitter buffer holds 200 ms
        os.killpg(player.pid, signal.SIGINT)
        said = await terminal.end(player)
    pictures = [int(number) for number in re.findall(r"rendered: (\d+), dropped: 0", said)]
    assert pictures, said[-2000:]
    assert max(pictures) >= (SECONDS - 1) * 30, "it says so twice a second"


@needs("curl", "cvlc", "ffmpeg")
@pytest.mark.skipif(
    not any(Path("/usr/lib").glob("*/vlc/plugins/*/liblive555_plugin.so")),
    reason="this VLC has no live555 module, without which it opens no SDP file: Debian 12 builds it without",
)
async def test_what_ffmpeg_sends_vlc_opens(tmp_path: Path) -> None:
    async with published(tmp_path) as terminal:
        player = await terminal.start("vlc-play")
        await terminal.listening(VIDEO, AUDIO)
        await terminal.run("ffmpeg-send")
        assert player.returncode is None, "it plays until it is closed"
