"""A worker that dies or hangs, as the supervisor sees it: real processes, and an agent that does what the test says."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from relay.commands import encode
from relay.units import Address
from relay.watchdog import Watchdog
from tests.py.test_supervisor import RUN, Rig, codec, free_ports, gone, rig, rtp, wait_until

__all__ = ["rig"]
pytestmark = pytest.mark.net

# A supervisor to whom the system refuses the call NAME for as long as there is a file "without-NAME".
REFUSED = """
import errno, os, socket, subprocess, sys
import relay.supervisor
def refuse(module, name, number):
    real = getattr(module, name)
    def call(*args, **more):
        if os.path.exists(os.path.join(os.path.dirname(sys.argv[1]), "without-" + name)):
            raise OSError(number, os.strerror(number))
        return real(*args, **more)
    setattr(module, name, call)
refuse(os, "memfd_create", errno.EMFILE)
refuse(os, "pidfd_open", errno.ENOMEM)
refuse(socket, "socketpair", errno.EMFILE)
refuse(subprocess, "_fork_exec", errno.EAGAIN)
"""
CALLS = ("memfd_create", "pidfd_open", "socketpair", "_fork_exec")


def kill_worker(rig: Rig, worker: int = 0, number: int = signal.SIGKILL) -> int:
    pid: int = rig.page(worker)["pid"]
    os.kill(pid, number)
    return pid


def test_a_worker_that_dies_again_and_again_begins_fresh_and_more_slowly(rig: Rig) -> None:
    """What it remembers may be what kills it: the agent is told that it is lost, and tells it everything."""
    rig.meet_agent()
    rig.hear("worker_up")
    moved = 0
    delays: list[float] = []
    while len(delays) < 5:
        kill_worker(rig)
        killed = time.monotonic()
        if rig.hear("worker_moved", "worker_lost")["t"] == "worker_lost":
            rig.hear("worker_up")
            delays.append(time.monotonic() - killed)
        else:
            moved += 1
        assert moved < 300, "it was never given up"  # only a life of less than 0.1 s counts: a busy machine has few
    assert moved >= 4
    assert delays[-1] >= 0.08


def children(rig: Rig) -> dict[str, int]:
    """Of the supervisor: pid by name. What has begun to start has none of ours yet."""
    found = {}
    for pid in Path(f"/proc/{rig.process.pid}/task/{rig.process.pid}/children").read_text().split():
        with contextlib.suppress(OSError):
            found[Path(f"/proc/{pid}/comm").read_text().strip()] = int(pid)
    return found


def wait_for_spare(rig: Rig) -> int:
    wait_until(lambda: "zr-spare" in children(rig))
    return children(rig)["zr-spare"]


def held_by(rig: Rig) -> tuple[int, int]:
    """Descriptors and children, dead ones too, of the supervisor."""
    folder = Path(f"/proc/{rig.process.pid}")
    pids = (folder / "task" / str(rig.process.pid) / "children").read_text().split()
    return len(list((folder / "fd").iterdir())), len(pids)


@contextlib.contextmanager
def playing(rig: Rig, worker: int = 0) -> Iterator[tuple[int, socket.socket]]:
    """A stream of worker `worker`: its ingress port and its player's socket."""
    first = free_ports(8)
    answer = rig.open_ingress(ports=(first, first + 7), worker=worker)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as player:
        player.bind(("127.0.0.1", 0))
        player.settimeout(20)
        records = [
            encode("stream_open", stream=0, local=1, epoch=1),
            encode("stream_track", stream=0, track=0, format=codec("opus") << 8 | 96 << 16, clock_rate=48000),
            encode("ingress_bind", ingress=0, stream=0, learn=1),
            encode("sub_add", sub=0, stream=0, tracks=1, layers=0xFFFF, addr=Address(*player.getsockname())),
        ]
        rig.tell({"t": "post", "worker": worker, "records": records})
        wait_until(lambda: rig.page(worker)["stats"]["subs"] == 1)
        yield answer["port"], player


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS])
def test_a_successor_forwards_what_waited_in_the_sockets_without_being_told_anything(
    rig: Rig, number: signal.Signals
) -> None:
    rig.meet_agent()
    rig.hear("worker_up")
    with playing(rig) as (port, player), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as publisher:
        to = ("127.0.0.1", port)
        publisher.sendto(rtp(0), to)
        assert player.recv(2000) == rtp(0)
        kill_worker(rig, number=number)
        for seq in range(1, 20):
            publisher.sendto(rtp(seq), to)
        assert [player.recv(2000) for _ in range(1, 20)] == [rtp(seq) for seq in range(1, 20)]
        rig.hear("worker_moved")
        wait_until(lambda: rig.page()["ledgers"] == {"link": 0, "media": 0, "fan": 0, "egress": 0})
        page = rig.page()
        assert page["stats"]["replayed"] == 4
        assert (page["stats"]["streams"], page["stats"]["subs"]) == (1, 1)


