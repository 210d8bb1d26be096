"""What waits for room: control messages, worker commands, requests to the supervisor, and times."""

from __future__ import annotations

import os
import socket

import msgpack
import pytest

from relay import _core
from relay.agenda import Agenda
from relay.commands import core_codec, encode
from relay.ctl import Ctl
from relay.errors import CoreError, bind
from relay.handles import WorkerHandle
from relay.outbox import WAITING_MAX, Outbox
from relay.units import Address

FULL = bind(_core.ERRORS)["full"]
OVERSIZE = bind(_core.ERRORS)["oversize"]
NOW = 1_000_000_000


class NarrowLane:
    """Takes `room` messages, then none."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.sent: list[tuple[int, bytes]] = []

    def send(self, slot: int, payload: bytes, now: int) -> None:
        if len(payload) > 100:
            raise OVERSIZE()
        if self.room == 0:
            raise FULL()
        self.room -= 1
        self.sent.append((slot, payload))


def test_messages_that_do_not_fit_wait_and_keep_their_order() -> None:
    lane = NarrowLane(2)
    outbox = Outbox(lane)
    for n in range(5):
        assert outbox.send(1, b"%d" % n, NOW)
    assert len(outbox) == 3
    lane.room = 1
    outbox.flush(NOW)
    assert outbox.send(1, b"5", NOW)
    lane.room = 9
    outbox.flush(NOW)
    assert [payload for _, payload in lane.sent] == [b"0", b"1", b"2", b"3", b"4", b"5"]
    assert len(outbox) == 0


def test_a_session_that_takes_nothing_is_given_up_at_last_and_its_messages_with_it() -> None:
    outbox = Outbox(NarrowLane(0))
    assert all(outbox.send(1, b"x", NOW) for _ in range(WAITING_MAX))
    assert not outbox.send(1, b"x", NOW)
    assert outbox.send(2, b"another session", NOW)
    outbox.drop(1)
    assert len(outbox) == 1
    with pytest.raises(CoreError, match="oversize"):
        outbox.send(3, bytes(101), NOW)


def test_more_messages_than_a_window_cross_a_real_lane() -> None:
    ends = [_core.ControlLane(NOW), _core.ControlLane(NOW)]
    addrs = [Address("127.0.0.1", 1000).pack(), Address("127.0.0.1", 2000).pack()]
    for i, lane in enumerate(ends):
        lane.session_add(0, 11 + i, 12 - i, 1, 1000, 1420, addrs[1 - i], NOW)
    outbox = Outbox(ends[0])
    sent = [b"%d" % n * 300 for n in range(2000)]
    assert all(outbox.send(0, payload, NOW) for payload in sent)
    assert len(outbox) > 0  # one window is not enough for them
    got: list[bytes] = []
    for step in range(5000):
        now = NOW + step * 1_000_000
        outbox.flush(now)
        for i, lane in enumerate(ends):
            for _, data in lane.datagrams(now):
                ends[1 - i].input(data, addrs[i], now)
        got += [payload for _, payload in ends[1].messages()]
        if len(got) == len(sent):
            break
    assert got == sent


RING = 4096


def idle_handle() -> WorkerHandle:
    """A worker nobody runs."""
    fds = {
        "chan": _core.shm_open("test", _core.Channel.bytes_for(RING)),
        "page": _core.shm_open("test", _core.StatPage.bytes_for(1)),
        "wake": os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK),
    }
    _core.Channel(fds["chan"], slots=RING, create=True)
    _core.StatPage(fds["page"], streams_max=1, create=True)
    return WorkerHandle(0, fds, 1)


def test_commands_that_a_full_ring_does_not_take_wait() -> None:
    handle = idle_handle()
    for n in range(1, RING + 3):
        handle.post(encode("nop", n))
    handle.flush()
    handle.flush()
    assert handle.waiting == 2


def test_a_worker_is_begun_with_a_reset_and_without_what_was_for_the_one_before() -> None:
    handle = idle_handle()
    for n in range(1, 7):
        handle.post(encode("nop", n))
    handle.lost()
    handle.begin()
    assert handle.waiting == 1
    assert core_codec().decode(handle._waiting[0]).op == "reset"


def test_a_worker_that_takes_nothing_is_behind_and_then_told_everything_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.handles.WAITING_MAX", 3)
    handle = idle_handle()
    for n in range(1, 5):
        handle.post(encode("nop", n))
    assert handle.behind
    handle.post(encode("nop", 9))
    assert handle.waiting == 0  # half a state is worse than none
    handle.begin()
    assert (handle.behind, handle.waiting) == (False, 1)


def test_requests_wait_while_the_supervisor_does_not_read_and_none_is_lost() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    watched: list[bool] = []
    ctl = Ctl(ours.detach(), watched.append)
    count = 2000
    for slot in range(count):
        ctl.open_ingress(0, slot, "127.0.0.1", 0, (30000, 30999))
    assert watched == [True]
    theirs.setblocking(False)
    got = []
    for _ in range(10 * count):
        try:
            got.append(msgpack.unpackb(theirs.recv(65536))["slot"])
        except BlockingIOError:
            ctl.flush()
            if len(got) == count:
                break
    assert got == list(range(count))
    assert watched[-1] is False
    theirs.send(msgpack.packb({"t": "ingress", "r": 3, "error": "no"}))
    (message,) = ctl.messages()
    assert ctl.answered(message) == (0, 2, None, "no")
    theirs.close()
    assert list(ctl.messages()) == []
    assert ctl.gone


def test_an_agenda_forgets_times_that_are_no_longer_meant() -> None:
    times = {"a": 5, "b": 3}
    agenda: Agenda[str] = Agenda(lambda when, item: times.get(item) == when)
    agenda.add(5, "a")
    agenda.add(3, "b")
    times["b"] = 9
    agenda.add(9, "b")
    assert agenda.deadline() == 5
    assert list(agenda.due(4)) == []
    assert list(agenda.due(9)) == ["a", "b"]
    assert agenda.deadline() is None
