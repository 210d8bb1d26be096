"""Bad input, S06 to S09: what comes over Unix sockets, between a relay's processes and from outside.

A relay has three kinds: the supervisor's to each worker (descriptors, csrc/net/zr_fdpass.h), the supervisor's to the
agent (msgpack maps, relay/ctl.py), and the API's, which has a path. tests/c/udp_test.c throws S06 and S07 at the first.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import stat
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgpack
import pytest

from relay import _core
from relay.dev import DevMesh
from relay.mailbox import WAITING_MAX, Mailbox
from relay.units import Address
from tests.py.test_supervisor import Rig as Supervised
from tests.py.test_udp_loopback import Rig as Worker
from tests.py.test_udp_loopback import rtp, wait_until

pytestmark = pytest.mark.net

# An agent that passes what it is given on to the supervisor as it is, and says nothing else.
RAW_AGENT = """
import msgpack, os, select, socket, sys
with os.fdopen(int(sys.argv[2]), "rb") as file:
    file.seek(0)
    boot = msgpack.unpackb(file.read())
ctl = socket.socket(fileno=boot["ctl"])
test = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
test.connect(boot["config_path"])
test.send(msgpack.packb({"t": "hello", "pid": os.getpid()}))
while True:
    for ready in select.select([ctl, test], [], [])[0]:
        data, fds, _, _ = socket.recv_fds(ready, 100_000, 32)
        if not data:
            sys.exit(0)
        if ready is ctl:
            test.send(data)
        else:
            socket.send_fds(ctl, [data], fds)
"""
GOOD = struct.pack("<IHH", *_core.FDPASS, 0)
MAGIC, INGRESS = _core.FDPASS


@pytest.fixture
def worker() -> Iterator[Worker]:
    with contextlib.ExitStack() as stack:
        yield Worker(stack)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Supervised]:
    rig = Supervised(tmp_path_factory.mktemp("unix"), agent=RAW_AGENT)
    try:
        yield rig
    finally:
        rig.close()


@pytest.fixture
def supervised(running: Supervised) -> Supervised:
    """Its agent is the test's, its worker is up."""
    if running.agent is None:
        running.meet_agent()
        running.hear("worker_up")
    return running


def open_fds(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def udp() -> int:
    return int(_core.udp_open(Address("127.0.0.1", 0).pack()))


NOT_FOR_A_WORKER: dict[str, tuple[bytes, int, Callable[[], int]]] = {
    "S06-short": (GOOD[:7], 1, udp),
    "S06-long": (GOOD.ljust(70_000, b"\0"), 1, udp),
    "S06-magic": (struct.pack("<IHH", MAGIC + 1, INGRESS, 0), 1, udp),
    "S06-unknown": (struct.pack("<IHH", MAGIC, 77, 0), 1, udp),
    "S07-none": (GOOD, 0, udp),
    "S07-17": (GOOD, 17, udp),
    "S07-a_file": (GOOD, 1, lambda: os.memfd_create("test")),
    "S07-a_stream": (GOOD, 1, lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM).detach()),
}


@pytest.mark.parametrize("case", NOT_FOR_A_WORKER)
def test_a_worker_closes_what_came_and_the_connection_counts_it_and_forwards_on(case: str, worker: Worker) -> None:
    message, count, make = NOT_FOR_A_WORKER[case]
    worker.open_stream()
    before = open_fds(os.getpid())
    fds = [make() for _ in range(count)]
    socket.send_fds(worker.fdpass, [message], fds)
    for fd in fds:
        os.close(fd)
    wait_until(lambda: worker.page.stats()["fdpass_refused"] == 1)
    with pytest.raises(BrokenPipeError):
        worker.fdpass.send(GOOD)
    assert open_fds(os.getpid()) == before
    worker.publisher.sendto(rtp(1, 10), ("127.0.0.1", worker.ingress))
    assert worker.received(1) == [rtp(1, 10)]


NOT_FOR_THE_SUPERVISOR = {
    "S06-short": b"\x81",
    "S06-long": msgpack.packb({"t": "ready", "more": bytes(70_000)}),
    "S06-magic": b"GET / HTTP/1.1\r\n\r\n",
    "S06-no_map": msgpack.packb([1, 2]),
    "S06-unknown": msgpack.packb({"t": "nonsense"}),
    "S06-no_such_worker": msgpack.packb({"t": "replace_worker", "worker": 99}),
    "S06-no_such_port": msgpack.packb(
        {"t": "open_ingress", "r": 1, "worker": 0, "slot": 0, "address": "127.0.0.1", "port": 70_000, "ports": [1, 2]}
    ),
}


