"""The supervisor with real workers and an agent that does what the test says."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest

from relay import _core
from relay.commands import encode
from relay.dev import DevMesh, DevRelay, free_ports
from relay.hostinfo import udp_holder
from relay.sockets import StartError, lock_runtime_dir, remove_stale_socket
from relay.units import Address
from tests.py.badinput_cli import zrelay

pytestmark = pytest.mark.net

LIFE_AT = 64  # zr_stat_page.life

# Passes maps between the test (a listening socket whose path is the boot map's config_path) and the supervisor.
AGENT = """
import msgpack, os, select, socket, sys
from relay import _core
with os.fdopen(int(sys.argv[2]), "rb") as file:
    file.seek(0)
    boot = msgpack.unpackb(file.read())
ctl = socket.socket(fileno=boot["ctl"])
test = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
test.connect(boot["config_path"])
pages = [_core.StatPage(w["page"], streams_max=boot["streams_max"]) for w in boot["workers"]]
chans = [_core.Channel(w["chan"]) for w in boot["workers"]]
test.send(msgpack.packb({"t": "hello", "pid": os.getpid(), "boot_id": boot["boot_id"], "link": boot["link"]}))
while True:
    for ready in select.select([ctl, test], [], [])[0]:
        data = ready.recv(65536)
        if not data:
            sys.exit(0)
        message = msgpack.unpackb(data)
        if ready is ctl:
            test.send(data)
            if message["t"] == "stop":
                sys.exit(0)
        elif message["t"] == "post":
            for record in message["records"]:
                assert chans[message["worker"]].post(record)
            if chans[message["worker"]].wake_needed():
                os.eventfd_write(boot["workers"][message["worker"]]["wake"], 1)
        elif message["t"] == "page":
            page = pages[message["worker"]]
            test.send(msgpack.packb({"t": "page", "pid": page.pid, "stats": page.stats(), "drops": page.drops(),
                                     "ledgers": page.ledgers(), "generation": page.generation}))
        else:
            ctl.send(data)
"""
RUN = """
import sys
from relay.supervisor import StartError, Supervisor, SupervisorConf
from relay.units import Address
runtime_dir, data, workers, path, agent = sys.argv[1:]
conf = SupervisorConf(runtime_dir, Address.parse(data), int(workers), streams_max=16, config_path=path,
                      insecure_plaintext=True,
                      die_with_parent=True, agent_command=(sys.executable, "-c", agent))
try:
    sys.exit(Supervisor(conf).run())
except StartError as error:
    print(error, file=sys.stderr)
    sys.exit(error.exit_code)
