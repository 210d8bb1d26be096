"""Which worker a stream lives on and a subscriber is served by; which slot numbers are free there. Pure.

A worker's cost is what its counters say (busy time in the last second) plus what has joined since they were read, as
predicted: measured cost of a (packet, subscriber) pair times the stream's packets a second. Without the second part a
crowd that joins within one second would all land where the last measurement showed room.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass

BUSY, BUSY_LEFT = 0.70, 6 / 7  # busy from 70 % of its core on, until below six sevenths of that
STEP = 0.05  # costs that differ by less are alike
PAIR_NS = 2000.0  # of one (packet, subscriber) pair, until it was measured
PAIRS_MIN, BUSY_MIN = 1000, 0.02  # in a measurement that says something about a pair
PPS = 200.0  # of a stream that has not shown its rate
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

    @property
    def full(self) -> bool:
        return len(self._taken) == self._size

    def __contains__(self, slot: int) -> bool:
        """Is it taken?"""
        return slot in self._taken

    def __len__(self) -> int:
        """How many are taken."""
        return len(self._taken)


@dataclass
class Cost:
    """One worker's. Shares of its core: 1.0 is all of it."""

    busy: float = 0.0  # measured last
    joined: float = 0.0  # since that measurement, predicted
    joining: float = 0.0  # during it: it has seen them only in part
    pair_ns: float = 0.0  # 0: not measured yet
    hot: bool = False
    read_at: int | None = None
    busy_ns: int = 0
    pairs: int = 0

    @property
    def expected(self) -> float:
        return self.busy + self.joining + self.joined

    def settle(self, busy: float) -> None:
        """Hysteresis: in the default from 70 % on, until it is below 60 %."""
        self.hot = self.expected >= (busy * BUSY_LEFT if self.hot else busy)


class Placement:
    """The costs of all workers of a relay. `busy`: the share of its core from which on a worker is."""

    def __init__(self, workers: int, busy: float = BUSY) -> None:
        self._busy = busy
        self._costs = [Cost() for _ in range(workers)]
        self._shunned: set[int] = set()

    def measured(self, worker: int, busy_ns: int, pairs: int, now: int) -> None:
        """Its counters at `now`: time it was busy and pairs it sent, both since its page was made."""
        cost = self._costs[worker]
        if cost.read_at is not None and now > cost.read_at:
            spent, sent = max(0, busy_ns - cost.busy_ns), pairs - cost.pairs
            cost.busy = min(1.0, spent / (now - cost.read_at))
            if sent >= PAIRS_MIN and cost.busy >= BUSY_MIN:
                pair_ns = spent / sent
                cost.pair_ns += (pair_ns - cost.pair_ns) / 4 if cost.pair_ns else pair_ns
            cost.joining, cost.joined = cost.joined, 0.0
        cost.read_at, cost.busy_ns, cost.pairs = now, busy_ns, pairs
        cost.settle(self._busy)

    def joins(self, worker: int, pps: float) -> None:
        """One more pair for each of `pps` packets a second (0: not known) from now on."""
        cost = self._costs[worker]
        cost.joined += (pps or PPS) * (cost.pair_ns or PAIR_NS) / 1e9
        cost.settle(self._busy)

    def expected(self, worker: int) -> float:
        """Share of its core, joins in flight included."""
        return self._costs[worker].expected

    def is_busy(self, worker: int) -> bool:
        return self._costs[worker].hot

    def shun(self, worker: int, shunned: bool) -> None:
        """Its lane is under attack: new streams go there last."""
        if shunned:
            self._shunned.add(worker)
        else:
            self._shunned.discard(worker)

    def for_stream(self, counts: Sequence[int], up: Sequence[bool]) -> int:
        """Where a new stream goes: to the least busy worker that is up, of several alike to that with least streams."""
        return min(range(len(counts)), key=lambda w: (not up[w], w in self._shunned, self._step(w), counts[w], w))

    def for_sub(self, own: int, near: Collection[int], fits: Collection[int]) -> int:
        """Where a subscriber of a stream on `own` goes: there until that is busy, then where the stream, or one of its
        group, is mirrored already, then to the least busy one. `fits`: workers with room for it."""
        if not fits or (own in fits and not self.is_busy(own)):
            return own
        quiet = [worker for worker in fits if not self.is_busy(worker)]
        if quiet:
            return min(quiet, key=lambda w: (w not in near, self._step(w), w))
        return min(fits, key=lambda w: (self._step(w), w != own, w not in near, w))

    def _step(self, worker: int) -> int:
        return int(self.expected(worker) / STEP)
