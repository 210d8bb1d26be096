"""Zero allocation and zero formatting per packet, asserted by an interposer in the workers of a real mesh.

Each process of two relays keeps count of what it asks of malloc, mmap and printf (benchmarks/no_alloc.c, no_format.c).
While packets are published, cross a sealed link and leave to subscribers, the workers' counts stand still.
"""

from __future__ import annotations

import asyncio
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from relay.dev import DevMesh
from tests.net.rtp import Sender, Sink, publish_body

pytestmark = pytest.mark.net
ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("benchmarks/no_alloc.c", "benchmarks/no_format.c")
SUBSCRIBERS, PACKETS, FIRST = 4, 2000, 400
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


async def test_a_workers_packet_path_asks_nothing_of_malloc_and_makes_no_text(interposer: Path, tmp_path: Path) -> None:
    mesh = DevMesh(2)
    for relay in mesh.relays:
        relay.before = ["env", f"LD_PRELOAD={interposer}", f"ZR_COUNTS={tmp_path}"]
    sender, sinks = Sender(), [await Sink.open() for _ in range(SUBSCRIBERS)]
    async with mesh:
        first, last = mesh.relays
        async with mesh.client(first.name) as origin, mesh.client(last.name) as edge:
            published = await origin.put("/v1/streams/cam", publish_body())
            port = int(published["ingress"]["address"].rpartition(":")[2])
            for number, sink in enumerate(sinks):
                client = edge if number % 2 else origin
                body = {"kind": "rtp", "address": f"127.0.0.1:{sink.port}"}
                await client.put(f"/v1/streams/cam/subscribers/s{number}?wait=5s", body)
            pids = [(await client.get("/v1/status"))["workers"][0]["pid"] for client in (origin, edge)]
            await publish(sender, port, range(FIRST))  # first uses: pools are touched, routes learned
            before = [counts(tmp_path, pid) for pid in pids]
            await publish(sender, port, range(FIRST, FIRST + PACKETS))
            await arrived(sinks, FIRST + PACKETS - 1)
            after = [counts(tmp_path, pid) for pid in pids]
    for sink in sinks:
        got = sink.numbers[7]
        assert len([number for number in got if number >= FIRST]) == PACKETS
        sink.close()
    sender.close()
    assert [count[0] > 1000 for count in before] == [True, True]  # starting took some: these are counts
    assert after == before


async def publish(sender: Sender, port: int, numbers: range) -> None:
    for number in numbers:
        sender.send(port, 7, number)
        if number % 8 == 7:
            await asyncio.sleep(0.004)


async def arrived(sinks: list[Sink], last: int) -> None:
    async with asyncio.timeout(10):
        while not all(sink.numbers[7] and max(sink.numbers[7]) >= last for sink in sinks):
            await asyncio.sleep(0.02)
    await asyncio.sleep(0.2)
