"""A worker that waits in the kernel where no signal reaches it (state D): d21 of the fault table."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.machine import slack
from relay.processes import Child
from relay.watchdog import state_of
from tests.py.test_hangs import REPLACED_S, pinned
from tests.py.test_spares import playing, wait_for_spare
from tests.py.test_supervisor import gone, rtp, wait_until

TOOLS = {"mkfs.ext4": "e2fsprogs", "fsfreeze": "util-linux", "mount": "mount", "umount": "mount", "gdb": "gdb"}
pytestmark = [pytest.mark.net, pytest.mark.timeout(60)]


class Frozen:
    """A file system to which nobody can write: who tries waits in state D until it thaws."""

    def __init__(self, there: Path) -> None:
        self.there, self.file = there, there / "file"
        self.file.touch()
        subprocess.run(["fsfreeze", "--freeze", there], check=True)
        self._frozen = True

    def thaw(self) -> None:
        if self._frozen:
            subprocess.run(["fsfreeze", "--unfreeze", self.there], check=True)
        self._frozen = False


@pytest.fixture
def frozen(tmp_path: Path) -> Iterator[Frozen]:
    missing = [f"{tool} ({package})" for tool, package in TOOLS.items() if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"install {', '.join(missing)}")
    image, there = tmp_path / "image", tmp_path / "mounted"
    there.mkdir()
    image.touch()
    os.truncate(image, 8 << 20)
    subprocess.run(["mkfs.ext4", "-q", image], check=True)
    if subprocess.run(["mount", "-o", "loop", image, there], capture_output=True).returncode != 0:
        pytest.skip("needs root and a loop device")
    try:
        made = Frozen(there)
        try:
            yield made
        finally:
            made.thaw()
    finally:
        wait_until(lambda: subprocess.run(["umount", there], capture_output=True).returncode == 0)


def stuck(pid: int) -> bool:
    return state_of(pid) == "D"


def test_a_killed_process_is_over_while_it_waits_in_the_kernel_and_not_before_it_is_killed(frozen: Frozen) -> None:
    child = Child("zr-worker-0")
    child.process = subprocess.Popen([sys.executable, "-c", f"open({str(frozen.file)!r}, 'w').write('x')"])
    child.pidfd = os.pidfd_open(child.process.pid)
    wait_until(lambda: stuck(child.pid))
    assert not child.is_over()
    child.send_signal(signal.SIGKILL)
    assert child.is_over()
    time.sleep(0.05)
    assert stuck(child.pid)
    assert not child.ends_within(0.01)
    frozen.thaw()
    assert child.ends_within(5)
    assert child.died(time.monotonic()) == -signal.SIGKILL


def let_it_write(pid: int, path: Path) -> None:
    """As if it had something to write there: a debugger makes the call, and goes."""
    call = f'call (int)open("{path}", 1)'
    calls = ["-ex", call, "-ex", 'call (long)write($, "x", 1)']
    debugger = subprocess.Popen(
        ["gdb", "-p", str(pid), "-batch", "-nx", *calls], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        wait_until(lambda: stuck(pid), 20)
    finally:
        debugger.kill()
        debugger.wait()


def test_d21_a_worker_that_cannot_be_killed_has_a_successor_and_does_nothing_more_when_it_can(
    frozen: Frozen, tmp_path: Path
) -> None:
    with pinned(tmp_path, []) as rig, playing(rig) as (port, player), contextlib.ExitStack() as stack:
        publisher = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        wait_for_spare(rig)
        pid = rig.page()["pid"]
        let_it_write(pid, frozen.file)
        began = time.monotonic()
        publisher.sendto(rtp(0), ("127.0.0.1", port))
        assert player.recv(2000) == rtp(0)
        assert time.monotonic() - began <= REPLACED_S * slack()
        rig.hear("worker_moved")
        assert rig.page()["pid"] != pid
        assert stuck(pid)  # it is still there
        frozen.thaw()
        wait_until(lambda: gone(pid))
        wait_until(lambda: f"(pid {pid}) ended: signal 9; another is in its place" in rig.log.read_text())
        publisher.sendto(rtp(1), ("127.0.0.1", port))
        assert player.recv(2000) == rtp(1)
        log = rig.log.read_text()
    assert log.count("hangs for") == 1
    assert "state D" in log


def test_a_relay_stops_although_a_worker_of_its_cannot_be_killed(frozen: Frozen, tmp_path: Path) -> None:
    with pinned(tmp_path, []) as rig:
        wait_for_spare(rig)
        pid = rig.page()["pid"]
        let_it_write(pid, frozen.file)
        rig.hear("worker_moved")
        rig.process.send_signal(signal.SIGTERM)
        assert rig.process.wait(20) == 0
        assert stuck(pid)
        assert f"(pid {pid}) is left behind, it cannot end: state D" in rig.log.read_text()
        frozen.thaw()
        wait_until(lambda: gone(pid))
