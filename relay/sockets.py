"""The sockets a relay is made of, opened by the supervisor: a link socket per lane, egress sockets, ingress sockets."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator

from relay import _core, hostinfo
from relay.units import Address

EXIT_OS, EXIT_PERMISSION = 71, 77


class StartError(Exception):
    """The relay cannot start; `exit_code` follows sysexits, the message is one line for the operator."""

    def __init__(self, exit_code: int, message: str) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class Sockets:
    """Opens; every descriptor is the caller's. Buffer sizes in bytes, 0: the system's default."""

    def __init__(self, receive_buffer: int, send_buffer: int, gro: bool) -> None:
        self._receive, self._send, self._gro = receive_buffer, send_buffer, gro
        self._next_port: dict[tuple[str, int, int], int] = {}

    def open_link(self, address: Address) -> int:
        """A lane's socket. StartError 71 when the port is taken, naming its holder where /proc shows it."""
        try:
            return _core.udp_open(
                address.pack(), rcvbuf=self._receive, sndbuf=self._send, gro=self._gro, fragment=False
            )
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                holder = hostinfo.udp_holder(address.port)
                by = f" by {holder}" if holder else ""
                raise StartError(EXIT_OS, f"UDP {address} is in use{by}: set listen.data to a free port") from None
            code = EXIT_PERMISSION if error.errno in (errno.EACCES, errno.EPERM) else EXIT_OS
            raise StartError(code, f"UDP {address}: {error.strerror}: check listen.data") from None

    def open_egress(self) -> int:
        """Any port, both families where the host has IPv6; subscribers may be anywhere, so no address is bound."""
        for ip in ("::", "0.0.0.0"):
            with contextlib.suppress(OSError):
                return _core.udp_open(Address(ip, 0).pack(), rcvbuf=self._receive, sndbuf=self._send)
        raise StartError(EXIT_OS, "no UDP socket for egress: is there neither IPv4 nor IPv6?")

    def open_ingress(self, ip: str, port: int, low: int, high: int) -> tuple[int, int]:
        """A publisher's socket on `port`, or for 0 on the first free one of low..high: (descriptor, port). OSError."""
        if port:
            return _core.udp_open(Address(ip, port).pack(), rcvbuf=self._receive, gro=self._gro), port
        for candidate in self._from_next(ip, low, high):
            try:
                fd = _core.udp_open(Address(ip, candidate).pack(), rcvbuf=self._receive, gro=self._gro)
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
            else:
                self._next_port[ip, low, high] = candidate + 1
                return fd, candidate
        raise OSError(errno.EADDRINUSE, "all in use")

    def _from_next(self, ip: str, low: int, high: int) -> Iterator[int]:
        """The whole range, beginning behind the port given last: one just closed rests as long as possible."""
        start = min(max(self._next_port.get((ip, low, high), low), low), high)
        yield from range(start, high + 1)
        yield from range(low, start)
