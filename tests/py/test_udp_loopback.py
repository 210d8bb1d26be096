"""One worker, in a thread of this process, with real sockets: what goes in comes out, and every datagram is counted."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from relay import _core
from relay.commands import encode
from relay.units import Address

pytestmark = pytest.mark.net

SOL_UDP, UDP_SEGMENT = 17, 103
HOST = "127.0.0.1"


class Rig:
    """The agent's and the supervisor's part in one."""

    def __init__(
        self, stack: contextlib.ExitStack, *, gso: bool = True, gro: bool = True, spin_ns: int = 0, egress: str = HOST
    ) -> None:
        def own(fd: int) -> int:
            stack.callback(os.close, fd)
            return fd

        loopback = Address(HOST, 0).pack()
        fds = {
            "chan_fd": own(_core.shm_open("test-chan", _core.Channel.bytes_for(4096))),
            "page_fd": own(_core.shm_open("test-page", _core.StatPage.bytes_for(8))),
            "link_fd": own(_core.udp_open(loopback, gro=gro, rcvbuf=4 << 20)),
            "egress_fd": own(_core.udp_open(Address(egress, 0).pack(), sndbuf=4 << 20)),
            "wake_fd": own(os.eventfd(0, os.EFD_NONBLOCK)),
        }
        self.gro, self.wake_fd, self.egress_fd = gro, fds["wake_fd"], fds["egress_fd"]
        self.channel = _core.Channel(fds["chan_fd"], create=True)
        self.page = _core.StatPage(fds["page_fd"], streams_max=8, create=True)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.fdpass = stack.enter_context(ours)
        stack.enter_context(theirs)
        self.worker = _core.Worker(lane=0, streams_max=8, gso=gso, spin_ns=spin_ns, fdpass_fd=theirs.fileno(), **fds)
        self.thread = threading.Thread(target=self.worker.run)
        self.thread.start()
        stack.callback(self.end)
        self.link = port_of(fds["link_fd"])
        self.player = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        self.player.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self.player.bind((HOST, 0))
        self.player.settimeout(20)
        self.publisher = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        self.publisher.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)

    def end(self) -> None:
        if self.thread.is_alive():
            self.worker.ask_stop()
        self.thread.join(20)
        assert not self.thread.is_alive()

    def post(self, op: str, **fields: int | Address) -> None:
        assert self.channel.post(encode(op, **fields))  # type: ignore[arg-type]
        if self.channel.wake_needed():
            os.eventfd_write(self.wake_fd, 1)

    def open_stream(self, codec: str = "opus") -> None:
        """Of audio, or of video when the codec is another."""
        fd = _core.udp_open(Address(HOST, 0).pack(), gro=self.gro, rcvbuf=4 << 20)
        self.ingress = port_of(fd)
        socket.send_fds(self.fdpass, [struct.pack("<IHH", *_core.FDPASS, 0)], [fd])
        os.close(fd)
        word = [word for word, _ in _core.CODECS].index(codec)
        self.post("stream_open", stream=0, local=1, epoch=1)
        self.post("stream_track", stream=0, track=0, format=(codec != "opus") | word << 8 | 96 << 16, clock_rate=48000)
        self.post("ingress_bind", ingress=0, stream=0, learn=1)
        self.post("sub_add", sub=0, stream=0, tracks=1, layers=0xFFFF, addr=Address(*self.player.getsockname()))
        wait_until(lambda: self.page.stats()["subs"] == 1)

    def received(self, count: int) -> list[bytes]:
        return [self.player.recv(65536) for _ in range(count)]

    def conserved(self) -> bool:
        return self.page.ledgers() == {"link": 0, "media": 0, "fan": 0, "egress": 0}


@pytest.fixture
def start() -> Iterator[Callable[..., Rig]]:
    with contextlib.ExitStack() as stack:
        yield lambda **how: Rig(stack, **how)


def port_of(fd: int) -> int:
    with socket.socket(fileno=os.dup(fd)) as sock:
        return int(sock.getsockname()[1])


def rtp(seq: int, size: int) -> bytes:
    header = b"\x80\x60" + (seq & 0xFFFF).to_bytes(2, "big") + (seq * 960).to_bytes(4, "big") + b"\0\0\0\7"
    return header + bytes([seq & 255]) * size


def wait_until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "did not happen in time"
        time.sleep(0.005)


@pytest.mark.parametrize("gro", [True, False], ids=["gro", "no-gro"])
@pytest.mark.parametrize("gso", [True, False], ids=["gso", "no-gso"])
def test_rtp_arrives_whole_and_in_order_and_every_packet_is_counted(
    start: Callable[..., Rig], gso: bool, gro: bool
) -> None:
    rig = start(gso=gso, gro=gro)
    rig.open_stream()
    packets = [rtp(seq, 1200 if seq % 9 else 300) for seq in range(400)]
    for first in range(0, len(packets), 40):
        for packet in packets[first : first + 40]:
            rig.publisher.sendto(packet, (HOST, rig.ingress))
        assert rig.received(40) == packets[first : first + 40]
    wait_until(rig.conserved)
    stats = rig.page.stats()
    assert stats["rx_media"] == stats["media_accepted"] == stats["fan_sent"] == stats["tx_sent"] == 400
    assert gso or stats["tx_gso_runs"] == 0
    assert stats["tx_bytes"] == sum(map(len, packets))


@pytest.mark.parametrize("gro", [True, False], ids=["gro", "no-gro"])
def test_a_merged_packet_is_split_by_its_segment_size_with_the_short_one_last(
    start: Callable[..., Rig], gro: bool
) -> None:
    """U40: the same totals with and without GRO."""
    rig = start(gro=gro)
    rig.open_stream()
    run = [rtp(seq, 500) for seq in range(20)] + [rtp(20, 123)]
    segment = [(SOL_UDP, UDP_SEGMENT, struct.pack("<H", 512))]
    rig.publisher.sendmsg([b"".join(run)], segment, 0, (HOST, rig.ingress))
    assert rig.received(21) == run
    wait_until(rig.conserved)
    stats = rig.page.stats()
    assert stats["rx_media"] == stats["tx_sent"] == 21
    assert stats["rx_media_bytes"] == sum(map(len, run))
    if gro:  # one turn took it whole, so one run goes out
        assert (stats["sys_sendmmsg"], stats["tx_runs"], stats["tx_gso_runs"]) == (1, 1, 1)


def test_empty_short_and_giant_datagrams_are_dropped_by_name(start: Callable[..., Rig]) -> None:
    """U01, U02, U32 on the link socket and their like on an ingress."""
    rig = start()
    rig.open_stream()
    for size in (0, 1, 15):
        rig.publisher.sendto(bytes(size), (HOST, rig.link))
    rig.publisher.sendto(b"\x0b" + bytes(65506), (HOST, rig.link))
    rig.publisher.sendto(b"", (HOST, rig.ingress))
    rig.publisher.sendto(rtp(1, 65507 - 12), (HOST, rig.ingress))
    rig.publisher.sendto(rtp(1, 1600), (HOST, rig.ingress))
    wait_until(lambda: rig.page.stats()["rx_link"] == 4 and rig.page.stats()["rx_media"] == 3)
    wait_until(rig.conserved)
    drops = {name: count for name, count in rig.page.drops().items() if count}
    assert drops == {"short": 3, "link_oversize": 1, "rtp_short": 1, "oversize": 2}


def test_what_nobody_listens_to_is_sent_or_counted_and_others_still_get_theirs(start: Callable[..., Rig]) -> None:
    rig = start()
    rig.open_stream()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as closed:
        closed.bind((HOST, 0))
        nobody = Address(*closed.getsockname())
    rig.post("sub_add", sub=1, stream=0, tracks=1, layers=0xFFFF, addr=nobody)
    rig.post("sub_add", sub=2, stream=0, tracks=1, layers=0xFFFF, addr=Address("::1", 9))  # an IPv4 egress socket
    wait_until(lambda: rig.page.stats()["subs"] == 3)
    packets = [rtp(seq, 200) for seq in range(100)]
    for packet in packets:
        rig.publisher.sendto(packet, (HOST, rig.ingress))
        time.sleep(0.0005)
    assert rig.received(100) == packets
    wait_until(rig.conserved)
    assert rig.page.drops()["tx_refused"] >= 100


def test_a_closed_ingress_takes_nothing_and_its_slot_works_again(start: Callable[..., Rig]) -> None:
    rig = start()
    rig.open_stream()
    rig.post("ingress_close", ingress=0)
    wait_until(lambda: port_free(rig.ingress))
    rig.post("reset")
    rig.open_stream()
    rig.publisher.sendto(rtp(5, 10), (HOST, rig.ingress))
    assert rig.received(1) == [rtp(5, 10)]


def port_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def test_an_idle_worker_sleeps_and_its_heartbeat_moves(start: Callable[..., Rig]) -> None:
    rig = start()
    before, beat, began = rig.page.stats()["turns"], rig.page.heartbeat_ns, time.monotonic()
    time.sleep(0.5)
    turns, took_s = rig.page.stats()["turns"] - before, time.monotonic() - began
    assert turns <= 24 * took_s  # about ten a second
    wait_until(lambda: rig.page.stats()["turns"] - before >= 3)
    wait_until(lambda: rig.page.heartbeat_ns - beat >= 300_000_000)


def test_a_spinning_worker_answers_a_command_without_being_woken(start: Callable[..., Rig]) -> None:
    rig = start(spin_ns=10_000_000_000)
    rig.post("nop", seq=1)
    wait_until(lambda: len(rig.channel.events()) == 1)
    assert rig.channel.post(encode("nop", seq=2))
    assert not rig.channel.wake_needed()
    wait_until(lambda: len(rig.channel.events()) == 1)


def test_the_stop_command_ends_the_run(start: Callable[..., Rig]) -> None:
    rig = start()
    rig.post("stop")
    rig.thread.join(20)
    assert not rig.thread.is_alive()
