"""What the supervisor tells the agent, in order and none lost, however slowly it reads.

Whatever does not fit into the socket waits, and while anything waits nothing more is read from the agent: it gets no
further answers than it takes, so that what can pile up are the workers' comings and goings alone.
"""

from __future__ import annotations

import contextlib
import select
import socket
from collections import deque
from typing import Any

import msgpack

WAITING_MAX = 64  # behind what the socket's own buffer holds, which is more


class Mailbox:
    """Of one agent after the other; `poll` watches its socket."""

    def __init__(self, poll: select.poll) -> None:
        self._poll = poll
        self._socket: socket.socket | None = None
        self._waiting: deque[bytes] = deque()

    def open(self, to: socket.socket) -> None:
        """A new agent's socket: what was for the one before is forgotten."""
        self._socket = to
        self._waiting.clear()
        self._poll.register(to, select.POLLIN)

    def close(self) -> None:
        """The agent is given up: what is said is for nobody, until the next one's socket is there."""
        self._socket = None
        self._waiting.clear()

    def say(self, message: dict[str, Any]) -> bool:
        """False: it takes nothing, and too much waits already."""
        if self._socket is None:
            return True
        if len(self._waiting) >= WAITING_MAX:
            return False
        self._waiting.append(msgpack.packb(message))
        self.flush()
        return True

    def flush(self) -> None:
        """Writes what waits, as far as there is room."""
        if self._socket is None:
            return
        try:
            while self._waiting:
                self._socket.send(self._waiting[0])
                self._waiting.popleft()
        except BlockingIOError:
            pass
        except OSError:  # it is dying; its pidfd will say so
            self._waiting.clear()
        with contextlib.suppress(FileNotFoundError):  # no longer watched
            self._poll.modify(self._socket, select.POLLOUT if self._waiting else select.POLLIN)

    def __len__(self) -> int:
        """How many messages wait."""
        return len(self._waiting)
