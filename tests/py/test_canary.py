"""T32, T40, T45: the bytes of a key are in the agent's memory and in the key's file, and nowhere else.

A relay runs with keys that we know. Whatever it says, shows or leaves behind is searched for them, raw and as text.
"""

from __future__ import annotations

import asyncio
import base64
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import psutil
import pytest

from relay import _core
from relay.dev import DevMesh, DevRelay
from relay.keys import Keyring
from tests.net.rtp import publish_body
from tests.py.badinput_cli import zrelay

RELAYS = 2
CHUNK, PAGE = 1 << 16, resource.getpagesize()
ROUTES = (
    "/v1/status", "/v1/streams", "/v1/links", "/v1/workers", "/v1/version", "/v1/none", "/metrics", "/healthz",
    "/readyz", "/openapi.json", "/",
)  # fmt: skip


def canaries(relay: DevRelay) -> list[bytes]:
    """Every form that a key of this relay could be shown in."""
    ring = Keyring(str(relay.keyring))
    forms = []
    for name in ("identity", "mesh"):
        key = ring.read(name).reveal()
        text = base64.b64encode(key)
        forms += [key, text[:40], base64.urlsafe_b64encode(key)[:40], key.hex().encode(), key.hex().upper().encode()]
        forms += [repr(key)[2:-1].encode(), repr([*key])[1:-1].encode()]
    return forms


def found(forms: list[bytes], data: bytes) -> list[int]:
    return [number for number, form in enumerate(forms) if form in data]


def memory(pid: int) -> Iterator[bytes]:
    """What a process may write to and has ever touched, in pieces that overlap."""
    with (
        open(f"/proc/{pid}/maps") as maps,
        open(f"/proc/{pid}/mem", "rb", buffering=0) as mem,
        open(f"/proc/{pid}/pagemap", "rb", buffering=0) as pages,
    ):
        for line in maps:
            where, rights, *_ = line.split()
            if "w" not in rights:
                continue
            first, end = (int(part, 16) for part in where.split("-"))
            for at in range(first, end, CHUNK):
                entries = os.pread(pages.fileno(), min(CHUNK, end - at) // PAGE * 8, at // PAGE * 8)
                if not any(byte & 0xC0 for byte in entries[7::8]):  # neither there nor swapped
                    continue
                try:
                    yield os.pread(mem.fileno(), min(CHUNK + 128, end - at), at)
                except OSError:  # a guard page, or a mapping that is gone
                    break


def in_memory(pid: int, forms: list[bytes]) -> set[int]:
    return {number for piece in memory(pid) for number in found(forms, piece)}


def named(relay: DevRelay) -> dict[str, psutil.Process]:
    """The relay's processes by name: the supervisor, "agent", the others by what they call themselves."""
    assert relay.process is not None
    supervisor = psutil.Process(relay.process.pid)
    names = {"supervisor": supervisor}
    for child in supervisor.children(recursive=True):
        name = "agent" if "relay.node" in child.cmdline() else Path(f"/proc/{child.pid}/comm").read_text().strip()
        names[name] = child
    return names


@pytest.mark.net
@pytest.mark.skipif(os.geteuid() != 0, reason="reads the memory of other processes: run as root")
async def test_a_key_shows_up_nowhere_but_in_its_file_and_in_the_agent() -> None:
    async with DevMesh(RELAYS, sealed=True) as mesh:
        relay = mesh.relays[0]
        forms = canaries(relay)
        async with mesh.client(relay.name) as client, aiohttp.ClientSession(relay.api_url) as http:
            await client.put("/v1/streams/cam", publish_body())
            for route in ROUTES:
                async with http.get(route) as answer:
                    assert found(forms, await answer.read()) == [], route
            processes = named(relay)
            assert {"supervisor", "agent", "zr-worker-0", "zr-spare"} <= set(processes), processes
            for name, process in processes.items():
                for what in ("cmdline", "environ"):
                    shown = Path(f"/proc/{process.pid}/{what}").read_bytes()
                    assert found(forms, shown) == [], f"{name}: {what}"
                if name.startswith("zr-"):
                    assert in_memory(process.pid, forms) == set(), name
                    assert "zr-keys" not in Path(f"/proc/{process.pid}/maps").read_text()
                    fds = Path(f"/proc/{process.pid}/fd")
                    assert not [fd for fd in fds.iterdir() if "zr-keys" in os.readlink(fd)], name
            assert in_memory(processes["agent"].pid, forms), "the search finds what is there"
            for args in (("status", "-c", str(relay.config_path)), ("keys", "list", "-k", str(relay.keyring))):
                done = await asyncio.to_thread(zrelay, *args)
                assert done.stdout
                assert found(forms, (done.stdout + done.stderr).encode()) == [], args
            limits = Path(f"/proc/{processes['agent'].pid}/limits").read_text()
            assert "Max core file size        0 " in limits
            for name in ("zr-worker-0", "zr-spare"):
                limits = Path(f"/proc/{processes[name].pid}/limits").read_text()
                assert "Max core file size        1                    1 " in limits, name

            # Keys that are no good any more are not taken over: the relay says so and goes on with those it has.
            assert relay.process is not None
            assert relay.keyring is not None
            os.chmod(relay.keyring / "mesh", 0o644)
            for process in (relay.process, processes["agent"]):  # as a terminal does that closes
                process.send_signal(signal.SIGHUP)
            async with asyncio.timeout(20):
                while "WARN not reloaded: " not in relay.log_path.read_text():
                    await asyncio.sleep(0.05)
            os.chmod(relay.keyring / "mesh", 0o600)
            await client.wait_ready(20)

            # What a crash leaves, and its successor, which has the same keys.
            processes["agent"].send_signal(signal.SIGABRT)
            await asyncio.to_thread(psutil.wait_procs, [processes["agent"]], 20)
            async with asyncio.timeout(20):
                while "agent" not in (again := named(relay)) or not in_memory(again["agent"].pid, forms):
                    await asyncio.sleep(0.1)
            await client.wait_ready(20)
        for left in mesh.folder.rglob("*"):
            if left.is_file() and "keys" not in left.relative_to(mesh.folder).parts:
                assert found(forms, left.read_bytes()) == [], left
        assert "ended: signal 6" in relay.log_path.read_text()


ABORT = "import os, relay.keymemory as memory\n{}\nos.abort()"


def leaves_core(folder: Path, line: str) -> bool:
    done = subprocess.Popen(
        [sys.executable, "-c", ABORT.format(line)],
        cwd=folder,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY,) * 2),
    )
    _, status, _ = os.wait4(done.pid, 0)
    done.returncode = 0  # it is waited for
    return os.WCOREDUMP(status)


