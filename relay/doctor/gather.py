"""Looks at the host: the only part of the doctor that opens files and sockets. Without rights it sees less."""

from __future__ import annotations

import os
import re
import resource
import socket
import time
from pathlib import Path
from typing import TypeVar

from relay import hostfiles
from relay.config import Config
from relay.doctor import nics
from relay.doctor.ethtool import Ethtool
from relay.doctor.facts import Counted, Cpu, Facts, Granted, Module, Relay
from relay.hostfiles import HERE, Host, cpu_list, nodes, read

INTERVAL_S = 1.0
SYSCTLS = (
    "net.core.rmem_max", "net.core.wmem_max", "net.core.netdev_max_backlog", "net.core.netdev_budget",
    "net.ipv4.udp_mem", "kernel.perf_event_paranoid", "kernel.kptr_restrict",
)  # fmt: skip
_CPUS = "/sys/devices/system/cpu"
_CLOCKS = "/sys/devices/system/clocksource/clocksource0"
_TABLE_BYTES_MAX = 64 << 20
_Key = TypeVar("_Key")


def gather(config: Config, interval_s: float = INTERVAL_S, host: Host = HERE) -> Facts:
    """Takes `interval_s`, for the rates. Files are read below `host`; sockets, limits and cards are always our own."""
    relay, lacks = _relay(config), dict[str, str]()
    names = hostfiles.cards(host)
    began = time.monotonic()
    before, drops = _Counters.read(relay, host), {name: nics.drop_counts(host, name) for name in names}
    tracks, tracked = _conntrack(relay, host, lacks)
    granted, module, cpu = _granted(relay, lacks), _module(lacks), _cpu(host)
    time.sleep(max(0.0, interval_s - (time.monotonic() - began)))
    after = _Counters.read(relay, host)
    seconds = max(0.001, time.monotonic() - began)
    with Ethtool() as ethtool:
        found = [nics.nic(host, name, drops[name], ethtool) for name in names]
    softnet: list[Counted | None] = [None, None]
    if len(before.softnet) == len(after.softnet) == 2:
        softnet = [Counted(total=now, more=now - then) for then, now in zip(before.softnet, after.softnet, strict=True)]
    return Facts(
        relay=relay,
        root=os.geteuid() == 0,
        kernel=host.read("/proc/sys/kernel/osrelease"),
        interval_s=round(seconds, 3),
        sysctl={name: text for name in SYSCTLS if (text := host.read(f"/proc/sys/{name.replace('.', '/', 2)}"))},
        granted=granted,
        udp=_counted(before.udp, after.udp),
        sockets=_counted(before.sockets, after.sockets),
        softnet_dropped=softnet[0],
        softnet_squeezed=softnet[1],
        page_bytes=os.sysconf("SC_PAGE_SIZE"),
        conntrack=tracks,
        conntrack_ports=tracked,
        nics=found,
        cpu=cpu,
        nofile=resource.getrlimit(resource.RLIMIT_NOFILE),
        memlock=resource.getrlimit(resource.RLIMIT_MEMLOCK),
        module=module,
        lacks=lacks,
    )


class _Counters:
    """The counters that are read twice."""

    udp: dict[str, int]
    sockets: dict[int, int]
    softnet: tuple[int, ...]  # dropped, squeezed; () when they cannot be read

    @classmethod
    def read(cls, relay: Relay, host: Host) -> _Counters:
        self = cls()
        self.udp = snmp_udp(host.read("/proc/net/snmp"))
        ports = {relay.data_port, *relay.lane_ports, *relay.ingress}
        self.sockets = {}
        for table in ("/proc/net/udp", "/proc/net/udp6"):
            for port, drops in udp_drops(host.read(table)):
                if port in ports:
                    self.sockets[port] = self.sockets.get(port, 0) + drops
        rows = [line.split() for line in host.read("/proc/net/softnet_stat").splitlines()]
        self.softnet = (sum(int(row[1], 16) for row in rows), sum(int(row[2], 16) for row in rows)) if rows else ()
        return self


def snmp_udp(text: str) -> dict[str, int]:
    """The two "Udp:" lines of /proc/net/snmp, names above numbers."""
    lines = [line.split()[1:] for line in text.splitlines() if line.startswith("Udp:")]
    return dict(zip(lines[0], map(int, lines[1]), strict=False)) if len(lines) == 2 else {}


