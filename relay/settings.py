"""Every key of the configuration file with its default: one struct a section.

An attribute is called like its key; where a text like "20ms" becomes a number, the attribute may end in the unit. Keys
that do not act yet are accepted, so that files stay valid; NO_EFFECT_YET lists them, `zrelay check` names them.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec import Meta, field

from relay.identity import encode_public, parse_public
from relay.names import name_error
from relay.units import Address, parse_duration_ns, parse_ip, parse_rate_bps, parse_size_bytes

MS, S = 1_000_000, 1_000_000_000
WORKERS_MAX = 62
NO_EFFECT_YET = {
    "links": ("dscp",),
    "registry": ("endpoints", "lease_ttl", "store"),
    "limits": ("max_egress",),
    "drain": ("timeout",),
    "metrics": ("per_stream",),
}  # fmt: skip
PRIVATE = ("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "::1/128", "fc00::/7")


@dataclass(frozen=True)
class Parsed:
    """This key is written as one of `takes` and read by `parse`, which raises ValueError."""

    parse: Callable[[Any], Any]
    takes: tuple[type, ...] = (str,)


def _name(text: str) -> str:
    wrong = name_error(text)
    if wrong is not None:
        raise ValueError(f"{text[:40]!r} {wrong}")
    return text


def _public_key(text: str) -> str:
    return encode_public(parse_public(text)) if text else ""


def _network(text: str) -> str:
    return str(ip_network(text))


def _ports(text: str) -> str:
    low, found, high = text.partition("-")
    numbers = [low, high] if found else [low]
    if not all(number.isascii() and number.isdigit() and 0 < int(number[:6]) <= 65535 for number in numbers):
        raise ValueError(f"{text!r} is no range of ports like '30000-30999'")
    if int(numbers[-1]) < int(low):
        raise ValueError(f"{text!r} ends before it begins")
    return text


def _cpus(text: str) -> tuple[int, ...]:
    """ "2-5,8" -> (2, 3, 4, 5, 8): workers are pinned in this order. "" pins nobody."""
    cpus: list[int] = []
    for part in text.split(",") if text else ():
        low, found, high = part.strip().partition("-")
        if not low.isdigit() or (found and not high.isdigit()) or len(low) > 4 or len(high) > 4:
            raise ValueError(f"{text!r} is no CPU list like '2-5,8'")
        if int(high or low) < int(low):
            raise ValueError(f"{text!r} ends before it begins")
        cpus += range(int(low), int(high or low) + 1)
    if len(set(cpus)) != len(cpus):
        raise ValueError(f"{text!r} names a CPU twice")
    missing = sorted(set(cpus) - os.sched_getaffinity(0))
    if missing:
        raise ValueError(f"CPU {missing[0]} is offline or not ours")
    return tuple(cpus)


def _spin_ns(text: str) -> int:
    """ "block" -> 0; "spin:50us" -> 50_000."""
    if text == "block":
        return 0
    if not text.startswith("spin:"):
        raise ValueError(f"{text!r} is neither 'block' nor 'spin:50us'")
    return parse_duration_ns(text.removeprefix("spin:"))


def _deadline_ns(text: str) -> int:
    value = parse_duration_ns(text)
    if not 10 * MS <= value <= 60 * S:
        raise ValueError(f"{text!r} is not within 10ms and 60s")
    return value


def _hold_ns(text: str) -> int:
    value = parse_duration_ns(text)
    if value > MS:
        raise ValueError(f"{text!r} is longer than 1ms")
    return value


def auto_workers() -> int:
    """Physical cores that are ours, minus one for the agent; 1 to 62."""
    cores = set()
    for cpu in os.sched_getaffinity(0):
        topology = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology")
        try:
            cores.add(tuple((topology / name).read_text() for name in ("physical_package_id", "core_id")))
        except OSError:
            cores.add((str(cpu), ""))
    return max(1, min(len(cores) - 1, WORKERS_MAX))


def state_dir() -> str:
    """What systemd gives us, else /var/lib/zrelay for root, else the user's own (XDG)."""
    given = os.environ.get("STATE_DIRECTORY", "").partition(":")[0]
    if given or os.geteuid() == 0:
        return given or "/var/lib/zrelay"
    base = os.environ.get("XDG_STATE_HOME", "")
    return os.path.join(base if os.path.isabs(base) else os.path.expanduser("~/.local/state"), "zrelay")


