"""What the supervisor needs of the configuration."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from relay import numa
from relay.config import Config
from relay.processes import say
from relay.units import Address

STREAMS_PER_WORKER_MAX = 16384


@dataclass(frozen=True)
class SupervisorConf:
    """Of one relay. `cpus`: worker i runs on cpus[i]; empty: nobody is pinned. `near`: where processes that are or may
    become workers begin, so that their memory lies there, and stay unless pinned; empty: anywhere."""

    runtime_dir: str
    data: Address
    workers: int = 1
    spare: int = 1  # processes that wait to replace a worker
    cpus: tuple[int, ...] = ()
    near: tuple[int, ...] = ()
    batch: int = 64
    gso: bool = True
    gro: bool = True
    spin_ns: int = 0
    hold_ns: int = 0
    window: int = 1024  # segments per conversation
    deadlines_ms: tuple[int, int, int] = (400, 400, 400)  # audio, key frames, the rest
    residual: float = 1e-6
    max_overhead: float = 6.5
    overload_enter: tuple[float, ...] = (0.75, 0.85, 0.93, 0.98)  # share of time that is work, of levels 1 to 4
    receive_buffer: int = 0
    send_buffer: int = 0
    streams_max: int = 1024  # of one worker
    insecure_plaintext: bool = False
    keyring: str = ""  # empty: no keys, plaintext
    config_path: str | None = None
    die_with_parent: bool = False
    agent_command: tuple[str, ...] = (sys.executable, "-m", "relay.node")

    @classmethod
    def of(cls, config: Config, path: str | None, *, die_with_parent: bool = False) -> SupervisorConf:
        """From a whole configuration; `path` is its file, for the agent."""
        workers = config.workers
        return cls(
            runtime_dir=config.node.runtime_dir,
            data=config.listen.data,
            workers=workers.count,
            spare=workers.spare,
            cpus=workers.cpus,
            near=_near(config),
            batch=workers.batch,
            gso=workers.gso,
            gro=workers.gro,
            spin_ns=workers.spin_ns,
            hold_ns=config.egress.hold_ns,
            window=config.links.window,
            deadlines_ms=config.links.deadlines_ms,
            residual=config.links.residual,
            max_overhead=config.links.max_overhead,
            overload_enter=tuple(config.limits.overload_enter),
            receive_buffer=config.sockets.receive_buffer,
            send_buffer=config.sockets.send_buffer,
            streams_max=min(config.limits.max_streams, STREAMS_PER_WORKER_MAX),
            insecure_plaintext=config.security.insecure_plaintext,
            keyring="" if config.security.insecure_plaintext else config.security.keyring,
            config_path=path,
            die_with_parent=die_with_parent,
        )


def _near(config: Config) -> tuple[int, ...]:
    """By [workers] numa, which is a wish: what cannot be known or is against `cpus` is said."""
    if config.workers.numa != "nic":
        return ()
    try:
        near = numa.near_cpus(config.listen.data)
    except ValueError as error:
        say(f'WARN [workers] numa = "nic": {error}')
        return ()
    far = [cpu for cpu in config.workers.cpus if near and cpu not in near]
    if far:
        cpus = ", ".join(map(str, far))
        say(f'WARN [workers] numa = "nic": the card is not on the node of CPU {cpus}, which cpus names')
    return near