def test_a_process_that_keeps_to_itself_leaves_no_core(tmp_path: Path) -> None:
    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    if hard != resource.RLIM_INFINITY or not leaves_core(tmp_path, "pass"):
        pytest.skip("this system writes no cores: set ulimit -c unlimited and kernel.core_pattern = core")
    assert not leaves_core(tmp_path, "memory.keep_to_ourselves()")


def left_out_kib(name: str) -> int:
    """How much of this process no core has, of mappings whose name has `name` in it, or of nameless ones."""
    kib, size, counts = 0, 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        fields = line.split()
        if not fields[0].endswith(":"):
            shown = " ".join(fields[5:])
            counts = name in shown if name else not shown
        elif fields[0] == "Size:":
            size = int(fields[1])
        elif fields[0] == "VmFlags:" and "dd" in fields and counts:
            kib += size
    return kib


def test_lanes_and_what_is_shared_between_processes_are_left_out_of_cores() -> None:
    nameless, bytes_ = left_out_kib(""), _core.StatPage.bytes_for(0)
    fd = _core.shm_open("zr-canary", bytes_)
    page = _core.StatPage(fd, streams_max=0, create=True)
    os.close(fd)
    lane = _core.ControlLane(0)
    assert left_out_kib("zr-canary") >= bytes_ // 1024
    assert left_out_kib("") - nameless >= 1024
    del page, lane


def test_a_worker_that_aborts_leaves_no_core_whatever_takes_them(tmp_path: Path) -> None:
    limit = "import resource, relay.worker as worker; worker.leave_no_core(); "
    shown = subprocess.run(
        [sys.executable, "-c", limit + "print(resource.getrlimit(resource.RLIMIT_CORE)[0])"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert shown.stdout in ("0\n", "1\n")  # 0: where no more was allowed before
    assert not leaves_core(tmp_path, "import relay.worker\nrelay.worker.leave_no_core()")
