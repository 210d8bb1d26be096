"""`[workers] numa = "nic"`: the CPUs on the side of the machine that the network card is on.

A worker confined to them before it touches its memory has that there, too: the kernel gives a page on the node of who
touches it first (Documentation/admin-guide/mm/numa_memory_policy). Interrupts stay where they are: `zrelay doctor`.
"""

from __future__ import annotations

import os
import socket

from relay import hostfiles
from relay.hostfiles import HERE, Host
from relay.units import Address


def near_cpus(data: Address, host: Host = HERE) -> tuple[int, ...]:
    """CPUs of the node of the card that has this address; of all cards that are up when it is no card's own.

    Empty: nothing is nearer, on a machine of one node or with a card that tells none. ValueError: cards on several.
    """
    cards, nodes = hostfiles.cards(host), hostfiles.nodes(host)
    listening = _cards_of(data.ip)
    own = [name for name in cards if name in listening]
    known = {name: node for name in own or cards if (node := hostfiles.node_of(host, name)) is not None}
    if len(nodes) < 2 or not known:
        return ()
    if len(set(known.values())) > 1:
        where = ", ".join(f"{name} on node {node}" for name, node in sorted(known.items()))
        raise ValueError(f"cards are {where}: listen on one's address, or set workers.cpus")
    allowed = os.sched_getaffinity(0)
    return tuple(cpu for cpu in nodes.get(min(known.values()), ()) if cpu in allowed)


def _cards_of(ip: str) -> set[str]:
    """Those with that address."""
    import psutil  # 20 ms, which only those pay who ask for this

    families = (socket.AF_INET, socket.AF_INET6)
    return {
        name
        for name, known in psutil.net_if_addrs().items()
        if any(each.family in families and each.address.partition("%")[0] == ip for each in known)
    }
