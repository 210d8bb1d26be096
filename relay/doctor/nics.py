"""The network cards that are up, from /sys, /proc/interrupts and the kernel's ethtool interface."""

from __future__ import annotations

import re
from pathlib import Path

from relay.doctor.ethtool import Ethtool
from relay.doctor.facts import Counted, Irq, Nic, Rule
from relay.hostfiles import NETWORK, Host, cpu_list, node_of, read

_DROPS = ("rx_dropped", "rx_missed_errors", "rx_fifo_errors", "rx_over_errors", "tx_dropped", "tx_fifo_errors")


def drop_counts(host: Host, name: str) -> dict[str, int]:
    counts = {word: host.read(f"{NETWORK}/{name}/statistics/{word}") for word in _DROPS}
    return {word: int(text) for word, text in counts.items() if text.isdigit()}


def nic(host: Host, name: str, before: dict[str, int], ethtool: Ethtool) -> Nic:
    """Everything about a card; `before`: its drops when we began to look."""
    card = host.path(NETWORK) / name
    now, rings, rules = drop_counts(host, name), ethtool.rings(name), ethtool.rules(name)
    features = ethtool.features(name)
    speed = read(card / "speed")
    return Nic(
        name=name,
        driver=_link(card / "device" / "driver"),
        speed_mbps=int(speed) if speed.isdigit() else None,  # -1: it does not know
        numa_node=node_of(host, name),
        features=None if features is None else {word: on for word, (on, _) in features.items()},
        fixed=[word for word, (_, free) in (features or {}).items() if not free],
        queues=ethtool.queues(name),
        rx_ring=rings[0] if rings else None,
        tx_ring=rings[1] if rings else None,
        hashes_ports=ethtool.hashes_ports(name),
        rules=None if rules is None else [Rule(port=port, queue=queue) for port, queue in rules],
        drops={word: Counted(total=total, more=total - before.get(word, total)) for word, total in now.items()},
        irqs=_irqs(host, name),
    )


def _irqs(host: Host, name: str) -> list[Irq]:
    """By the device's own list; for virtio and others whose interrupts belong to a parent, by name."""
    card = host.path(NETWORK) / name / "device"
    numbers = {path.name for up in ("", "..") for path in (card / up / "msi_irqs").glob("*")}
    names = [name]
    device = _link(card)
    if device.startswith("virtio"):
        names.append(device)
    found = []
    for line in host.read("/proc/interrupts").splitlines():
        number, _, rest = line.strip().partition(":")
        words = rest.split()
        label = words[-1] if words else ""
        if not number.isdigit():
            continue
        if number in numbers or any(re.search(rf"(^|[^\w]){re.escape(known)}(\W|$)", label) for known in names):
            cpus = cpu_list(host.read(f"/proc/irq/{number}/smp_affinity_list"))
            count = sum(int(word) for word in words if word.isdigit())
            if cpus and "config" not in label:
                found.append(Irq(number=int(number), cpus=cpus, count=count))
    return found


def _link(path: Path) -> str:
    return path.resolve().name if path.is_symlink() else ""
