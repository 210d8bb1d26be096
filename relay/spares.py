"""The spare: one process that is ready to be any worker. What starts here is what every worker once was.

An interpreter takes 60 ms and more to be there, a prepared process one order: relay/places.py gives it.
"""

from __future__ import annotations

import select
import socket
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

from relay.places import Place
from relay.processes import Child

COMMAND = (sys.executable, "-m", "relay.worker")
START_AFTER_S = 0.05  # a new spare does not compete with the successor's first turns


class Spares:
    """`wanted`: 1, or 0 for none kept in advance. `boot(fd)`: the boot map and the descriptors it names."""

    def __init__(self, wanted: int, poll: select.poll, boot: Callable[[int], tuple[dict[str, Any], Iterable[int]]]):
        self.wanted = wanted
        self.spare = Child("zr-spare")
        self._poll, self._boot = poll, boot

    def give(self, place: Place, *, fresh: bool) -> None:
        """A process for the place: the one that waits, or one started now."""
        spare = self.spare if self.spare.process is not None else self._start(Child("zr-spare"))
        place.order(spare, fresh=fresh)
        self.spare.start_at_s = max(self.spare.start_at_s, time.monotonic() + START_AFTER_S)

    def start_due(self, now: float) -> None:
        if self.wanted > 0 and self.spare.process is None and self.spare.start_at_s <= now:
            self._start(self.spare)

    def wait_s(self, now: float) -> float:
        """Until the next one may start."""
        return max(0.0, self.spare.start_at_s - now) if self.wanted > 0 and self.spare.process is None else 60.0

    def _start(self, child: Child) -> Child:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            boot, fds = self._boot(theirs.fileno())
            child.spawn(COMMAND, boot, [*fds, theirs.fileno()])
        ours.setblocking(False)
        child.ours = ours
        self._poll.register(child.pidfd, select.POLLIN)
        self._poll.register(ours, select.POLLIN)
        return child
