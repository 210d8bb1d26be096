"""`[[peers]] max_rate`: what a peer may be sent a second, shared out over the workers that send to it. Pure.

Each worker keeps a bucket of its own (csrc/forward/zr_lane_rate.c), so together they never exceed the rate: those that
serve a child of that peer have equal shares, told anew whenever such a worker comes or goes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

RATE_MIN = 64_000  # of a share, bits/s: ZR_LANE_RATE_MIN

Tell = Callable[[int, int, int], None]  # worker, session slot, bits/s


class Rates:
    """`rate_of(session)` is 0 where there is no bound."""

    def __init__(self, rate_of: Callable[[int], int], tell: Tell) -> None:
        self._rate_of, self._tell = rate_of, tell
        self._serving: dict[int, Counter[int]] = {}  # by session: children by worker

    def joins(self, session: int, worker: int) -> None:
        """Before the worker is told of the child."""
        serving = self._serving.setdefault(session, Counter())
        serving[worker] += 1
        if serving[worker] == 1:
            self._share(session)

    def leaves(self, session: int, worker: int) -> None:
        serving = self._serving.get(session)
        if serving is None or worker not in serving:
            return
        serving[worker] -= 1
        if serving[worker] > 0:
            return
        del serving[worker]
        if serving:
            self._share(session)
        else:
            del self._serving[session]

    def again(self) -> None:
        """The peers' rates may have changed."""
        for session, serving in self._serving.items():
            for worker in serving:
                self._tell(worker, session, self._part(session, len(serving)))

    def _share(self, session: int) -> None:
        serving = self._serving[session]
        if self._rate_of(session):
            for worker in serving:
                self._tell(worker, session, self._part(session, len(serving)))

    def _part(self, session: int, workers: int) -> int:
        rate = self._rate_of(session)
        return max(rate // workers, RATE_MIN) if rate else 0
