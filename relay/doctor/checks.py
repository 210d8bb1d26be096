"""All checks by name, in the order they are shown: what loses packets first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from relay.doctor import cpu, kernel, nic, profiling, sockets
from relay.doctor.facts import Facts
from relay.doctor.finding import Finding

Check = Callable[[Facts], Finding | list[Finding]]

CHECKS: dict[str, Check] = {
    "udp-receive-drops": sockets.udp_receive_drops,
    "udp-send-drops": sockets.udp_send_drops,
    "udp-checksums": sockets.udp_checksums,
    "relay-sockets": sockets.own_sockets,
    "socket-buffers": sockets.buffers_granted,
    "buffer-limits": sockets.buffer_limits,
    "udp-memory": sockets.udp_memory,
    "softnet": sockets.softnet,
    "conntrack": sockets.conntrack,
    "nic-drops": nic.of_each(nic.card_drops, "nic drops"),
    "offloads": nic.of_each(nic.offloads, "offloads"),
    "nic-queues": nic.of_each(nic.queues, "nic queues"),
    "rx-hash": nic.of_each(nic.flow_hash, "rx hash"),
    "lane-rules": nic.of_each(nic.lane_rules, "lane rules"),
    "nic-rings": nic.of_each(nic.rings, "nic rings"),
    "worker-cpus": cpu.worker_cpus,
    "irq-affinity": nic.of_each(cpu.irq_affinity, "irq affinity"),
    "irqbalance": cpu.irqbalance,
    "numa": nic.of_each(cpu.numa, "numa"),
    "governor": cpu.governor,
    "smt": cpu.smt,
    "isolated-cpus": cpu.isolated,
    "clock-source": cpu.clocksource,
    "kernel": kernel.version,
    "open-files": kernel.open_files,
    "locked-memory": kernel.locked_memory,
    "perf-events": profiling.perf_events,
    "kernel-names": profiling.kernel_names,
    "frame-pointers": profiling.frame_pointers,
}


def chosen(word: str) -> list[str]:
    """Names of the checks meant by a number (from 1), a name or the beginning of one. ValueError: none."""
    names = list(CHECKS)
    if word.isascii() and word.isdigit() and 1 <= int(word[:4]) <= len(names):
        return [names[int(word[:4]) - 1]]
    found = [word] if word in CHECKS else [name for name in names if name.startswith(word)]
    if not found or not word:
        raise ValueError(f"{word!r} is no check: 1 to {len(names)}, or {', '.join(names)}")
    return found


def run(facts: Facts, names: list[str] | None = None) -> list[Finding]:
    """Their findings, in the order of CHECKS; several of a check that looks at each card."""
    findings: list[Finding] = []
    for name, check in CHECKS.items():
        if names is None or name in names:
            said = check(facts)
            findings += [replace(one, check=name) for one in ([said] if isinstance(said, Finding) else said)]
    return findings
