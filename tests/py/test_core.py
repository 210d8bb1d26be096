"""The binding: its lists, its owners, and that nothing in it can be used wrongly without an exception."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys

import pytest

from relay import _core
from relay.commands import decode_event, encode
from relay.errors import CoreError
from relay.units import Address

NOW = 1_000_000_000
NEVER = 2**63 - 1
PEER = Address("127.0.0.1", 29900).pack()


@pytest.fixture
def chan_fd() -> int:
    return _core.shm_open("test", _core.Channel.bytes_for(4))


def test_every_list_has_names_that_are_unique_and_texts() -> None:
    for table in (_core.ERRORS, _core.STATS, _core.DROPS, _core.HISTS, _core.COMMANDS, _core.EVENTS, _core.CODECS):
        names = [row[0] for row in table]
        assert len(set(names)) == len(names) > 0
    assert {row[1] for row in _core.DROPS} == {"link", "media", "fan", "egress"}
    assert all(value < -1 for _, value, _ in _core.ERRORS)
    assert dict((name, value) for name, value, _ in _core.ERRORS)["full"] == -2


def test_pages_are_found_by_others_and_refused_when_they_are_not_ours() -> None:
    fd = _core.shm_open("test", _core.StatPage.bytes_for(3))
    with pytest.raises(CoreError, match="version"):
        _core.StatPage(fd, streams_max=3)  # nobody has made it yet
    page = _core.StatPage(fd, streams_max=3, create=True)
    assert _core.StatPage(fd, streams_max=3).generation == page.generation == 0
    lane_fd = _core.shm_open("test", _core.StatPage.bytes_for(0))
    _core.StatPage(lane_fd, streams_max=0, create=True)
    lane = _core.ControlLane(NOW, page_fd=lane_fd)
    reader = _core.StatPage(lane_fd, streams_max=0)
    lane.input(b"", PEER, NOW)
    assert reader.drops()["short"] == 1
    assert (reader.generation, reader.pid) == (1, os.getpid())
    with pytest.raises(CoreError, match="version"):
        _core.StatPage(fd, streams_max=4)
    plain = os.memfd_create("plain")
    os.ftruncate(plain, _core.StatPage.bytes_for(3))
    with pytest.raises(CoreError, match="version"):
        _core.StatPage(plain, streams_max=3, create=True)  # not sealed
    with pytest.raises(OSError):
        _core.StatPage(9999, streams_max=3)
    with pytest.raises(IndexError):
        page.stream(3)
    assert page.stream(2)["packets"] == 0
    for each in (fd, lane_fd, plain):
        os.close(each)


def test_a_channel_says_when_it_is_full_and_when_the_worker_must_be_woken(chan_fd: int) -> None:
    agent = _core.Channel(chan_fd, slots=4, create=True)
    assert [agent.post(encode("nop", seq=i)) for i in range(5)] == [True] * 4 + [False]
    assert not agent.wake_needed()  # nobody sleeps
    assert agent.events() == []
    with pytest.raises(ValueError):
        agent.post(b"short")
    with pytest.raises(CoreError, match="version"):
        _core.Channel(chan_fd, slots=8)
    with pytest.raises(ValueError):
        _core.Channel.bytes_for(3)
    again = _core.Channel(chan_fd, slots=4)  # the next agent sees the same ring
    assert not again.post(encode("nop"))
    os.close(chan_fd)


def test_a_forwarder_runs_commands_before_the_first_input_of_a_turn() -> None:
    fwd = _core.Forwarder(0, NOW)
    fwd.command(encode("stream_open", 1, stream=0, local=1, epoch=1))
    fwd.command(encode("stream_track", 2, stream=0, track=0, format=96 << 16, clock_rate=48000))
    fwd.command(encode("ingress_bind", 3, ingress=5, stream=0, learn=1))
    fwd.command(encode("sub_add", 4, sub=0, stream=0, tracks=1, layers=0xFFFF, addr=Address("127.0.0.1", 5004)))
    packet = b"\x80\x60\0\1" + bytes(7) + b"\7" + b"payload"
    assert fwd.ingress_input(5, packet, PEER, NOW)
    assert not fwd.ingress_input(6, packet, PEER, NOW)
    assert not fwd.link_input(b"", PEER, NOW)
    assert not fwd.egress_input(bytes(3000), PEER, NOW)
    assert fwd.turn(NOW) == [(1, Address("127.0.0.1", 5004).pack(), packet)]
    done = [decode_event(record) for record in fwd.events()]
    assert [(event.seq, event.rc) for event in done if event.op == "done"] == [(1, 0), (2, 0), (3, 0), (4, 0)]
    assert {name: n for name, n in fwd.drops().items() if n} == {"stream": 1, "short": 1, "oversize": 1}
    assert fwd.stats()["media_accepted"] == 1
    assert set(fwd.ledgers().values()) == {0}
    assert fwd.stream(0)["packets"] == 1
    fwd.command(encode("reset"))
    fwd.turn(NOW + 1)
    assert fwd.check()
    assert fwd.pool_in_use() == 0
    assert 5 in fwd.ingress_closed()


def test_a_full_command_ring_is_an_error() -> None:
    fwd = _core.Forwarder(0, NOW, chan_slots=2)
    fwd.command(encode("nop"))
    fwd.command(encode("nop"))
    with pytest.raises(CoreError, match="full"):
        fwd.command(encode("nop"))
    fwd.turn(NOW)
    fwd.command(encode("nop"))


def test_two_agents_exchange_control_messages_of_any_length() -> None:
    ends = [_core.ControlLane(NOW), _core.ControlLane(NOW)]
    addrs = [Address("127.0.0.1", 1000).pack(), Address("127.0.0.1", 2000).pack()]
    for i, lane in enumerate(ends):
        lane.session_add(3, 11 + i, 12 - i, 1, 1000, 1420, addrs[1 - i], NOW)
        with pytest.raises(CoreError, match="exists"):
            lane.session_add(3, 11 + i, 12 - i, 1, 1000, 1420, addrs[1 - i], NOW)
    sent = [b"x", os.urandom(1_400), os.urandom(100_000)]
    for payload in sent:
        ends[0].send(3, payload, NOW)
    got: list[tuple[int, bytes]] = []
    now = NOW
    while len(got) < len(sent) and now < NOW + 2_000_000_000:
        for i, lane in enumerate(ends):
            for addr, data in lane.datagrams(now):
                assert addr == addrs[1 - i]
                assert ends[1 - i].input(data, addrs[i], now) == []
        got += ends[1].messages()
        now += 1_000_000
    assert got == [(3, payload) for payload in sent]
    assert ends[1].heard(3) > 0
    for lane in ends:
        assert lane.ledgers()["link"] == 0
        assert lane.check()
    with pytest.raises(CoreError, match="missing"):
        ends[0].send(4, b"", now)
    ends[0].session_drop(3)
    with pytest.raises(CoreError, match="missing"):
        ends[0].session_drop(3)
    assert ends[0].deadline() == NEVER


def test_hellos_come_out_and_may_be_refused_afterwards() -> None:
    lane = _core.ControlLane(NOW)
    hello = b"\x08\0\0\0" + bytes(60)
    assert lane.input(hello, PEER, NOW) == [(hello, PEER)]
    lane.refuse("unknown_peer")
    assert lane.drops()["unknown_peer"] == 1
    assert lane.stats()["link_accepted"] == 0
    assert lane.ledgers()["link"] == 0
    with pytest.raises(CoreError, match="inval"):
        lane.refuse("pool")  # the media ledger's
    with pytest.raises(KeyError):
        lane.refuse("nonsense")


def test_the_link_model_gives_back_what_it_took_at_its_time() -> None:
    link = _core.SimLink(delay_ns=20, packets_max=2)
    assert link.put(b"one", 7, 100)
    assert link.deadline() == 120
    assert link.get(119) is None
    assert link.get(120) == (b"one", 7)
    assert link.deadline() == NEVER
    assert link.counts()["out"] == 1
    with pytest.raises(CoreError, match="oversize"):
        link.put(bytes(2049), 0, 0)
    with pytest.raises(CoreError, match="inval"):
        _core.SimLink(loss=1.5)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: _core.Forwarder(62, NOW),  # no such lane
        lambda: _core.Forwarder(0, NOW, streams_max=0),
        lambda: _core.ControlLane(NOW, sessions_max=0),
        lambda: _core.ControlLane(NOW).input(b"", b"short", NOW),
        lambda: _core.Forwarder(0, NOW).link_input(None, PEER, NOW),  # type: ignore[arg-type]
        lambda: _core.Forwarder(0, NOW).link_input(bytearray(3), PEER, NOW),  # type: ignore[arg-type]
        lambda: _core.Forwarder(0, 2**63),
        lambda: _core.Forwarder(300, NOW),
        lambda: _core.udp_open(bytes(20)),
        lambda: _core.shm_open("x", 0),
        lambda: _core.Worker(lane=0, chan_fd=0, page_fd=0),
        lambda: _core.Counters().nonsense(),  # type: ignore[attr-defined]
    ],
)
def test_wrong_arguments_raise(wrong: object) -> None:
    with pytest.raises((CoreError, ValueError, TypeError, OverflowError, OSError, AttributeError)):
        wrong()  # type: ignore[operator]


def test_initialising_twice_changes_nothing() -> None:
    lane = _core.ControlLane(NOW)
    lane.input(b"", PEER, NOW)
    with contextlib.suppress(TypeError):
        lane.__init__(NOW)  # type: ignore[misc]
    assert lane.drops()["short"] == 1


def test_exit_is_silent_with_everything_alive() -> None:
    code = (
        "from relay import _core, units\n"
        "keep = [_core.Forwarder(0, 1), _core.ControlLane(1), _core.SimLink()]\n"
        "keep.append(keep)\n"
        "keep[1].input(b'\\x08\\0\\0\\0map', units.Address('127.0.0.1', 1).pack(), 1)\n"
    )
    done = subprocess.run([sys.executable, "-X", "dev", "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_worker_imports_nothing_heavy() -> None:
    code = "import sys; from relay import worker; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"asyncio", "aiohttp", "msgspec", "subprocess", "psutil", "structlog", "ssl", "inspect"}
    assert heavy.isdisjoint(done.stdout.split())
