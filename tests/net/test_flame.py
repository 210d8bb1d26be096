"""The flame graph of a loaded worker: what it names, and what it costs nobody to find out."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import sys
from pathlib import Path

import pytest

from relay.dev import DevMesh
from tests.flame_perf import needs_perf
from tests.net.rtp import Sender, publish_body

pytestmark = [pytest.mark.net, needs_perf]

SECONDS = 3
RESOLVED_PCT_MIN = 95.0
SUBSCRIBERS, PER_TURN = 200, 50


async def _load(sender: Sender, port: int) -> None:
    """Packets for as long as it runs, in small bursts, some ten thousand a second."""
    seq = 0
    while True:
        for _ in range(PER_TURN):
            sender.send(port, 7, seq)
            seq += 1
        await asyncio.sleep(0.004)


async def test_of_a_loaded_workers_samples_95_percent_are_in_functions_with_a_name(tmp_path: Path) -> None:
    async with DevMesh(1) as mesh, contextlib.AsyncExitStack() as held:
        relay = mesh.relays[0]
        async with mesh.client(relay.name) as client:
            published = await client.put("/v1/streams/cam", publish_body())
            port = int(published["ingress"]["address"].rpartition(":")[2])
            sink = held.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            sink.bind(("127.0.0.1", 0))  # nobody reads: what does not fit costs the sinks nothing
            for number in range(SUBSCRIBERS):
                body = {"kind": "rtp", "address": f"127.0.0.1:{sink.getsockname()[1]}"}
                await client.put(f"/v1/streams/cam/subscribers/s{number}", body)
        sender = Sender()
        held.callback(sender.close)
        load = asyncio.create_task(_load(sender, port))
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "relay.cli", "profile", "-c", str(relay.config_path), "--worker", "0",
                "--seconds", str(SECONDS), "--json", "--out", str(tmp_path / "worker"),
                stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            )  # fmt: skip
            out, err = await asyncio.wait_for(process.communicate(), 60)
        finally:
            load.cancel()
    assert process.returncode == 0, err.decode()
    figures = json.loads(out)
    print(json.dumps({key: figures[key] for key in figures if key not in ("top", "files")}))
    assert figures["samples"] >= 100
    assert figures["resolved_pct"] >= RESOLVED_PCT_MIN, figures["top"]
    names = (tmp_path / "worker.folded").read_text()
    assert "zr_worker_" in names  # the core's own functions, by name
    assert f"{relay.name} worker 0" in (tmp_path / "worker.svg").read_text()
