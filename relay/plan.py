"""`zrelay plan`: the memory, open files and ports that a configuration asks for, before anything starts.

A worker's memory is what the C core says it reserves: its pools are counted at start and nothing is allocated later,
so this is what it can come to use at most. It is touched, and costs, only as far as traffic needs it.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from relay import _core
from relay.config import Config, ConfigError, load
from relay.supervisor import CHAN_SLOTS, FILES_SPARE, SupervisorConf
from relay.units import format_size_bytes

EX_CONFIG = 78
# Beside what the core reserves, resident: measured, rounded up. The agent's grows with its streams.
PYTHON_WORKER, PYTHON_AGENT, PYTHON_SUPERVISOR = 16 << 20, 64 << 20, 24 << 20
AGENT_PER_STREAM = 16 << 10
_UNLIMITED = 1 << 60  # a cgroup of the first version says "no limit" with a huge number


@dataclass(frozen=True)
class Plan:
    """What a relay of one configuration needs. Bytes."""

    workers: int
    streams_max: int  # of one worker
    worker: dict[str, int]  # one worker, by what it is for
    agent: dict[str, int]
    supervisor: int
    socket_buffers: int  # of links and egress at most; kernel memory, not the relay's
    memory: int  # that there is
    memory_from: str
    files: int  # one worker's descriptors, the most of any process
    files_limit: int
    ports: dict[str, int]

    @classmethod
    def of(cls, config: Config) -> Plan:
        """For this machine. CoreError when the core refuses the sizes."""
        conf = SupervisorConf.of(config, None)
        worker = _core.worker_parts(
            streams_max=conf.streams_max, window=conf.window, batch=conf.batch, chan_slots=CHAN_SLOTS
        )
        worker["interpreter and libraries"] = PYTHON_WORKER
        memory, source = (config.limits.memory, "[limits] memory") if config.limits.memory else memory_here()
        low, high = config.ingress.port_range
        return cls(
            workers=conf.workers,
            streams_max=conf.streams_max,
            worker=worker,
            agent={
                "control lane": _core.control_lane_bytes(),
                "records of streams": conf.workers * conf.streams_max * AGENT_PER_STREAM,
                "interpreter and libraries": PYTHON_AGENT,
            },
            supervisor=PYTHON_SUPERVISOR,
            socket_buffers=2 * (1 + 2 * conf.workers) * (conf.receive_buffer + conf.send_buffer),
            memory=memory,
            memory_from=source,
            files=conf.streams_max + FILES_SPARE,
            files_limit=_files_limit(),
            ports={"links": 1 + conf.workers, "ingress": high - low + 1, "api": 1},
        )

    @property
    def worker_bytes(self) -> int:
        return sum(self.worker.values())

    @property
    def total(self) -> int:
        """Of all processes when every pool is full."""
        return self.workers * self.worker_bytes + sum(self.agent.values()) + self.supervisor

    @property
    def fits(self) -> bool:
        return self.total <= self.memory

    def too_much(self) -> str | None:
        """Why the relay cannot start, in one line; None when it can."""
        if self.fits:
            return None
        workers = "1 worker" if self.workers == 1 else f"{self.workers} workers, each"
        return (
            f"{workers} for {self.streams_max} streams: the relay needs up to {size(self.total)}, "
            f"{self.memory_from} is {size(self.memory)}: {self.advice()}; zrelay plan FILE has the budget (ZR1002)"
        )

    def advice(self) -> str:
        """What to change so that it fits."""
        fixed = self.supervisor + sum(self.agent.values()) - self.agent["records of streams"]
        each = self.worker_bytes + self.streams_max * AGENT_PER_STREAM
        workers = max(0, self.memory - fixed) // each
        if workers >= 1:
            return f"set workers.count = {workers}, or lower limits.max_streams"
        return f"set limits.max_streams below {self.streams_max}, or give it more memory"

    def figures(self) -> dict[str, Any]:
        """The JSON."""
        return {
            "workers": self.workers,
            "streams_per_worker": self.streams_max,
            "worker_bytes": self.worker,
            "worker_total_bytes": self.worker_bytes,
            "agent_bytes": self.agent,
            "supervisor_bytes": self.supervisor,
            "total_bytes": self.total,
            "memory_bytes": self.memory,
            "memory_from": self.memory_from,
            "socket_buffers_max_bytes": self.socket_buffers,
            "files": self.files,
            "files_limit": self.files_limit,
            "ports": self.ports,
            "fits": self.fits,
            "advice": None if self.fits else self.advice(),
        }


def size(value: int) -> str:
    """For a person: "440.1 MiB"."""
    for unit, name in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if value >= unit:
            return f"{value / unit:.1f} {name}"
    return format_size_bytes(value)


def memory_here() -> tuple[int, str]:
    """What this process and its children may have: (bytes, where that is said)."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limits = [(total, "this machine's memory")]
    limits += [(limit, "the cgroup's limit") for limit in _cgroup_limits(Path("/proc/self/cgroup"))]
    return min(limits)