def udp_drops(text: str) -> list[tuple[int, int]]:
    """(port, datagrams dropped) of each line of /proc/net/udp."""
    rows = [line.split() for line in text.splitlines()[1:]]
    return [(int(row[1].rpartition(":")[2], 16), int(row[-1])) for row in rows if len(row) >= 13]


def has_frame_pointers(image: bytes) -> bool:
    """Whether the compiler's own note in a module says so; without debug information there is no telling."""
    return re.search(rb"GNU C[^\0]*-fno-omit-frame-pointer", image) is not None


def _counted(before: dict[_Key, int], after: dict[_Key, int]) -> dict[_Key, Counted]:
    return {key: Counted(total=now, more=max(0, now - before.get(key, now))) for key, now in after.items()}


def _relay(config: Config) -> Relay:
    low, _, high = config.ingress.ports.partition("-")
    return Relay(
        id=config.node.id, workers=config.workers.count, cpus=config.workers.cpus, numa=config.workers.numa,
        data_ip=config.listen.data.ip, data_port=config.listen.data.port,
        ingress_first=int(low), ingress_ports=int(high or low) - int(low) + 1,
        receive_buffer=config.sockets.receive_buffer, send_buffer=config.sockets.send_buffer,
        gso=config.workers.gso, gro=config.workers.gro,
    )  # fmt: skip


def _granted(relay: Relay, lacks: dict[str, str]) -> Granted | None:
    """Of a socket that is opened as the relay opens its own."""
    try:
        from relay import _core
        from relay.units import Address

        fd = _core.udp_open(Address("127.0.0.1", 0).pack(), rcvbuf=relay.receive_buffer, sndbuf=relay.send_buffer)
    except (ImportError, OSError) as error:
        lacks["granted"] = f"no socket: {error}"
        return None
    with socket.socket(fileno=fd) as sock:  # the kernel doubles what it was asked for, and shows the double
        receive, send = (sock.getsockopt(socket.SOL_SOCKET, word) // 2 for word in (socket.SO_RCVBUF, socket.SO_SNDBUF))
    return Granted(receive=receive, send=send)


def _conntrack(relay: Relay, host: Host, lacks: dict[str, str]) -> tuple[bool | None, list[int] | None]:
    count = host.path("/proc/sys/net/netfilter/nf_conntrack_count")
    if not count.exists():
        return False, None
    if read(count) == "0":
        return True, []
    ports = {relay.data_port, *relay.lane_ports}
    try:
        with host.path("/proc/net/nf_conntrack").open(encoding="ascii", errors="replace") as table:
            text = table.read(_TABLE_BYTES_MAX)
    except OSError as error:
        lacks["conntrack_ports"] = f"its table cannot be read: {error.strerror}"
        return True, None
    tracked = {int(port) for line in text.splitlines() if " udp " in line for port in re.findall(r"port=(\d+)", line)}
    return True, sorted(tracked & ports)


def _module(lacks: dict[str, str]) -> Module | None:
    found = sorted(Path(__file__).parents[1].glob("_core*.so"))
    if not found:
        lacks["module"] = "relay._core is not built"
        return None
    image = found[0].read_bytes()
    return Module(path=found[0].name, frame_pointers=has_frame_pointers(image), symbols=b"\0.symtab\0" in image)


def _cpu(host: Host) -> Cpu:
    ours = re.search(r"^Cpus_allowed_list:\s*(\S+)", host.read("/proc/self/status"), re.M)
    allowed = cpu_list(ours[1]) if ours else tuple(sorted(os.sched_getaffinity(0)))
    governors = {cpu: host.read(f"{_CPUS}/cpu{cpu}/cpufreq/scaling_governor") for cpu in allowed}
    siblings = {cpu: cpu_list(host.read(f"{_CPUS}/cpu{cpu}/topology/thread_siblings_list")) for cpu in allowed}
    return Cpu(
        allowed=allowed,
        siblings={cpu: found for cpu, found in siblings.items() if found},
        nodes=nodes(host),
        governors={cpu: name for cpu, name in governors.items() if name},
        isolated=cpu_list(host.read(f"{_CPUS}/isolated")),
        irqbalance=any(read(path) == "irqbalance" for path in host.path("/proc").glob("[0-9]*/comm")),
        clocksource=host.read(f"{_CLOCKS}/current_clocksource"),
        clocksources=host.read(f"{_CLOCKS}/available_clocksource").split(),
    )
