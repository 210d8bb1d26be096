"""Facts about this host, from /proc and /sys: cores, CPU lists, socket buffer limits, who holds a port."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

WORKERS_MAX = 62
_CPU_MAX = 4095


class Holder(NamedTuple):
    """The process that has a port open."""

    pid: int
    name: str

    def __str__(self) -> str:
        return f"pid {self.pid} ({self.name})"


def parse_cpu_list(text: str) -> tuple[int, ...]:
    """CPU numbers of "2-15" or "0,2,4-6", in the order written; none of "". ValueError names what is wrong."""
    cpus: list[int] = []
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        match = re.fullmatch(r"([0-9]{1,4})(?:-([0-9]{1,4}))?", part)
        if match is None:
            raise ValueError(f"{part!r} is not a CPU or a range: write '2-15' or '0,2,4'")
        first, last = int(match[1]), int(match[2] or match[1])
        if not first <= last <= _CPU_MAX:
            raise ValueError(f"{part!r} is not a range of CPUs from low to high, at most {_CPU_MAX}")
        cpus.extend(range(first, last + 1))
    if len(set(cpus)) != len(cpus):
        raise ValueError(f"{text!r} names a CPU twice")
    return tuple(cpus)


def usable_cpus() -> tuple[int, ...]:
    """The CPUs that this process may run on."""
    return tuple(sorted(os.sched_getaffinity(0)))


def physical_cores() -> int:
    """Cores, not hardware threads, among the usable CPUs; at least 1."""
    cores = set()
    for cpu in usable_cpus():
        siblings = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        try:
            cores.add(siblings.read_text().strip())
        except OSError:
            cores.add(str(cpu))
    return max(1, len(cores))


def default_workers() -> int:
    """What `workers.count = "auto"` means: a core each, one left for everything else; 1 to 62."""
    return min(WORKERS_MAX, max(1, physical_cores() - 1))


def socket_buffer_max(direction: str) -> int:
    """Bytes that an unprivileged socket may ask for; `direction` is "r" (receive) or "w" (send)."""
    return int(Path(f"/proc/sys/net/core/{direction}mem_max").read_text())


def udp_holder(port: int) -> Holder | None:
    """Who has this UDP port open, as far as /proc lets us see; our own process is not named."""
    inodes = set(_udp_inodes(port))
    if not inodes:
        return None
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid() and _holds(entry, inodes):
            with suppress(OSError):
                return Holder(int(entry.name), (entry / "comm").read_text().strip())
    return None


def _udp_inodes(port: int) -> Iterator[str]:
    for table in ("/proc/net/udp", "/proc/net/udp6"):
        try:
            lines = Path(table).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if int(fields[1].rpartition(":")[2], 16) == port:
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