@pytest.mark.parametrize("case", NOT_FOR_THE_SUPERVISOR)
def test_an_agent_that_sends_nonsense_is_replaced_and_the_workers_stay(case: str, supervised: Supervised) -> None:
    workers = children(supervised.process.pid, "zr-worker")
    assert workers
    assert supervised.agent is not None
    said = supervised.log.read_text().count("nonsense (S06)")
    supervised.agent.send(NOT_FOR_THE_SUPERVISOR[case])
    supervised.meet_agent()  # another one: each comes with a connection of its own
    supervised.hear("worker_up")
    assert children(supervised.process.pid, "zr-worker") == workers
    assert supervised.log.read_text().count("nonsense (S06)") == said + 1
    assert "Traceback" not in supervised.log.read_text()


def test_s07_descriptors_that_nobody_asked_for_do_not_stay_with_the_supervisor(supervised: Supervised) -> None:
    before = open_fds(supervised.process.pid)
    assert supervised.agent is not None
    fds = [udp() for _ in range(17)]
    socket.send_fds(supervised.agent, [msgpack.packb({"t": "close_ingress", "worker": 0, "slot": 0})], fds)
    for fd in fds:
        os.close(fd)
    answered = supervised.open_ingress(ports=(30_000, 65_000))  # behind it: it has been read
    assert answered["port"]
    supervised.tell({"t": "close_ingress", "worker": 0, "slot": 0})
    wait_until(lambda: open_fds(supervised.process.pid) <= before)


def children(pid: int, name: str) -> list[int]:
    """Those of a process whose name begins so."""
    pids = [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return sorted(pid for pid in pids if Path(f"/proc/{pid}/comm").read_text().startswith(name))


STRANGER = """
import os, socket, sys
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
ours = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
ours.settimeout(5)
try:
    ours.connect(sys.argv[1])
except PermissionError:
    sys.exit(13)
ours.send(b"GET /v1/version HTTP/1.1\\r\\nHost: relay\\r\\nConnection: close\\r\\n\\r\\n")
sys.exit(0 if ours.recv(12) == b"HTTP/1.1 200" else 1)
"""


async def test_s08_another_users_connection_to_the_api_socket_is_refused_before_anything_is_read() -> None:
    """Not root, we cannot be somebody else: then it is its owner from whom the right is taken."""
    with tempfile.TemporaryDirectory(prefix="zr-s08-") as folder:
        os.chmod(folder, 0o755)
        async with DevMesh(1) as mesh:
            path = f"{folder}/api"
            os.link(
                mesh.relays[0].config_path.parent / "bj-1" / "api.sock", path
            )  # where a stranger may go: the socket's own mode decides
            assert stat.S_IMODE(os.stat(path).st_mode) == 0o660
            assert os.stat(path).st_uid == os.geteuid()
            if os.geteuid() != 0:
                os.chmod(path, 0o066)
            command = [sys.executable, "-c", STRANGER, path]
            refused = await to_end(command)
            os.chmod(path, 0o666)
            let_in = await to_end(command)
    assert (refused, let_in) == (13, 0)


async def to_end(command: list[str]) -> int:
    import asyncio

    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, timeout=30, check=False)
    return done.returncode


def test_s09_a_reader_that_is_slow_gets_all_of_it_in_order_and_one_that_never_reads_is_given_up() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    poll = select.poll()
    with ours, theirs:
        mailbox = Mailbox(poll)
        mailbox.open(ours)
        said = 0
        while mailbox.say({"n": said}):
            said += 1
            assert said < 100_000
        assert len(mailbox) == WAITING_MAX == 64
        assert said > WAITING_MAX  # the socket's own buffer holds some too
        assert poll.poll(0) == []  # neither room to write, nor is anything read meanwhile
        theirs.send(b"asks for more")
        assert poll.poll(0) == []
        heard: list[int] = []
        while len(heard) < said:
            heard.append(msgpack.unpackb(theirs.recv(100))["n"])
            if poll.poll(0):
                mailbox.flush()
        assert heard == list(range(said))
        assert poll.poll(0) == [(ours.fileno(), select.POLLIN)]
        mailbox.close()
        assert all(mailbox.say({"n": 0}) for _ in range(2 * WAITING_MAX))  # for nobody
        assert len(mailbox) == 0


def test_s09_an_agent_that_reads_nothing_is_asked_nothing_more_and_the_relay_goes_on(supervised: Supervised) -> None:
    agent = supervised.agent
    assert agent is not None
    ask = {"t": "open_ingress", "worker": 5, "slot": 0, "address": "127.0.0.1", "port": 0, "ports": [1, 2]}
    agent.settimeout(0.5)
    asked = 0
    with contextlib.suppress(TimeoutError):  # until every buffer on the way there and back is full
        for asked in range(1, 20_000):
            agent.send(msgpack.packb({**ask, "r": asked}))
    assert asked < 19_999
    memory = rss_kib(supervised.process.pid)
    time.sleep(0.3)
    assert rss_kib(supervised.process.pid) - memory < 512
    agent.settimeout(10)
    answers = [supervised.hear("ingress")["r"] for _ in range(asked - 1)]
    assert answers == list(range(1, asked))


def rss_kib(pid: int) -> int:
    text = Path(f"/proc/{pid}/status").read_text()
    return int(text[text.index("VmRSS:") :].split()[1])
