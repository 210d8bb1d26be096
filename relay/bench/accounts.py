"""The kernel's own accounts: CPU time of processes, drops at full sockets, how busy the machine was."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path


def cpu_ns(pid: int) -> int:
    """CPU time of all threads of a process so far, user and kernel; ProcessLookupError when it is gone.

    A thread that ends takes its time along: compare only while a process keeps its threads.
    """
    total = 0
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            with suppress(FileNotFoundError):  # ended while we looked
                total += int((task / "schedstat").read_text().split()[0])
    except FileNotFoundError:
        raise ProcessLookupError(f"process {pid} is gone") from None
    return total


def socket_drops(ports: Iterable[int]) -> int:
    """Datagrams dropped at full receive buffers of the sockets on these local UDP ports, since they were opened."""
    wanted, dropped = set(ports), 0
    for table in ("udp", "udp6"):
        with suppress(OSError):
            for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
                fields = line.split()
                if int(fields[1].rpartition(":")[2], 16) in wanted:
                    dropped += int(fields[-1])
    return dropped


def is_bound(port: int) -> bool:
    """Has any process of this network namespace a UDP socket on the port?"""
    return any(
        f":{port:04X} " in Path(f"/proc/net/{table}").read_text()
        for table in ("udp", "udp6")
        if Path(f"/proc/net/{table}").exists()
    )


class Machine:
    """How busy all cores together were since this was made, whoever used them; what the host took counts as busy."""

    def __init__(self) -> None:
        self._busy, self._every = _ticks()

    def busy_pct(self) -> float:
        busy, every = _ticks()
        return 100 * (busy - self._busy) / max(1, every - self._every)


def _ticks() -> tuple[int, int]:
    fields = [int(word) for word in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return sum(fields) - fields[3] - fields[4], sum(fields)
