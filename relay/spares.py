"""The spare: one process that is ready to be any worker. What starts here is what every worker once was.

An interpreter takes 60 ms and more to be there, a prepared process one order: relay/places.py gives it.
"""

from __future__ import annotations

import contextlib
import select
import socket
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from relay import __version__
from relay.places import Place
from relay.processes import START_AGAIN_S, Child, say
from relay.supervisorconf import SupervisorConf

COMMAND = (sys.executable, "-m", "relay.worker")
START_AFTER_S = 0.05  # a new spare does not compete with the successor's first turns
SAY_AGAIN_S = 60.0


class Spares:
    """Its conf's `spare`: 1, or 0 for none kept in advance. `own`: the supervisor's descriptors, "wake" the agent's."""

    def __init__(
        self, conf: SupervisorConf, poll: select.poll, places: Sequence[Place], own: Mapping[str, int]
    ) -> None:
        self.wanted = conf.spare
        self.spare = Child("zr-spare")
        self._conf, self._poll, self._places, self._own = conf, poll, places, own
        self._booted = False  # a process was started before: what it WARNs of is known
        self._say_from_s = 0.0

    def give(self, place: Place, *, fresh: bool) -> None:
        """A process for the place: the one that waits, or one started now. OSError: there is none."""
        waited = self.spare.process is not None
        spare = self.spare if waited else self._start(Child("zr-spare"))
        place.order(spare, fresh=fresh, waited=waited)
        self.spare.start_at_s = max(self.spare.start_at_s, time.monotonic() + START_AFTER_S)

    def start_due(self, now: float) -> None:
        if self.wanted <= 0 or self.spare.process is not None or self.spare.start_at_s > now:
            return
        try:
            self._start(self.spare)
        except OSError as error:  # the workers do well without; the system may have room again
            self.spare.start_at_s = now + START_AGAIN_S
            if now >= self._say_from_s:
                self._say_from_s = now + SAY_AGAIN_S
                say(f"WARN no spare: {error.strerror}; trying again every {START_AGAIN_S:.0f} s")

    def wait_s(self, now: float) -> float:
        """Until the next one may start."""
        return max(0.0, self.spare.start_at_s - now) if self.wanted > 0 and self.spare.process is None else 60.0

    def _start(self, child: Child) -> Child:
        with socket_pair() as (ours, theirs):
            boot, fds = self._boot(theirs.fileno())
            child.spawn(COMMAND, boot, [*fds, theirs.fileno()])
        self._booted = True
        child.ours = ours
        self._poll.register(child.pidfd, select.POLLIN)
        self._poll.register(ours, select.POLLIN)
        return child

    def _boot(self, ctl: int) -> tuple[dict[str, Any], Iterable[int]]:
        """What a process needs to be any of the workers, and the descriptors it inherits for that."""
        conf, wake = self._conf, self._own["wake"]
        places = [
            {"name": place.name, "lane": place.index, "fds": {**place.fds, "agent_wake": wake}}
            for place in self._places
        ]
        boot = {
            "version": __version__, "ctl": ctl, "places": places, "warn": not self._booted,
            "streams_max": conf.streams_max, "batch": conf.batch, "gso": conf.gso, "spin_ns": conf.spin_ns,
            "hold_ns": conf.hold_ns, "window": conf.window, "deadlines_ms": conf.deadlines_ms,
            "residual": conf.residual, "max_overhead": conf.max_overhead, "overload_enter": conf.overload_enter,
            "peers": [(place.fds["inbox"], place.fds["wake"]) for place in self._places],
            "sealed": bool(conf.keyring), "near": conf.near,
        }  # fmt: skip
        return boot, [wake, *(fd for place in self._places for fd in place.fds.values())]


@contextlib.contextmanager
def socket_pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Ours, which does not block, and a child's, which is closed behind the block; ours too when that fails."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        try:
            ours.setblocking(False)
            yield ours, theirs
        except BaseException:
            ours.close()
            raise