def _cgroup_limits(own: Path, root: Path = Path("/sys/fs/cgroup")) -> list[int]:
    """Of our cgroup and those around it, of either version."""
    found = []
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        base, name = (root / "memory", "memory.limit_in_bytes") if controllers else (root, "memory.max")
        inside = Path(path.lstrip("/"))
        for folder in (inside, *inside.parents):
            try:
                text = (base / folder / name).read_text().strip()
            except OSError:
                continue
            if text.isdigit() and int(text) < _UNLIMITED:
                found.append(int(text))
    return found


def _files_limit() -> int:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return _UNLIMITED if hard == resource.RLIM_INFINITY else hard


@click.command()
@click.argument("path", metavar="FILE", required=False)
@click.option("--json", "as_json", is_flag=True)
def plan(path: str | None, as_json: bool) -> None:
    """The memory, files and ports a configuration file asks for, before anything starts.

    Exit 1 when it does not fit; `zrelay run` refuses such a file. Without FILE: the defaults.
    """
    try:
        config = load(path) if path is not None else Config()
    except ConfigError as error:
        click.echo(f"zrelay: {error}", err=True)
        sys.exit(error.exit_code)
    made = Plan.of(config)
    click.echo(json.dumps(made.figures()) if as_json else "\n".join(table(made)))
    sys.exit(0 if made.fits else 1)


def table(made: Plan) -> list[str]:
    """For a person; what takes the most comes first."""

    def rows(parts: dict[str, int]) -> list[str]:
        ordered = sorted(parts.items(), key=lambda part: -part[1])
        return [f"  {name:28} {size(value):>11}" for name, value in ordered if value >= 1 << 10]

    lines = [f"one worker, {made.streams_max} streams", *rows(made.worker), "agent", *rows(made.agent), ""]
    lines += [
        f"{'workers':30} {size(made.workers * made.worker_bytes):>11}   {made.workers} x {size(made.worker_bytes)}",
        f"{'agent':30} {size(sum(made.agent.values())):>11}",
        f"{'supervisor':30} {size(made.supervisor):>11}",
        f"{'all, when every pool is full':30} {size(made.total):>11}",
        f"{made.memory_from:30} {size(made.memory):>11}   {'fits' if made.fits else 'DOES NOT FIT'}",
        f"{'socket buffers, at most':30} {size(made.socket_buffers):>11}   the kernel's, bounded by net.ipv4.udp_mem",
    ]
    enough = made.files <= made.files_limit
    allowed = "no limit" if made.files_limit == _UNLIMITED else str(made.files_limit)
    lines += [
        f"{'open files of a worker':30} {made.files:>11}   {'' if enough else 'WARN '}allowed: {allowed}",
        f"{'UDP ports':30} {made.ports['links'] + made.ports['ingress']:>11}   "
        f"{made.ports['links']} links, {made.ports['ingress']} ingress",
    ]
    streams = made.workers * made.streams_max
    if made.ports["ingress"] < streams:
        lines.append(f"{'':30} {'':>11}   {made.ports['ingress']} streams can be published here, {streams} forwarded")
    if not made.fits:
        lines += ["", f"It does not fit: {made.advice()}."]
    return lines
