"""Facts about this host, from /proc: socket buffer limits, who holds a port."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

_TCP_LISTEN = "0A"


class Holder(NamedTuple):
    """The process that has a port open."""

    pid: int
    name: str

    def __str__(self) -> str:
        return f"pid {self.pid} ({self.name})"


def socket_buffer_max(direction: str) -> int:
    """Bytes that an unprivileged socket may ask for; `direction` is "r" (receive) or "w" (send)."""
    return int(Path(f"/proc/sys/net/core/{direction}mem_max").read_text())


def udp_holder(port: int) -> Holder | None:
    """Who has this UDP port open, as far as /proc lets us see; our own process is not named."""
    return _holder(set(_inodes("udp", port)))


def tcp_holder(port: int) -> Holder | None:
    """Who listens on this TCP port, likewise."""
    return _holder(set(_inodes("tcp", port, _TCP_LISTEN)))


def _holder(inodes: set[str]) -> Holder | None:
    if not inodes:
        return None
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid() and _holds(entry, inodes):
            with suppress(OSError):
                return Holder(int(entry.name), (entry / "comm").read_text().strip())
    return None


def _inodes(kind: str, port: int, state: str | None = None) -> Iterator[str]:
    for table in (f"/proc/net/{kind}", f"/proc/net/{kind}6"):
        try:
            lines = Path(table).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if int(fields[1].rpartition(":")[2], 16) == port and state in (None, fields[3]):
                yield fields[9]


def _holds(process: Path, inodes: set[str]) -> bool:
    wanted = {f"socket:[{inode}]" for inode in inodes}
    try:
        for fd in (process / "fd").iterdir():
            with suppress(OSError):
                if os.readlink(fd) in wanted:
                    return True
    except OSError:  # not ours to look into, or gone
        pass
    return False