def _levels(value: list[Any]) -> tuple[float, ...]:
    if len(value) != 4 or not all(isinstance(share, int | float) for share in value):
        raise ValueError("takes four shares of time, one a level, like [0.75, 0.85, 0.93, 0.98]")
    if not 0.2 <= value[0] <= value[1] <= value[2] <= value[3] <= 2:
        raise ValueError(f"{value!r} does not rise from 0.2 or more to 2 or less (above 1: never)")
    return tuple(float(share) for share in value)


def _count(value: int | str) -> int:
    if value == "auto":
        return auto_workers()
    if not isinstance(value, int) or not 1 <= value <= WORKERS_MAX:
        raise ValueError(f"{value!r} is neither 'auto' nor 1 to {WORKERS_MAX}")
    return value


Name: TypeAlias = Annotated[str, Parsed(_name)]
Addr: TypeAlias = Annotated[Address, Parsed(Address.parse)]
Ip: TypeAlias = Annotated[str, Parsed(parse_ip)]
Duration: TypeAlias = Annotated[int, Parsed(parse_duration_ns)]
Deadline: TypeAlias = Annotated[int, Parsed(_deadline_ns)]
Size: TypeAlias = Annotated[int, Parsed(parse_size_bytes)]
Rate: TypeAlias = Annotated[int, Parsed(parse_rate_bps)]
Ports: TypeAlias = Annotated[str, Parsed(_ports)]
Network: TypeAlias = Annotated[str, Parsed(_network)]
PublicKey: TypeAlias = Annotated[str, Parsed(_public_key)]


class Section(msgspec.Struct, frozen=True, kw_only=True):
    """The base of every section."""


class Node(Section, frozen=True, kw_only=True):
    id: Name = "relay"
    region: str = ""
    site: str = ""
    labels: dict[str, str] = {}
    runtime_dir: str = field(default_factory=lambda: f"/tmp/zrelay-{os.getuid()}")
    state_dir: str = field(default_factory=state_dir)  # survives a reboot


class Listen(Section, frozen=True, kw_only=True):
    data: Addr = Address("127.0.0.1", 29900)
    api: Addr = Address("127.0.0.1", 7481)
    socket: str = field(default_factory=lambda: f"/tmp/zrelay-{os.getuid()}/api.sock")


class Workers(Section, frozen=True, kw_only=True):
    count: Annotated[int, Parsed(_count, (int, str))] = field(default_factory=auto_workers)
    cpus: Annotated[tuple[int, ...], Parsed(_cpus)] = ()
    numa: Literal["", "nic"] = ""  # nic: workers and their memory on the node of the card
    batch: Annotated[int, Meta(ge=1, le=256)] = 64
    gso: bool = True
    gro: bool = True
    spin_ns: Annotated[int, Parsed(_spin_ns)] = field(default=0, name="idle")
    oversubscribe: bool = False
    busy: Annotated[float, Meta(gt=0, le=1)] = 0.7  # from this share of its core on, subscribers go to other workers
    spare: Annotated[int, Meta(ge=0, le=1)] = 1


class Sockets(Section, frozen=True, kw_only=True):
    receive_buffer: Size = 16 << 20
    send_buffer: Size = 16 << 20


