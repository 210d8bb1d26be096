"""What the checks know: gathered in one place, kept and read as JSON.

None: could not be found out, and why is in `lacks`. Rates are differences over `interval_s`.
"""

from __future__ import annotations

import msgspec

VERSION = 1


class Relay(msgspec.Struct, frozen=True, kw_only=True):
    """What the configuration asks for. Sizes in bytes."""

    id: str = "relay"
    workers: int = 1
    cpus: tuple[int, ...] = ()  # workers are pinned in this order; (): not pinned
    data_ip: str = "127.0.0.1"
    numa: str = ""
    data_port: int = 29900  # the agent; worker i is at data_port + 1 + i
    ingress_first: int = 30000
    ingress_ports: int = 1000
    receive_buffer: int = 16 << 20
    send_buffer: int = 16 << 20
    gso: bool = True
    gro: bool = True

    @property
    def ingress(self) -> range:
        """Publishers' ports."""
        return range(self.ingress_first, self.ingress_first + self.ingress_ports)

    @property
    def lane_ports(self) -> range:
        """The workers' ports."""
        return range(self.data_port + 1, self.data_port + 1 + self.workers)


class Granted(msgspec.Struct, frozen=True, kw_only=True):
    """What the kernel gave a socket that asked for the relay's buffers, in bytes as they were asked for."""

    receive: int
    send: int


class Counted(msgspec.Struct, frozen=True, kw_only=True):
    """A counter since boot and how far it went while we looked."""

    total: int
    more: int = 0


class Irq(msgspec.Struct, frozen=True, kw_only=True):
    number: int
    cpus: tuple[int, ...]  # where it may be served
    count: int = 0


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """An ntuple rule that sends a UDP destination port to a queue."""

    port: int
    queue: int


class Nic(msgspec.Struct, frozen=True, kw_only=True):
    """A network card that is up. Pairs are (now, most)."""

    name: str
    driver: str = ""
    speed_mbps: int | None = None
    numa_node: int | None = None  # None too where there is only one
    features: dict[str, bool] | None = None  # as `ethtool -k` names them
    fixed: list[str] = []  # features that cannot be switched
    queues: tuple[int, int] | None = None
    rx_ring: tuple[int, int] | None = None
    tx_ring: tuple[int, int] | None = None
    hashes_ports: bool | None = None
    rules: list[Rule] | None = None
    drops: dict[str, Counted] = {}
    irqs: list[Irq] = []


class Cpu(msgspec.Struct, frozen=True, kw_only=True):
    allowed: tuple[int, ...] = (0,)
    siblings: dict[int, tuple[int, ...]] = {}  # a CPU's core, itself included
    nodes: dict[int, tuple[int, ...]] = {}
    governors: dict[int, str] = {}  # empty: no cpufreq
    isolated: tuple[int, ...] = ()
    irqbalance: bool = False
    clocksource: str = ""
    clocksources: list[str] = []


class Module(msgspec.Struct, frozen=True, kw_only=True):
    """The built extension."""

    path: str
    frame_pointers: bool
    symbols: bool


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    version: int = VERSION
    relay: Relay = Relay()
    root: bool = False
    kernel: str = ""
    interval_s: float = 1.0
    sysctl: dict[str, str] = {}
    granted: Granted | None = None
    udp: dict[str, Counted] = {}  # /proc/net/snmp
    sockets: dict[int, Counted] = {}  # drops of the relay's ports that are open
    softnet_dropped: Counted | None = None
    softnet_squeezed: Counted | None = None
    page_bytes: int = 4096
    conntrack: bool | None = None  # whether it follows connections here
    conntrack_ports: list[int] | None = None  # of ours that it follows
    nics: list[Nic] = []
    cpu: Cpu = Cpu()
    nofile: tuple[int, int] = (1024, 1024)  # soft, hard; -1: no limit
    memlock: tuple[int, int] = (-1, -1)
    module: Module | None = None
    lacks: dict[str, str] = {}  # what could not be looked at -> why

    def sysctl_int(self, name: str) -> int | None:
        """A number of one word; None when it is not there."""
        try:
            return int(self.sysctl[name])
        except (KeyError, ValueError):
            return None

    def sysctl_ints(self, name: str) -> list[int]:
        return [int(word) for word in self.sysctl.get(name, "").split()]


def from_json(data: bytes) -> Facts:
    """ValueError when it is not what `to_json` writes."""
    facts = msgspec.json.decode(data, type=Facts)
    if facts.version != VERSION:
        raise ValueError(f"facts of version {facts.version}, this is version {VERSION}")
    return facts


def to_json(facts: Facts) -> bytes:
    return msgspec.json.format(msgspec.json.encode(facts))
