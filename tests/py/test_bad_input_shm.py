"""Bad input, S01 to S05 and S10: what a neighbour may have written into shared memory.

S02 and S05 speak of descriptors that point into a pool of packets. Ours are whole records by value: a record's numbers
are checked by the command they are for (S02), and no two rings can name one buffer (S05), but one packet:
tests/c/two_rings_test.c. tests/c/hostile_test.c writes at random. Left of them here: a record with numbers out of range
is refused, counted, and the next one holds.
"""

from __future__ import annotations

import mmap
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator

import msgpack
import pytest

from relay import __version__, _core
from relay.commands import decode_event, encode
from relay.errors import CoreError
from relay.handles import WorkerHandle

SLOTS = 4
RECORD = 64
LINE = 64
# zr_chan_mem and zr_spsc_mem: csrc/ring/*.h
MAGIC, VERSION, RECORD_BYTES = 0, 8, 16
RINGS = 3 * LINE
COMMANDS, EVENTS = RINGS, RINGS + 3 * LINE + SLOTS * RECORD
TAIL, HEAD, MASK, SLOT_BYTES = 0, LINE, 2 * LINE, 2 * LINE + 4


class Neighbour:
    """A channel's memory in the hands of somebody who has it mapped too."""

    def __init__(self, slots: int = SLOTS) -> None:
        size = _core.Channel.bytes_for(slots)
        self.fd = _core.shm_open("test", size)
        self.agent = _core.Channel(self.fd, slots=slots, create=True)
        self.memory = mmap.mmap(self.fd, size)

    def write(self, at: int, value: int) -> None:
        self.memory[at : at + 4] = struct.pack("<I", value & 0xFFFFFFFF)


@pytest.fixture
def neighbour() -> Iterator[Neighbour]:
    it = Neighbour()
    yield it
    it.memory.close()
    os.close(it.fd)


@pytest.mark.parametrize(
    ("case", "tail"),
    [("S01", SLOTS + 1), ("S01", 1 << 31), ("S03", -1), ("S03", -SLOTS)],
    ids=["S01-one_beyond", "S01-far_beyond", "S03-one_back", "S03-a_lap_back"],
)
def test_a_tail_that_cannot_be_true_ends_the_reading_for_good(neighbour: Neighbour, case: str, tail: int) -> None:
    agent = neighbour.agent
    assert not agent.corrupt
    neighbour.write(EVENTS + TAIL, tail)
    assert agent.events() == []
    assert agent.corrupt
    neighbour.write(EVENTS + TAIL, 2)  # true again, but whose records are these?
    assert agent.events() == []
    assert agent.corrupt
    neighbour.write(EVENTS + TAIL, tail)
    with pytest.raises(CoreError, match="version"):  # and no successor takes it as it was
        _core.Channel(neighbour.fd, slots=SLOTS)


@pytest.mark.parametrize("head", [1, -SLOTS - 1, 1 << 31])
def test_a_head_that_cannot_be_true_ends_the_writing_for_good(neighbour: Neighbour, head: int) -> None:
    agent = neighbour.agent
    neighbour.write(COMMANDS + HEAD, head)
    assert not agent.post(encode("nop"))
    neighbour.write(COMMANDS + HEAD, 0)
    assert not agent.post(encode("nop"))
    assert agent.corrupt


@pytest.mark.parametrize("word", [MASK, SLOT_BYTES])
def test_sizes_written_over_are_seen_and_not_used(neighbour: Neighbour, word: int) -> None:
    agent = neighbour.agent
    neighbour.write(COMMANDS + word, 0xFFFFFFFF)
    neighbour.write(EVENTS + word, 0xFFFFFFFF)
    assert agent.corrupt
    assert [agent.post(encode("nop", seq=i)) for i in range(5)] == [True] * 4 + [False]  # by our own sizes
    assert len(neighbour.memory) == _core.Channel.bytes_for(SLOTS)


def test_s01_the_agent_says_which_worker_it_is() -> None:
    fds = {
        "chan": _core.shm_open("test", _core.Channel.bytes_for(4096)),
        "page": _core.shm_open("test", _core.StatPage.bytes_for(1)),
        "wake": os.eventfd(0, os.EFD_NONBLOCK),
    }
    _core.Channel(fds["chan"], create=True)
    _core.StatPage(fds["page"], streams_max=1, create=True)
    handle = WorkerHandle(0, fds, 1)
    assert handle.events(10) == []
    assert not handle.corrupt
    with mmap.mmap(fds["chan"], _core.Channel.bytes_for(4096)) as memory:
        at = RINGS + 3 * LINE + 4096 * RECORD + TAIL
        memory[at : at + 4] = struct.pack("<I", 5000)
    assert handle.events(10) == []
    assert handle.corrupt
    for fd in fds.values():
        os.close(fd)


