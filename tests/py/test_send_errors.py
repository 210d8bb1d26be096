"""The errno table against a real kernel: errors injected into sendmmsg, and a socket that really is full."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.net
ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))
import ctest  # noqa: E402

SLOW = "ip link set lo up && tc qdisc add dev lo root tbf rate 4mbit burst 5000 limit 1000000"


@pytest.fixture(scope="module")
def c_tests() -> Path:
    return ctest.build(ROOT, "plain")


# Of the table in csrc/net/zr_udp_tx.h: those after which every packet still arrives, and those that cost some.
LOSSLESS = ["EINTR", "EAGAIN", "ECONNREFUSED"]
COSTLY = [
    *("EIO", "EMSGSIZE", "EINVAL", "ENOBUFS", "ENOMEM", "ENETUNREACH", "EHOSTUNREACH", "ENETDOWN", "EADDRNOTAVAIL"),
    *("EPERM", "EBADMSG"),
]
needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="install strace")


def injected(c_tests: Path, error: str, name: str) -> None:
    """The C test itself checks each packet that arrives, and that the others are counted."""
    inject = ["-e", "trace=sendmmsg", "-e", f"inject=sendmmsg:error={error}:when=1+2"]
    command = ["strace", "-f", "-qq", *inject, str(c_tests), name]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if "PTRACE" in done.stderr and "INJECTED" not in done.stderr:
        pytest.skip("tracing is not permitted here")
    assert "(INJECTED)" in done.stderr
    assert done.returncode == 0, done.stderr


@needs_strace
@pytest.mark.parametrize("error", LOSSLESS)
def test_no_packet_is_lost_or_sent_twice_when_sendmmsg_fails_now_and_then(c_tests: Path, error: str) -> None:
    injected(c_tests, error, "rtp_that_comes_in_goes_out")


@needs_strace
@pytest.mark.parametrize("error", COSTLY)
def test_what_sendmmsg_refuses_is_counted_and_nothing_is_sent_twice(c_tests: Path, error: str) -> None:
    injected(c_tests, error, "whatever_the_kernel_refuses")


def test_a_full_egress_socket_keeps_every_packet_and_does_not_spin() -> None:
    tools = [tool for tool in ("unshare", "ip", "tc") if shutil.which(tool) is None]
    if tools:
        pytest.skip(f"install {', '.join(tools)} (util-linux, iproute2)")
    if subprocess.run(["unshare", "-n", "sh", "-c", SLOW], capture_output=True, check=False).returncode != 0:
        pytest.skip("no network namespaces or no tbf queue here: needs root and sch_tbf")
    command = ["unshare", "-n", "sh", "-c", f'{SLOW} && exec "$0" tests/py/slow_egress.py', sys.executable]
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["in_order"]
    assert told["stats"]["tx_blocked"] > 0
    assert told["stats"]["tx_waiting"] == 0
    assert not any(told["drops"].values())
    assert told["stats"]["sys_sendmmsg"] <= 4 * told["stats"]["tx_sent"]
    assert told["busy"] < 0.5
