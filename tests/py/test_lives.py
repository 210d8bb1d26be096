"""Who is dead, and who only says so: a place is given to another when its worker is provably over."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from relay.processes import Child
from tests.py.test_supervisor import LIFE_AT, RUN, Rig, gone, life_word, wait_until

pytestmark = pytest.mark.net

# A SIGKILL that takes long to take effect, and who still ran when his place was given to another.
SLOW_DEATH = """
import contextlib, os, signal, sys, threading
from relay.places import Place
from relay.spares import Spares
signalled, give, held = Place.send_signal, Spares.give, {}

def late(place, number):
    if number != signal.SIGKILL:
        return signalled(place, number)
    if place.process is not None:
        threading.Timer(0.3, os.kill, (place.pid, number)).start()

def given(spares, place, *, fresh):
    with contextlib.suppress(OSError):
        state = open(f"/proc/{held[place.index]}/stat").read().rpartition(")")[2].split()
        if not (state[0] in "ZX" or int(state[6]) & 4):
            print(f"given while {held[place.index]} runs", file=sys.stderr, flush=True)
    give(spares, place, fresh=fresh)
    held[place.index] = place.pid
held[0] = held[1] = 0
Place.send_signal, Spares.give = late, given
"""


@pytest.mark.parametrize("word", [0x40000000, 0xC0000000])  # FUTEX_OWNER_DIED alone, and with FUTEX_WAITERS
def test_a_place_is_not_given_away_before_a_worker_that_only_says_it_ends_is_over(tmp_path: Path, word: int) -> None:
    rig = Rig(tmp_path, workers=2, run=SLOW_DEATH + RUN)
    rig.meet_agent()
    for _ in range(2):
        rig.hear("worker_up")
    pids = [rig.page(worker)["pid"] for worker in range(2)]
    page = life_word(pids[0])
    (word_was,) = struct.unpack("<I", os.pread(page, 4, LIFE_AT))
    os.pwrite(page, struct.pack("<I", word), LIFE_AT)
    os.close(page)
    os.kill(pids[1], signal.SIGKILL)  # whoever waits for the words looks at all of them
    moved = {rig.hear("worker_moved", "worker_up")["worker"] for _ in range(2)}
    assert word_was & 0x3FFFFFFF == pids[0]
    assert moved == {0, 1}
    for pid in pids:
        wait_until(lambda pid=pid: gone(pid))
    wait_until(lambda: f"zr-worker-0 (pid {pids[0]}) ended: signal 9" in rig.log.read_text())
    assert "given while" not in rig.log.read_text()
    rig.close()


def test_a_word_that_the_kernel_would_not_write_ends_nobody(tmp_path: Path) -> None:
    rig = Rig(tmp_path, workers=2)
    rig.meet_agent()
    for _ in range(2):
        rig.hear("worker_up")
    pids = [rig.page(worker)["pid"] for worker in range(2)]
    page = life_word(pids[0])
    os.pwrite(page, struct.pack("<I", 0x40000000 | pids[0]), LIFE_AT)
    os.close(page)
    os.kill(pids[1], signal.SIGKILL)
    assert rig.hear("worker_moved")["worker"] == 1
    assert rig.page(0)["pid"] == pids[0]
    assert not gone(pids[0])
    os.kill(pids[0], signal.SIGKILL)  # and its death is heard of all the same
    assert rig.hear("worker_moved")["worker"] == 0
    rig.close()


def test_a_child_is_over_when_it_runs_nothing_more_and_not_before() -> None:
    child = Child("zr-test")
    assert not child.is_over()  # nobody
    threads = "import threading, time; [threading.Thread(target=time.sleep, args=(60,)).start() for _ in range(2)]; "
    leader = "import ctypes; print(flush=True); ctypes.CDLL(None).pthread_exit(None)"
    for code in ("print(flush=True); input()", threads + leader):
        child.process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert child.process.stdout is not None
        child.process.stdout.readline()
        if code.endswith(leader):
            wait_until(lambda: Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z")
        assert not child.is_over()
        child.process.kill()
        wait_until(child.is_over)
        child.process.communicate()
        assert not child.is_over()  # reaped: who has this number now is not known
