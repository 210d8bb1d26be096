"""What a network card does to a worker: a socket that takes nothing (d12), a queue that is full (d13), and an interface
that goes down and up (d16)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.net
ROOT = Path(__file__).resolve().parents[2]
LO_UP = "ip link set lo up"
SHALLOW_QUEUE = "tc qdisc add dev lo root tbf rate 8mbit burst 5000 limit 3000"
DEEP_QUEUE = "tc qdisc add dev lo root tbf rate 1mbit burst 2000 limit 10000000"
ATTEMPTS = 5  # of some seconds each
MOST_LOST = {"opus": 0.01, "h264": 0.2}  # of 1.2 times what the card sends on, a sixth is too much
MOST_REFUSED = 0.01
RESUMED_S = 0.02


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


def in_calm(what: str, held: Callable[[dict[str, Any]], bool], stall_s: float, needs: str = "") -> dict[str, Any]:
    """A run in which it held, or, after which nothing else is worth asking, one in which the machine did not stall."""
    for _ in range(ATTEMPTS):
        told = run(what, needs)
        if held(told) or told["stall_s"] < stall_s:
            return told
    pytest.skip(f"this machine stalled for {1000 * stall_s:g} ms in each of {ATTEMPTS} runs: run it alone")


@pytest.mark.parametrize("codec", ["opus", "h264"])
def test_d13_a_full_queue_of_the_card_slows_the_sender_down_and_refuses_a_packet_in_a_hundred(codec: str) -> None:
    """What is too much waits: audio for so long that nothing is lost meanwhile; of video whole frames are shed."""
    told = in_calm(f"queue {codec}", partial(waited, MOST_LOST[codec]), 0.004, needs=SHALLOW_QUEUE)
    assert told["stats"]["tx_paced"] > 0  # the kernel said it: ENOBUFS
    assert told["published"] > 500
    assert told["drops"]["tx_nobufs"] <= told["stats"]["rx_media"] * MOST_REFUSED
    assert told["lost"] <= told["published"] * MOST_LOST[codec]


def waited(share: float, told: dict[str, Any]) -> bool:
    refused = told["drops"]["tx_nobufs"] / told["stats"]["rx_media"]
    return bool(told["lost"] <= told["published"] * share and refused <= MOST_REFUSED)


def calls(told: dict[str, Any]) -> int:
    return sum(told["did"][name] for name in ("sys_recvmmsg", "sys_sendmmsg", "sys_epoll"))


def test_d12_audio_passes_a_socket_that_is_full_and_each_packet_of_video_came_or_was_dropped() -> None:
    """Twice the video that fits. The worker waits for room: it makes few calls more than where all of it fits."""
    free = run("full calm", DEEP_QUEUE)
    assert (free["audio_came"], free["video_came"]) == (free["audio"], free["video"])
    told = in_calm("full", lambda told: told["audio_came"] == told["audio"], 0.02, DEEP_QUEUE)
    assert told["did"]["tx_blocked"] > 50  # EAGAIN
    assert told["audio_came"] == told["audio"] > 100
    dropped = {name: count for name, count in told["drops"].items() if count}
    assert dropped.keys() <= {"fan_shed", "fan_dependant"}
    assert told["video"] - told["video_came"] == sum(dropped.values()) > 0
    assert told["video_came"] > 50
    per_packet = calls(told) / told["did"]["rx_media"] - calls(free) / free["did"]["rx_media"]
    assert per_packet < 1  # a spin makes hundreds
    assert told["cpu_share"] - free["cpu_share"] <= 0.1


def test_d16_media_flows_again_at_once_when_the_card_is_up_and_others_miss_nothing_meanwhile() -> None:
    told = in_calm("flap", lambda told: told["near_lost"] == 0 and told["resumed_s"] <= RESUMED_S, 0.005)
    assert told["drops"]["tx_refused"] + told["drops"]["tx_skipped"] > 100  # it was down, and not asked for each packet
    assert told["drops"]["tx_refused"] < told["drops"]["tx_skipped"]
    assert told["near_lost"] == 0
    assert told["resumed_s"] <= RESUMED_S
