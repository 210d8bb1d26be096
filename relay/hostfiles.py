"""What a host tells of itself in files: below /, or below a folder that holds another's /proc and /sys."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

NETWORK = "/sys/class/net"
_NODES = "/sys/devices/system/node"


class Host(NamedTuple):
    root: Path = Path("/")

    def path(self, absolute: str) -> Path:
        return self.root / absolute.lstrip("/")

    def read(self, absolute: str) -> str:
        return read(self.path(absolute))


HERE = Host()


def read(path: Path) -> str:
    """The file without blanks around it; "" when it cannot be read."""
    try:
        return path.read_text(errors="replace").strip()
    except OSError:  # a card that is down answers EINVAL
        return ""


def cpu_list(text: str) -> tuple[int, ...]:
    """ "0-3,8" -> (0, 1, 2, 3, 8); what is none gives ()."""
    cpus: list[int] = []
    for part in text.split(","):
        low, _, high = part.strip().partition("-")
        if low.isdigit() and (not high or high.isdigit()):
            cpus += range(int(low), int(high or low) + 1)
    return tuple(cpus)


def cards(host: Host) -> list[str]:
    """Cards of this machine, physical or given to a virtual one, that are up; neither loopback nor bridges."""
    found = []
    for path in sorted(host.path(NETWORK).glob("*")):
        if (path / "device").exists() and read(path / "operstate") in ("up", "unknown"):
            found.append(path.name)
    return found


def node_of(host: Host, card: str) -> int | None:
    """The node that a card is on; None: it tells none, as on a machine of one."""
    text = host.read(f"{NETWORK}/{card}/device/numa_node")
    return int(text) if text.isdigit() else None


def nodes(host: Host) -> dict[int, tuple[int, ...]]:
    """The CPUs of each NUMA node."""
    found = host.path(_NODES).glob("node[0-9]*")
    return {int(path.name.removeprefix("node")): cpu_list(read(path / "cpulist")) for path in found}
