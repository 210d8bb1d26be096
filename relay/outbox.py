"""Control messages on their way into the lane: none is lost while its session lives.

A conversation takes what its window holds. What it does not take now waits here, in order, and is offered again
whenever acknowledgements may have made room. A session whose peer takes nothing for too long is given up as a whole:
both sides then begin again from what they want, which is the only state there is.
"""

from __future__ import annotations

from collections import deque
from typing import Protocol

from relay.errors import CoreError

WAITING_MAX = 16384  # messages of one session: several for every stream it may carry


class Lane(Protocol):
    """relay._core.ControlLane, as far as it is needed here."""

    def send(self, slot: int, payload: bytes, now: int) -> None:
        """CoreError "full" or "nomem" while there is no room; others are for ever."""


class Outbox:
    """One queue a session."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane
        self._waiting: dict[int, deque[bytes]] = {}

    def send(self, slot: int, payload: bytes, now: int) -> bool:
        """False: too much waits already; the session is to be reset. Raises CoreError when it can never be sent."""
        waiting = self._waiting.get(slot)
        if waiting is None:
            if not self._offer(slot, payload, now):
                self._waiting[slot] = deque([payload])
            return True
        if len(waiting) >= WAITING_MAX:
            return False
        waiting.append(payload)
        return True

    def flush(self, now: int) -> None:
        """Offers what waits, oldest first."""
        for slot, waiting in list(self._waiting.items()):
            while waiting and self._offer(slot, waiting[0], now):
                waiting.popleft()
            if not waiting:
                del self._waiting[slot]

    def drop(self, slot: int) -> None:
        """The session is gone, and with it what was for it."""
        self._waiting.pop(slot, None)

    def __len__(self) -> int:
        """How many messages wait."""
        return sum(len(waiting) for waiting in self._waiting.values())

    def _offer(self, slot: int, payload: bytes, now: int) -> bool:
        try:
            self._lane.send(slot, payload, now)
        except CoreError as error:
            if error.name in ("full", "nomem"):
                return False
            raise
        return True
