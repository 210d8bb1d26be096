"""Times to come back to something, the earliest first. Pure: who asks brings `now`.

Nothing is ever cancelled: an entry counts only while `holds(when, item)` says that the item still means that time, so
a change costs one push and an idle item costs nothing.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from itertools import count
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Agenda(Generic[Item]):
    """`holds(when, item)`: is this still the item's time?"""

    def __init__(self, holds: Callable[[int, Item], bool]) -> None:
        self._holds = holds
        self._heap: list[tuple[int, int, Item]] = []  # the number in the middle keeps equal times in order
        self._order = count()

    def add(self, when: int, item: Item) -> None:
        heapq.heappush(self._heap, (when, next(self._order), item))

    def due(self, now: int) -> Iterator[Item]:
        """Every item whose time has come, each entry once; the loop may add more."""
        while self._heap and self._heap[0][0] <= now:
            when, _, item = heapq.heappop(self._heap)
            if self._holds(when, item):
                yield item

    def deadline(self) -> int | None:
        """When the next item is due; None when nothing waits."""
        while self._heap and not self._holds(self._heap[0][0], self._heap[0][2]):
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def __len__(self) -> int:
        """Entries, those that no longer count included."""
        return len(self._heap)
