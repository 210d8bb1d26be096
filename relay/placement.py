"""Which worker a stream lives on, and which slot numbers are free there."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence


class Slots:
    """Numbers 0..size-1. A number given back is the last to be taken again: late events about it find nobody."""

    def __init__(self, size: int) -> None:
        self._free = deque(range(size))
        self._taken: set[int] = set()

    def take(self) -> int | None:
        """None when all are taken."""
        if not self._free:
            return None
        slot = self._free.popleft()
        self._taken.add(slot)
        return slot

    def give(self, slot: int) -> None:
        self._taken.remove(slot)
        self._free.append(slot)

    def __len__(self) -> int:
        """How many are taken."""
        return len(self._taken)


def choose_worker(loads: Sequence[int], up: Sequence[bool]) -> int:
    """The least loaded, workers that are up first, low numbers first."""
    return min(range(len(loads)), key=lambda worker: (not up[worker], loads[worker], worker))
