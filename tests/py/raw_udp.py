"""UDP datagrams with any source there is, by a raw socket: what somebody off the path can forge. Needs CAP_NET_RAW."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterator

import pytest

_HEAD = struct.Struct(">BBHHHBBH4s4sHHHH")  # IPv4 without options, UDP
_TTL = 64


class RawUdp:
    """The kernel fills in the checksum and the id of the IP header; UDP goes without one."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def packet(self, source: tuple[str, int], to: tuple[str, int], data: bytes) -> bytes:
        ips = (socket.inet_aton(source[0]), socket.inet_aton(to[0]))
        udp_bytes = 8 + len(data)
        ip = (0x45, 0, 20 + udp_bytes, 0, 0, _TTL, socket.IPPROTO_UDP, 0)
        return _HEAD.pack(*ip, *ips, source[1], to[1], udp_bytes, 0) + data

    def send(self, source: tuple[str, int], to: tuple[str, int], data: bytes) -> None:
        self.send_packet(self.packet(source, to, data), to)

    def send_packet(self, packet: bytes, to: tuple[str, int]) -> None:
        """One that `packet` made."""
        self._sock.sendto(packet, (to[0], 0))


@contextlib.contextmanager
def raw_udp() -> Iterator[RawUdp]:
    """Skips the test where nobody may forge."""
    try:
        sock = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    except PermissionError:
        pytest.skip("forging a source address needs CAP_NET_RAW: run as root")
    with sock:
        yield RawUdp(sock)
