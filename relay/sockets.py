"""What a relay takes from its host: the lock on its runtime directory, and the sockets it is made of.

The supervisor opens a link socket per lane, egress sockets and ingress sockets; the agent makes room for its API's.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from typing import TextIO

from relay import _core, hostinfo
from relay.units import Address

EXIT_OS, EXIT_PERMISSION = 71, 77


class StartError(Exception):
    """The relay cannot start; `exit_code` follows sysexits, the message is one line for the operator."""

    def __init__(self, exit_code: int, message: str) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def lock_runtime_dir(path: str) -> TextIO:
    """Makes the directory when it is missing, and locks it; closing the file gives the lock back.

    The default is a name in /tmp that anyone can guess, so nothing in it is trusted unless it is ours alone to change.

    Raises:
        StartError: 71 when it is locked by another relay or cannot be made, 77 when it is not safely ours.
    """
    lock_path = os.path.join(path, "lock")
    try:
        os.makedirs(path, mode=0o700, exist_ok=True)
        check_ours_alone(path, "node.runtime_dir")
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        lock = os.fdopen(os.open(lock_path, flags, 0o600), "r+")
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise StartError(EXIT_PERMISSION, f"{lock_path} is a symbolic link: remove it") from None
        code = EXIT_PERMISSION if isinstance(error, PermissionError) else EXIT_OS
        raise StartError(code, f"{lock_path}: {error.strerror}: node.runtime_dir must be writable") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        with lock:
            pid = lock.read().strip() or "unknown"
        raise StartError(EXIT_OS, f"already running, pid {pid} ({path})") from None
    lock.truncate(0)
    lock.write(f"{os.getpid()}\n")
    lock.flush()
    return lock


def check_ours_alone(path: str, key: str) -> None:
    """StartError 77 when others may write there; `key` is the directory's in the configuration. OSError."""
    # Once it is ours and closed to others, nobody else can put something into it: looking once is enough.
    found = os.lstat(path.rstrip("/") or "/")
    if stat.S_ISLNK(found.st_mode):
        wrong, remedy = "is a symbolic link", "give the directory itself"
    elif found.st_uid != os.geteuid():
        wrong, remedy = f"belongs to user {found.st_uid}, not to {os.geteuid()}", "give another one"
    elif found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        wrong, remedy = f"may be written by others (mode {stat.S_IMODE(found.st_mode):03o})", f"chmod go-w {path}"
    else:
        return
    raise StartError(EXIT_PERMISSION, f"{key} {path} {wrong}: {remedy}")


def remove_stale_socket(path: str) -> None:
    """Removes the Unix socket that an earlier agent left. StartError 71 when something else has this name; OSError."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise StartError(EXIT_OS, f"{path} is there and is no socket: remove it, or set listen.socket to another path")
    os.unlink(path)


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
