"""Which worker a stream lives on, and which slot numbers are free there."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

REST = 64  # numbers that lie unused before one of them is taken again


class Slots:
    """Numbers 0..size-1. One given back rests until REST others were given back: late events about it find nobody.

    No higher number than needed is ever taken: a worker's memory is touched as far as its highest slot.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._next = 0  # from here on never taken
        self._given: deque[int] = deque()
        self._taken: set[int] = set()

    def take(self) -> int | None:
        """None when all are taken."""
        if self._next < self._size and len(self._given) <= REST:
            slot = self._next
            self._next += 1
        elif self._given:
            slot = self._given.popleft()
        else:
            return None
        self._taken.add(slot)
        return slot

    def give(self, slot: int) -> None:
        self._taken.remove(slot)
        self._given.append(slot)

    def __len__(self) -> int:
        """How many are taken."""
        return len(self._taken)


def choose_worker(loads: Sequence[int], up: Sequence[bool]) -> int:
    """The least loaded, workers that are up first, low numbers first."""
    return min(range(len(loads)), key=lambda worker: (not up[worker], loads[worker], worker))
