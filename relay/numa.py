"""`[workers] numa = "nic"`: the CPUs on the side of the machine that the network card is on.

A worker confined to them before it touches its memory has that there, too: the kernel gives a page on the node of who
touches it first (Documentation/admin-guide/mm/numa_memory_policy). Interrupts stay where they are: `zrelay doctor`.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable

import psutil

from relay import hostfiles
from relay.hostfiles import HERE, NETWORK, Host, cpu_list
from relay.units import Address

_NODES = "/sys/devices/system/node"


def near_cpus(data: Address, host: Host = HERE) -> tuple[int, ...]:
    """CPUs of the node of the card that has this address; of all cards that are up when it is no card's own.

    Empty: nothing is nearer, on a machine of one node or with a card that tells none. ValueError: cards on several.
    """
    cards = hostfiles.cards(host)
    own = [name for name in cards if data.ip in _addresses(name)]
    nodes = {name: node for name in own or cards if (node := host.read(f"{NETWORK}/{name}/device/numa_node"))}
    known = {name: int(node) for name, node in nodes.items() if node.isdigit()}
    if len(list(host.path(_NODES).glob("node[0-9]*"))) < 2 or not known:
        return ()
    if len(set(known.values())) > 1:
        where = ", ".join(f"{name} on node {node}" for name, node in sorted(known.items()))
        raise ValueError(f"cards are {where}: listen on one's address, or set workers.cpus")
    there = cpu_list(host.read(f"{_NODES}/node{min(known.values())}/cpulist"))
    allowed = os.sched_getaffinity(0)
    return tuple(cpu for cpu in there if cpu in allowed)


def _addresses(card: str) -> Iterable[str]:
    known = psutil.net_if_addrs().get(card, [])
    return [each.address.partition("%")[0] for each in known if each.family in (socket.AF_INET, socket.AF_INET6)]
