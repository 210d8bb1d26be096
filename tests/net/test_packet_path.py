"""Zero allocation and zero formatting per packet, asserted by an interposer in the workers of a real mesh.

Each process of two relays keeps count of what it asks of malloc, mmap and printf (benchmarks/no_alloc.c, no_format.c).
While packets are published, cross a sealed link and a ring to the other worker, and leave to subscribers, one of which
wants half of them, the workers' counts stand still. With ZR_FULL=1 for 10^6 packets.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from relay.dev import DevMesh
from tests.net.rtp import TRACK, Sender, Sink, packet, publish_body

FULL = os.environ.get("ZR_FULL") == "1"
pytestmark = [pytest.mark.net, pytest.mark.timeout(900 if FULL else 240)]
ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("benchmarks/no_alloc.c", "benchmarks/no_format.c")
SUBSCRIBERS, PACKETS, FIRST = 4, 1_000_000 if FULL else 2000, 400  # packets of both tracks, by turns
BURST, ON_THEIR_WAY_MAX = 16, 64
WORKERS = min(2, len(os.sched_getaffinity(0)))
SSRC, OTHER = 7, 8
OTHER_TRACK = {**TRACK, "id": "a1", "payload_type": 98}
PLANTED = """
import ctypes, sys
own = ctypes.CDLL(None)
word = ctypes.create_string_buffer(16)
held = [own.malloc, own.free, own.snprintf]
own.malloc.restype, own.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
print("ready", flush=True)
for _ in range(int(sys.stdin.readline())):
    own.free(own.malloc(100))
    own.snprintf(word, 16, b"%d", 7)
print("done", flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def interposer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("gcc")
    if compiler is None:
        pytest.skip("needs gcc: apt install gcc")
    target = tmp_path_factory.mktemp("interpose") / "counting.so"
    words = [compiler, "-O2", "-shared", "-fPIC", "-Wall", *(str(ROOT / source) for source in SOURCES), "-ldl"]
    subprocess.run([*words, "-o", str(target)], check=True)
    return target


def counts(folder: Path, pid: int) -> tuple[int, int]:
    """What the process has done so far: allocations (and releases), texts."""
    allocations, texts = struct.unpack("=QQ", (folder / str(pid)).read_bytes())
    return allocations, texts


def test_the_interposer_sees_what_is_planted(interposer: Path, tmp_path: Path) -> None:
    environ = {"LD_PRELOAD": str(interposer), "ZR_COUNTS": str(tmp_path)}
    with subprocess.Popen(
        [sys.executable, "-c", PLANTED], env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:  # fmt: skip
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        before = counts(tmp_path, child.pid)
        child.stdin.write("1000\n")
        child.stdin.flush()
        assert child.stdout.readline() == "done\n"
        after = counts(tmp_path, child.pid)
        child.stdin.close()
    assert after[0] - before[0] >= 2000
    assert after[1] - before[1] >= 1000


async def test_a_workers_packet_path_asks_nothing_of_malloc_and_makes_no_text(
    interposer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZRELAY_WORKERS__BUSY", "0.001")  # after two subscribers the next goes to the other worker
    mesh = DevMesh(2, workers=WORKERS)
    for relay in mesh.relays:
        relay.before = ["env", f"LD_PRELOAD={interposer}", f"ZR_COUNTS={tmp_path}"]
    sender, sinks = Sender(), [await Sink.open() for _ in range(SUBSCRIBERS + 1)]
    async with mesh:
        first, last = mesh.relays
        async with mesh.client(first.name) as origin, mesh.client(last.name) as edge:
            published = await origin.put("/v1/streams/cam", {**publish_body(), "tracks": [TRACK, OTHER_TRACK]})
            port = int(published["ingress"]["address"].rpartition(":")[2])
            used = set()
            for number, sink in enumerate(sinks):
                client = edge if number else origin
                body = {"kind": "rtp", "address": f"127.0.0.1:{sink.port}"}
                if number == SUBSCRIBERS:
                    body["tracks"] = [TRACK["id"]]
                answer = await client.put(f"/v1/streams/cam/subscribers/s{number}?wait=5s", body)
                used.add((client, answer["worker"]))
            assert {worker for client, worker in used if client is edge} == set(range(WORKERS))
            rows = [row for client in (origin, edge) for row in (await client.get("/v1/status"))["workers"]]
            pids = [row["pid"] for row in rows]
            await publish(sender, port, range(FIRST), sinks)  # first uses: pools are touched, routes learned
            before = [counts(tmp_path, pid) for pid in pids]
            await publish(sender, port, range(FIRST, FIRST + PACKETS), sinks)
            await asyncio.sleep(0.2)
            after = [counts(tmp_path, pid) for pid in pids]
            dropped = (await edge.get("/v1/status"))["drops"]
    for number, sink in enumerate(sinks):
        wanted = {SSRC: PACKETS // 2, OTHER: PACKETS // 2 if number < SUBSCRIBERS else 0}
        assert {ssrc: sum(each >= FIRST for each in sink.numbers[ssrc]) for ssrc in wanted} == wanted
        sink.close()
    sender.close()
    assert dropped["filtered"] >= PACKETS // 2
    assert all(count[0] > 1000 for count in before)  # starting took some: these are counts
    assert after == before


async def publish(sender: Sender, port: int, numbers: range, sinks: list[Sink]) -> None:
    """Bursts; each waits until all sinks have what was sent shortly before, so that no buffer of theirs overflows."""
    for number in numbers:
        ssrc, payload_type = ((SSRC, 97), (OTHER, 98))[number % 2]
        sender.socket.sendto(packet(ssrc, number, payload_type=payload_type), ("127.0.0.1", port))
        if number % BURST == BURST - 1:
            await asyncio.sleep(0.001)
            await arrived(sinks, number - ON_THEIR_WAY_MAX)
    await arrived(sinks, numbers.stop - 1)


async def arrived(sinks: list[Sink], last: int) -> None:
    """Number `last`, or a later one; the last sink wants the even ones."""
    async with asyncio.timeout(10):
        while not all(newest(sink) >= last - (sink is sinks[-1]) for sink in sinks):
            await asyncio.sleep(0.002)


def newest(sink: Sink) -> int:
    return max((numbers[-1] for numbers in sink.numbers.values() if numbers), default=-1)
