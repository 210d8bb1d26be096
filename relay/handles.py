"""The agent's end of one worker: its command and event ring, its counter page, its eventfd.

A command that the ring has no room for waits here and follows in order. A worker that takes nothing for too long is
`behind`: what waits is thrown away and it is told everything again, like a new one, as soon as it takes commands.
"""

from __future__ import annotations

import os
from collections import deque

from relay import _core
from relay.commands import encode
from relay.errors import CoreError

WAITING_MAX = 1 << 18  # records; all that a full relay has to say is less


class WorkerHandle:
    """One worker, through all its lives."""

    def __init__(self, index: int, fds: dict[str, int], streams_max: int) -> None:
        self.index = index
        self._chan_fd = fds["chan"]
        self.page = _core.StatPage(fds["page"], streams_max=streams_max)
        self.wake_fd = fds["wake"]
        self.up = False
        self.restarts = 0
        self.behind = False
        self._wake_owed = True  # an agent before us may have died between taking a sleeper's flag and waking it
        self._waiting: deque[bytes] = deque()
        self._look()

    def _look(self) -> None:
        """`corrupt`: a ring is broken, as one of its two ends sees it; nothing is read or written until `begin`."""
        try:
            self.channel = _core.Channel(self._chan_fd)
        except CoreError:  # under an agent before us, or already again
            self.corrupt = True
        else:
            self.corrupt = False

    def begin(self) -> None:
        """Before its first command: whatever stands in its ring, or what an agent before this one had set up, goes."""
        if self.corrupt:
            self._look()  # the supervisor has laid it out anew
        self._waiting.clear()
        self.behind = False
        self.post(encode("reset"))

    def moved(self) -> None:
        """Another process goes on with the same rings: what waits follows."""
        self.restarts += 1

    def lost(self) -> None:
        self.up = False
        self.restarts += 1
        self._waiting.clear()

    def post(self, record: bytes) -> None:
        """Leaves with the next `flush`."""
        if len(self._waiting) >= WAITING_MAX:
            self._waiting.clear()
            self.behind = True
        if not self.behind:
            self._waiting.append(record)

    def flush(self) -> None:
        """As much as the ring holds; wakes the worker once for all of it."""
        if self.corrupt:
            return
        posted = False
        while self._waiting and self.channel.post(self._waiting[0]):
            self._waiting.popleft()
            posted = True
        if posted and (self.channel.wake_needed() or self._wake_owed):
            self._wake_owed = False
            os.eventfd_write(self.wake_fd, 1)

    def events(self, most: int) -> list[bytes]:
        """What it reports; with nothing to report, the agent is marked asleep on its eventfd."""
        if self.corrupt:
            return []
        events = self.channel.events(most)
        if not events:
            self.channel.sleep()
            events = self.channel.events(most)  # written between the look and the nap
        self.corrupt = self.channel.corrupt
        return events

    @property
    def waiting(self) -> int:
        return len(self._waiting)