def test_an_agent_wakes_its_worker_once_without_being_asked() -> None:
    """The one before it may have died between taking the sleeper's flag and writing the eventfd."""
    fds = {
        "chan": _core.shm_open("test", _core.Channel.bytes_for(4096)),
        "page": _core.shm_open("test", _core.StatPage.bytes_for(1)),
        "wake": os.eventfd(0, os.EFD_NONBLOCK),
    }
    _core.Channel(fds["chan"], create=True)
    _core.StatPage(fds["page"], streams_max=1, create=True)
    handle = WorkerHandle(0, fds, 1)
    handle.begin()
    handle.flush()
    assert os.eventfd_read(fds["wake"]) == 1
    handle.post(encode("nop"))
    handle.flush()
    with pytest.raises(BlockingIOError):
        os.eventfd_read(fds["wake"])
    for fd in fds.values():
        os.close(fd)


@pytest.mark.parametrize("case", ["S02"])
def test_a_record_with_numbers_out_of_range_is_refused_and_the_next_one_holds(case: str) -> None:
    fwd = _core.Forwarder(0, 1_000_000_000, streams_max=2)
    fwd.command(encode("stream_open", 1, stream=0xFFFFFFFF, local=1, epoch=1))
    fwd.command(struct.pack("<HHI", 0xFFFF, 0, 2).ljust(RECORD, b"\xff"))
    fwd.command(encode("stream_open", 3, stream=1, local=1, epoch=1))
    fwd.turn(1_000_000_000)
    done = {event.seq: event.rc for event in map(decode_event, fwd.events()) if event.op == "done"}
    assert done[1] < 0
    assert done[2] < 0
    assert done[3] == 0
    assert fwd.stats()["commands_failed"] == 2
    assert fwd.check()


@pytest.mark.parametrize(
    "word", [MAGIC, VERSION, RECORD_BYTES, EVENTS + MASK], ids=["magic", "version", "size", "ring"]
)
def test_s04_a_worker_refuses_a_channel_that_is_not_what_it_should_be(word: int) -> None:
    channel = Neighbour(4096)
    channel.write(word if word < EVENTS else RINGS + 3 * LINE + 4096 * RECORD + MASK, 99)
    page = _core.shm_open("test", _core.StatPage.bytes_for(1))
    _core.StatPage(page, streams_max=1, create=True)
    done = _worker(channel.fd, page)
    assert done.returncode == 70, done.stderr
    assert "version" in done.stderr
    assert "Traceback" not in done.stderr
    assert len(channel.memory) == _core.Channel.bytes_for(4096)  # the segment is still there
    channel.memory.close()
    os.close(channel.fd)
    os.close(page)


@pytest.mark.parametrize("which", ["chan", "page"])
def test_s10_a_worker_refuses_memory_that_could_shrink(which: str) -> None:
    channel = Neighbour(4096)
    page = _core.shm_open("test", _core.StatPage.bytes_for(1))
    _core.StatPage(page, streams_max=1, create=True)
    size = _core.Channel.bytes_for(4096) if which == "chan" else _core.StatPage.bytes_for(1)
    plain = os.memfd_create("test")
    os.ftruncate(plain, size)
    source = mmap.mmap(channel.fd if which == "chan" else page, size)
    with mmap.mmap(plain, size) as copy:
        copy[:] = source[:]  # the same in every byte
    done = _worker(plain if which == "chan" else channel.fd, plain if which == "page" else page)
    assert done.returncode == 70, done.stderr
    assert "version" in done.stderr
    source.close()
    channel.memory.close()
    for fd in (plain, channel.fd, page):
        os.close(fd)


def _worker(chan: int, page: int) -> subprocess.CompletedProcess[str]:
    """A worker's whole life with these two regions: a spare that is told to take the place at once."""
    supervisor, worker = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    fds = {"chan": chan, "page": page, "link": -1, "egress": -1, "wake": -1, "agent_wake": -1}
    boot = {
        "version": __version__, "ctl": worker.fileno(), "places": [{"name": "zr-test", "lane": 0, "fds": fds}],
        "streams_max": 1, "window": 64, "batch": 8, "gso": False, "spin_ns": 0, "deadlines_ms": [400, 400, 400],
        "residual": 0.0, "max_overhead": 0.0, "hold_ns": 0, "overload_enter": [0.75, 0.85, 0.93, 0.98], "peers": [],
        "sealed": False, "near": [],
    }  # fmt: skip
    supervisor.send(struct.pack("<IHHHHHH", _core.FDPASS[0], _core.FDPASS_BECOME, 0, 1, 0, 1, 0))
    file = os.memfd_create("boot")
    os.write(file, msgpack.packb(boot))
    try:
        return subprocess.run(
            [sys.executable, "-m", "relay.worker", "--boot", str(file)],
            pass_fds=[file, chan, page, worker.fileno()],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    finally:
        os.close(file)
        supervisor.close()
        worker.close()
