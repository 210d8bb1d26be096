"""What a network card does to a worker: a queue that is full (d13), and an interface that goes down and up (d16)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.machine import slack

pytestmark = pytest.mark.net
ROOT = Path(__file__).resolve().parents[2]
LO_UP = "ip link set lo up"


def run(what: str, needs: str = "") -> dict[str, Any]:
    """tests/net/nic.py, in a namespace of its own; `needs`: what must be possible there."""
    missing = [tool for tool in ("unshare", "ip", "tc") if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"install {', '.join(missing)} (util-linux, iproute2)")
    first = f"{LO_UP} && {needs or 'true'}"
    if os.geteuid() != 0 or subprocess.run(["unshare", "-n", "sh", "-c", first], capture_output=True).returncode != 0:
        pytest.skip(f"needs root, network namespaces{' and sch_tbf' if needs else ''}")
    command = ["unshare", "-n", "sh", "-c", f'{LO_UP} && exec "$0" -m tests.net.nic {what}', sys.executable]
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=60, check=False)
    if "VethMissingError" in done.stderr:
        pytest.skip(done.stderr.splitlines()[-1])
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


@pytest.mark.skipif(not os.environ.get("ZR_FULL"), reason="not held yet on a busy machine: ZR_FULL=1 runs it")
def test_d13_a_full_queue_of_the_card_slows_the_sender_down_and_costs_at_most_one_packet_in_a_hundred() -> None:
    told = run("queue", needs="tc qdisc add dev lo root tbf rate 8mbit burst 5000 limit 3000")
    assert told["stats"]["tx_paced"] > 0  # the kernel said it: ENOBUFS
    assert told["published"] > 500
    assert told["lost"] <= told["published"] // 100


@pytest.mark.skipif(not os.environ.get("ZR_FULL"), reason="not held yet on a busy machine: ZR_FULL=1 runs it")
def test_d16_media_flows_again_at_once_when_the_card_is_up_and_others_miss_nothing_meanwhile() -> None:
    told = run("flap")
    assert told["drops"]["tx_refused"] + told["drops"]["tx_skipped"] > 100  # it was down, and not asked for each packet
    assert told["drops"]["tx_refused"] < told["drops"]["tx_skipped"]
    assert told["near_lost"] == 0
    assert told["resumed_s"] <= 0.02 * slack() + 2 * told["stall_s"]  # the latter: when we could not publish