class Links(Section, frozen=True, kw_only=True):
    mtu: Annotated[int, Meta(ge=1280, le=1500)] = 1500
    window: Annotated[int, Meta(ge=64, le=8192)] = 1024
    deadline_ns: Deadline = field(default=400 * MS, name="deadline")
    deadline_audio_ns: Deadline = field(default=0, name="deadline_audio")  # these three: like `deadline`
    deadline_key_ns: Deadline = field(default=0, name="deadline_key")
    deadline_delta_ns: Deadline = field(default=0, name="deadline_delta")
    residual: Annotated[float, Meta(gt=0, lt=1)] = 1e-6
    max_overhead: Annotated[float, Meta(ge=1)] = 6.5
    dscp: Annotated[int, Meta(ge=0, le=63)] = 46
    linger_ns: Duration = field(default=5 * S, name="linger")

    def __post_init__(self) -> None:
        for name in ("deadline_audio_ns", "deadline_key_ns", "deadline_delta_ns"):
            if getattr(self, name) == 0:
                msgspec.structs.force_setattr(self, name, self.deadline_ns)

    @property
    def deadlines_ms(self) -> tuple[int, int, int]:
        """Of audio, key frames and the rest, rounded up."""
        audio, key, delta = (
            -(-ns // MS) for ns in (self.deadline_audio_ns, self.deadline_key_ns, self.deadline_delta_ns)
        )
        return audio, key, delta


class Rights(Section, frozen=True, kw_only=True):
    publish: list[str] = field(default_factory=lambda: [""])
    pull: list[str] = field(default_factory=lambda: [""])


class Peer(Section, frozen=True, kw_only=True):
    id: Name
    addresses: list[Addr]
    public_key: PublicKey = ""
    rights: Rights = Rights()
    max_rate_bps: Rate = field(default=0, name="max_rate")

    @property
    def key(self) -> bytes:
        """The public key's 32 bytes; empty when there is none."""
        return parse_public(self.public_key) if self.public_key else b""


class Upstream(Section, frozen=True, kw_only=True):
    peer: Name
    prefix: str = ""


class Ingress(Section, frozen=True, kw_only=True):
    address: Ip = "127.0.0.1"
    ports: Ports = "30000-30999"

    @property
    def port_range(self) -> tuple[int, int]:
        """First and last port."""
        low, _, high = self.ports.partition("-")
        return int(low), int(high or low)


class Egress(Section, frozen=True, kw_only=True):
    allow: list[Network] = field(default_factory=lambda: [*PRIVATE])
    hold_ns: Annotated[int, Parsed(_hold_ns)] = field(default=0, name="hold")


class Security(Section, frozen=True, kw_only=True):
    keyring: str = ""
    cipher: Literal["auto", "aes-128-gcm", "chacha20-poly1305"] = "auto"
    peer_map: str = ""
    peer_map_key: PublicKey = ""
    insecure_plaintext: bool = False

    @property
    def map_key(self) -> bytes:
        """Ed25519: who signs the peer map; empty when nobody does."""
        return parse_public(self.peer_map_key) if self.peer_map_key else b""


class Registry(Section, frozen=True, kw_only=True):
    endpoints: list[str] = []
    lease_ttl_ns: Duration = field(default=6 * S, name="lease_ttl")
    store: str = "memory"


class Limits(Section, frozen=True, kw_only=True):
    max_streams: Annotated[int, Meta(ge=1, le=65536)] = 20000
    max_egress_bps: Rate = field(default=0, name="max_egress")
    memory: Size = 0  # of the whole relay; 0: what the machine or its cgroup has
    overload_enter: Annotated[tuple[float, ...], Parsed(_levels, (list,))] = (0.75, 0.85, 0.93, 0.98)


class Drain(Section, frozen=True, kw_only=True):
    timeout_ns: Duration = field(default=120 * S, name="timeout")


class Log(Section, frozen=True, kw_only=True):
    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "text", "json"] = "auto"


class Metrics(Section, frozen=True, kw_only=True):
    per_stream: bool = False


class Config(Section, frozen=True, kw_only=True):
    """A whole file. `Config()` is a relay on loopback with neither peers nor upstreams."""

    node: Node = field(default_factory=Node)
    listen: Listen = field(default_factory=Listen)
    workers: Workers = field(default_factory=Workers)
    sockets: Sockets = Sockets()
    links: Links = Links()
    peers: list[Peer] = []
    upstreams: list[Upstream] = []
    ingress: Ingress = Ingress()
    egress: Egress = Egress()
    security: Security = Security()
    registry: Registry = Registry()
    limits: Limits = Limits()
    drain: Drain = Drain()
    log: Log = Log()
    metrics: Metrics = Metrics()