def test_a_worker_that_stands_still_is_killed_and_replaced(rig: Rig) -> None:
    rig.meet_agent()
    rig.hear("worker_up")
    with playing(rig) as (port, player), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as publisher:
        pid = kill_worker(rig, number=signal.SIGSTOP)
        stopped = time.monotonic()
        publisher.sendto(rtp(1), ("127.0.0.1", port))
        assert player.recv(2000) == rtp(1)
        assert time.monotonic() - stopped >= 0.2
        wait_until(lambda: gone(pid))
    assert "hangs for" in rig.log.read_text()


def test_nothing_is_left_behind_by_workers_that_died(tmp_path: Path) -> None:
    rig = Rig(tmp_path, workers=2)
    rig.meet_agent()
    rig.hear("worker_up")
    rig.hear("worker_up")
    try:
        with playing(rig) as (port, player), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as publisher:
            wait_until(lambda: held_by(rig)[1] == 4)  # agent, two workers, the spare
            before, other = held_by(rig), rig.page(1)["pid"]
            for seq in range(4):
                wait_until(lambda: held_by(rig) == before)
                kill_worker(rig)
                publisher.sendto(rtp(seq), ("127.0.0.1", port))
                assert player.recv(2000) == rtp(seq)
                rig.hear("worker_moved")
            wait_until(lambda: held_by(rig) == before)
            assert rig.page(1)["pid"] == other
            worker = Path(f"/proc/{rig.page()['pid']}/fd")
            own = [link for link in map(os.readlink, worker.iterdir()) if "zr-chan" in link or "zr-stat" in link]
            assert sorted(own) == ["/memfd:zr-chan-0 (deleted)", "/memfd:zr-stat-0 (deleted)"]
            rig.tell({"t": "close_ingress", "worker": 0, "slot": 0})
            wait_until(lambda: held_by(rig)[0] == before[0] - 1)
    finally:
        rig.close()


def test_a_successor_that_stands_still_before_it_is_up_is_killed_and_replaced(rig: Rig) -> None:
    """The agent takes it for up: nobody else would notice."""
    rig.meet_agent()
    rig.hear("worker_up")
    with playing(rig) as (port, player), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as publisher:
        spare = wait_for_spare(rig)
        os.kill(spare, signal.SIGSTOP)
        kill_worker(rig)
        publisher.sendto(rtp(1), ("127.0.0.1", port))
        assert player.recv(2000) == rtp(1)
        rig.hear("worker_moved")
        assert rig.page()["pid"] != spare
    said = re.search(rf"WARN zr-worker-0 \(pid {spare}\) is not up for (\d+) ms: state T", rig.log.read_text())
    assert said is not None
    assert 1000 <= int(said[1]) < 9000, "it had been started already"