"""


class Rig:
    """A supervisor process and the socket on which its agents report."""

    def __init__(self, folder: Path, workers: int = 1, agent: str = AGENT, run: str = RUN) -> None:
        self.folder, self.workers, self.agent_code, self.run_code = folder, workers, agent, run
        self.port = free_ports(1 + workers)
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.listener.bind(str(folder / f"{time.monotonic_ns()}.sock"))
        self.listener.listen()
        self.listener.settimeout(20)
        self.log = folder / f"log-{self.port}"
        self.process = self.start(self.port)
        self.agent: socket.socket | None = None

    def start(self, port: int) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-c", self.run_code, str(self.folder / "run"), f"127.0.0.1:{port}",
                 str(self.workers), self.listener.getsockname(), self.agent_code],
                stderr=log,
            )  # fmt: skip

    def meet_agent(self) -> dict[str, Any]:
        if self.agent is not None:
            self.agent.close()
        self.agent, _ = self.listener.accept()
        self.agent.settimeout(20)
        hello = self.hear("hello")
        self.tell({"t": "ready"})
        return hello

    def hear(self, *kinds: str) -> dict[str, Any]:
        assert self.agent is not None
        while True:
            message: dict[str, Any] = msgpack.unpackb(self.agent.recv(65536))
            if message["t"] in kinds:
                return message

    def tell(self, message: dict[str, Any]) -> None:
        assert self.agent is not None
        self.agent.send(msgpack.packb(message))

    def page(self, worker: int = 0) -> dict[str, Any]:
        self.tell({"t": "page", "worker": worker})
        return self.hear("page")

    def open_ingress(self, *, port: int = 0, ports: tuple[int, int], slot: int = 0, worker: int = 0) -> dict[str, Any]:
        self.tell({
            "t": "open_ingress", "r": 7, "worker": worker, "slot": slot, "address": "127.0.0.1", "port": port,
            "ports": list(ports),
        })  # fmt: skip
        answer = self.hear("ingress")
        assert answer["r"] == 7
        return answer

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(20)

    def close(self) -> None:
        if self.process.poll() is None:
            self.end()
        if self.agent is not None:
            self.agent.close()
        self.listener.close()


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path)
    yield rig
    rig.close()


def gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


def test_a_killed_worker_is_replaced_on_the_same_page_and_port(rig: Rig) -> None:
    rig.meet_agent()
    assert rig.hear("worker_up") == {"t": "worker_up", "worker": 0, "generation": 1, "epoch": 1}
    first = rig.page()["pid"]
    os.kill(first, signal.SIGKILL)
    assert rig.hear("worker_moved") == {"t": "worker_moved", "worker": 0, "generation": 2, "epoch": 2}
    second = rig.page()
    assert second["pid"] != first
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.sendto(b"", ("127.0.0.1", rig.port + 1))
        wait_until(lambda: rig.page()["drops"]["short"] == 1)
    assert rig.end() == 0
    assert gone(second["pid"])


def life_word(pid: int) -> int:
    """A descriptor on the page of the worker that runs there, for pread and pwrite."""
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            if os.readlink(fd).startswith("/memfd:zr-stat-"):
                return os.open(fd, os.O_RDWR)
    raise AssertionError("no page")


def test_a_death_is_said_with_its_signal_and_leaves_no_zombie(rig: Rig) -> None:
    rig.meet_agent()
    rig.hear("worker_up")
    pid = rig.page()["pid"]
    os.kill(pid, signal.SIGSEGV)
    rig.hear("worker_moved")
    wait_until(lambda: gone(pid))
    wait_until(lambda: f"zr-worker-0 (pid {pid}) ended: signal 11" in rig.log.read_text())


def test_rtp_flows_from_an_ingress_that_the_agent_asked_for_to_a_subscriber(rig: Rig) -> None:
    rig.meet_agent()
    rig.hear("worker_up")
    first = free_ports(4)
    answer = rig.open_ingress(ports=(first, first + 3))
    assert first <= answer["port"] <= first + 3
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as player:
        player.bind(("127.0.0.1", 0))
        player.settimeout(20)
        records = [
            encode("stream_open", stream=0, local=1, epoch=1),
            encode("stream_track", stream=0, track=0, format=codec("opus") << 8 | 96 << 16, clock_rate=48000),
            encode("ingress_bind", ingress=0, stream=0, learn=1),
            encode("sub_add", sub=0, stream=0, tracks=1, layers=0xFFFF, addr=Address(*player.getsockname())),
        ]
        rig.tell({"t": "post", "worker": 0, "records": records})
        wait_until(lambda: rig.page()["stats"]["subs"] == 1)
        packets = [rtp(seq) for seq in range(50)]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as publisher:
            for packet in packets:
                publisher.sendto(packet, ("127.0.0.1", answer["port"]))
        assert [player.recv(2000) for _ in packets] == packets
    wait_until(lambda: set(rig.page()["ledgers"].values()) == {0})  # what is sent is counted behind the sending
    page = rig.page()
    assert page["stats"]["media_accepted"] == 50
    assert page["stats"]["tx_gso_off"] == 0  # also from the socket of both families


def test_an_ingress_that_cannot_be_opened_is_answered_with_the_reason(rig: Rig) -> None:
    rig.meet_agent()
    rig.hear("worker_up")
    first = free_ports(2)
    got = {rig.open_ingress(ports=(first, first + 1), slot=slot)["port"] for slot in range(2)}
    assert got == {first, first + 1}
    assert "in use" in rig.open_ingress(ports=(first, first + 1), slot=2)["error"]
    assert "in use" in rig.open_ingress(port=first, ports=(first, first + 1), slot=2)["error"]
    os.kill(rig.page()["pid"], signal.SIGSTOP)  # takes nothing; must not hang the supervisor
    os.kill(rig.page()["pid"], signal.SIGCONT)
    rig.tell({"t": "open_ingress", "r": 7, "worker": 9, "slot": 0, "address": "127.0.0.1", "port": 0, "ports": [1, 2]})
    assert rig.hear("ingress")["error"] == "worker 9 is down"


def test_a_killed_agent_is_replaced_with_a_new_boot_id_and_told_who_is_up(rig: Rig) -> None:
    first = rig.meet_agent()
    rig.hear("worker_up")
    worker = rig.page()["pid"]
    os.kill(first["pid"], signal.SIGKILL)
    second = rig.meet_agent()
    assert second["boot_id"] != first["boot_id"]
    assert rig.hear("worker_up")["generation"] == 1
    assert rig.page()["pid"] == worker


def test_two_supervisors_on_one_runtime_dir_are_refused(rig: Rig) -> None:
    rig.meet_agent()
    second = rig.start(free_ports(2))
    assert second.wait(20) == 71
    assert f"already running, pid {rig.process.pid}" in rig.log.read_text()
    assert rig.end() == 0


def test_a_busy_port_names_its_holder(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", "import socket; s = socket.socket(type=socket.SOCK_DGRAM); s.bind(('127.0.0.1', 0)); "
         "print(s.getsockname()[1], flush=True); input()"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert holder.stdout is not None
        port = int(holder.stdout.readline())
        found = udp_holder(port)
        assert found is not None
        assert found.pid == holder.pid
        done = subprocess.run(
            [sys.executable, "-c", RUN, str(tmp_path / "run"), f"127.0.0.1:{port}", "1", "", AGENT],
            capture_output=True, text=True, timeout=40, check=False,
        )  # fmt: skip
        assert done.returncode == 71
        assert f"UDP 127.0.0.1:{port} is in use by pid {holder.pid}" in done.stderr
        assert "Traceback" not in done.stderr
    finally:
        holder.communicate(b"\n")


def test_a_signal_ends_everything_and_a_storm_of_them_too(tmp_path: Path) -> None:
    for numbers in ([signal.SIGTERM], [signal.SIGINT] * 100, [signal.SIGTERM, signal.SIGTERM]):
        rig = Rig(tmp_path, workers=2)
        agent = rig.meet_agent()["pid"]
        rig.hear("worker_up")
        rig.hear("worker_up")
        pids = [agent, rig.page(0)["pid"], rig.page(1)["pid"]]
        for number in numbers:
            rig.process.send_signal(number)
        assert rig.process.wait(20) == 0
        assert all(map(gone, pids))
        rig.close()


def test_an_agent_that_cannot_start_ends_the_relay_with_its_code(tmp_path: Path) -> None:
    for code, want in ((71, 71), (1, 70)):
        rig = Rig(tmp_path, agent=f"import sys; sys.exit({code})")
        assert rig.process.wait(20) == want
        rig.close()


def test_a_runtime_dir_that_cannot_be_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(tmp_path / "file" / "run"), f"127.0.0.1:{free_ports(2)}", "1", "", AGENT],
        capture_output=True, text=True, timeout=40, check=False,
    )  # fmt: skip
    assert done.returncode == 71
    assert done.stderr.count("\n") == 1
    assert "runtime_dir" in done.stderr


def test_a_runtime_dir_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "run"
    with lock_runtime_dir(str(path)):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
        assert (path / "lock").read_text() == f"{os.getpid()}\n"
        with pytest.raises(StartError, match=f"already running, pid {os.getpid()} ") as refused:
            lock_runtime_dir(str(path))
        assert refused.value.exit_code == 71
    lock_runtime_dir(str(path)).close()


@pytest.mark.parametrize("mode", [0o770, 0o702, 0o1777])
def test_a_runtime_dir_that_others_may_write_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "run"
    path.mkdir()
    path.chmod(mode)
    with pytest.raises(StartError, match=f"mode {mode:03o}.: chmod go-w {path}") as refused:
        lock_runtime_dir(str(path))
    assert refused.value.exit_code == 77
    assert list(path.iterdir()) == []


def test_a_runtime_dir_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "run"
    path.mkdir(0o700)
    owner = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    with pytest.raises(StartError, match=f"belongs to user {owner}, not to {owner + 1}") as refused:
        lock_runtime_dir(str(path))
    assert refused.value.exit_code == 77


@pytest.mark.parametrize("name", ["run", "run/", "run/lock"])
def test_a_symbolic_link_is_not_followed_to_the_lock(tmp_path: Path, name: str) -> None:
    (tmp_path / "dir").mkdir(0o700)
    (tmp_path / "file").write_text("precious")
    if name == "run/lock":
        (tmp_path / "run").mkdir(0o700)
        (tmp_path / name).symlink_to(tmp_path / "file")
    else:
        (tmp_path / "run").symlink_to(tmp_path / "dir")
    with pytest.raises(StartError, match="is a symbolic link") as refused:
        lock_runtime_dir(f"{tmp_path}/{name.removesuffix('lock')}")
    assert refused.value.exit_code == 77
    assert (tmp_path / "file").read_text() == "precious"
    assert list((tmp_path / "dir").iterdir()) == []


def test_only_a_socket_makes_room_for_the_api_socket(tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    remove_stale_socket(str(path))
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    remove_stale_socket(str(path))
    assert not path.exists()


@pytest.mark.parametrize("kind", ["file", "directory", "link to a socket"])
def test_an_agent_whose_socket_path_is_something_else_leaves_it_alone(tmp_path: Path, kind: str) -> None:
    found = DevMesh(1).relays[0]
    relay = DevRelay("odd", tmp_path, found.data, found.api, found.ingress_ports)
    relay.config_path.write_text(relay.toml() + '[log]\nlevel = "error"\n')
    path = tmp_path / "odd" / "api.sock"
    path.parent.mkdir(0o700, exist_ok=True)
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(tmp_path / "other"))
        if kind == "file":
            path.write_text("precious")
        elif kind == "directory":
            path.mkdir()
        else:
            path.symlink_to(tmp_path / "other")
        before = os.lstat(path).st_ino
        done = zrelay("run", "-c", str(relay.config_path))
    assert done.returncode == 71
    assert f"{path} is there and is no socket: remove it, or set listen.socket" in done.stderr
    assert "Traceback" not in done.stderr
    assert os.lstat(path).st_ino == before
    said = [line for line in done.stderr.splitlines() if "not encrypted" in line]  # whatever [log] level is
    assert said == ["zrelay: WARN links are not encrypted: insecure_plaintext = true, loopback only (ZR1001)"]


def test_plaintext_is_said_once_at_every_start(rig: Rig) -> None:
    rig.meet_agent()
    rig.hear("worker_up")
    assert rig.log.read_text().count("WARN links are not encrypted") == 1


def test_workers_go_on_without_a_supervisor_and_end_by_the_stop_signal(rig: Rig) -> None:
    rig.meet_agent()
    rig.hear("worker_up")
    page = rig.page()
    rig.process.kill()
    rig.process.wait()
    time.sleep(0.2)
    assert not gone(page["pid"])
    pidfd = os.pidfd_open(page["pid"])
    signal.pidfd_send_signal(pidfd, signal.SIGTERM)
    assert select.select([pidfd], [], [], 20)[0] == [pidfd]
    os.close(pidfd)


def codec(word: str) -> int:
    return [row[0] for row in _core.CODECS].index(word)


def rtp(seq: int, size: int = 160) -> bytes:
    header = b"\x80\x60" + seq.to_bytes(2, "big") + (seq * 960).to_bytes(4, "big") + b"\0\0\0\7"
    return header + bytes([seq & 255]) * size


def wait_until(condition: Any, seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "did not happen in time"
        time.sleep(0.01)