@pytest.mark.parametrize("call", CALLS)
def test_who_cannot_be_started_is_tried_again_and_nobody_else_is_touched(tmp_path: Path, call: str) -> None:
    refused = tmp_path / f"without-{call}"
    rig = Rig(tmp_path, workers=2, run=REFUSED + RUN)
    try:
        agent = rig.meet_agent()["pid"]
        for _ in range(2):
            rig.hear("worker_up")
        spare, other = wait_for_spare(rig), rig.page(1)["pid"]
        with playing(rig, 1) as (port, player), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as publisher:
            before = held_by(rig)
            refused.touch()
            os.kill(spare, signal.SIGKILL)
            wait_until(lambda: "WARN no spare: " in rig.log.read_text())
            kill_worker(rig)
            assert rig.hear("worker_lost", "worker_moved") == {"t": "worker_lost", "worker": 0}
            os.kill(agent, signal.SIGKILL)
            for name in ("zr-worker-0", "zr-agent"):
                wait_until(lambda name=name: rig.log.read_text().count(f"WARN {name} cannot be started") >= 2)
            assert rig.log.read_text().count("WARN no spare: ") == 1
            # Each of the three that are missing had a pidfd and a socket; no try has left one more of anything.
            wait_until(lambda: held_by(rig) == (before[0] - 6, before[1] - 3))
            publisher.sendto(rtp(1), ("127.0.0.1", port))
            assert player.recv(2000) == rtp(1)
            refused.unlink()
            rig.meet_agent()
            assert sorted(rig.hear("worker_up")["worker"] for _ in range(2)) == [0, 1]
            assert rig.page(1)["pid"] == other
            wait_until(lambda: held_by(rig) == before)
        assert rig.end() == 0
    finally:
        rig.close()


@pytest.mark.parametrize("call", CALLS)
def test_a_relay_that_cannot_start_anybody_at_first_says_so_and_ends(tmp_path: Path, call: str) -> None:
    (tmp_path / f"without-{call}").touch()
    rig = Rig(tmp_path, run=REFUSED + RUN)
    try:
        assert rig.process.wait(20) == 71
        lines = rig.log.read_text().splitlines()
        assert [line for line in lines if "not encrypted" not in line] == [lines[-1]]
        assert lines[-1].startswith("the relay cannot start: ")
    finally:
        rig.close()


def test_a_socket_that_was_closed_is_not_given_to_the_successor(rig: Rig) -> None:
    rig.meet_agent()
    rig.hear("worker_up")
    with playing(rig) as (port, _):
        rig.tell({"t": "close_ingress", "worker": 0, "slot": 0})
        other = free_ports(8)
        rig.open_ingress(ports=(other, other + 7), worker=1)  # answered, so what was said before is done
        rig.tell({"t": "post", "worker": 0, "records": [encode("ingress_close", ingress=0)]})
        kill_worker(rig)
        rig.hear("worker_moved")
        # A death is heard before the kernel has closed what the dead one held: its own copy may live some
        # milliseconds longer than the news of it. A copy of the successor's would stay.
        wait_until(lambda: is_free(port))


def is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


MS = 1_000_000


@pytest.mark.parametrize(
    ("state", "cpu_ms_per_look", "hangs"),
    [
        ("S", 0, True),
        ("T", 0, True),
        ("D", 0, True),
        ("R", 50, True),
        ("R", 5, False),
        ("t", 0, False),
        ("?", 0, False),
    ],
)
def test_who_hangs_is_who_could_have_run(
    monkeypatch: pytest.MonkeyPatch, state: str, cpu_ms_per_look: int, hangs: bool
) -> None:
    cpu = 0
    monkeypatch.setattr("relay.watchdog.state_of", lambda pid: state)
    monkeypatch.setattr("relay.watchdog.cpu_ns", lambda pid: cpu)
    dog, now = Watchdog(), 10_000 * MS
    assert dog.look(now)
    beat, found = now, []
    for _ in range(10):
        now += 50 * MS
        cpu += cpu_ms_per_look * MS
        assert dog.look(now)
        found.append(dog.hangs(0, 1, beat, now))
    assert any(found) == hangs
    assert not any(found[: 8 if state == "S" else 4]), "not before 450 ms asleep, 250 ms else"
    assert not dog.hangs(0, 1, now, now), "its heartbeat moves again"


def test_nobody_is_judged_by_a_supervisor_that_was_not_let_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.watchdog.state_of", lambda pid: "T")
    dog, now = Watchdog(), 10_000 * MS
    assert dog.look(now)
    assert not dog.look(now + 49 * MS)
    late = now + 5000 * MS
    assert dog.look(late)
    assert not dog.hangs(0, 1, now, late)
    for at in range(50, 250, 50):
        assert dog.look(late + at * MS)
        assert not dog.hangs(0, 1, now, late + at * MS)
    assert dog.look(late + 250 * MS)
    assert dog.hangs(0, 1, now, late + 250 * MS)
