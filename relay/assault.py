"""A lane that strangers flood: seen in its worker's counters, left by its peers' conversations. Pure.

    counters, 4 a second ──▶ forged or junk above a threshold ──▶ attacked for 30 s ──▶ its conversations move to
                                                                  the least busy lane that is not

Whoever knows a lane's port and index can make its worker try a tag for each datagram, or fill its socket; a lane is one
port, so peers are asked to send elsewhere: `pull` names the receiving lane, and the answer the sending one, where the
acknowledgements go. relay/moves.py has pulled streams ask again, relay/shelters.py the children of published ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

LOOK_NS = 250_000_000
FORGED_PPS = 20_000  # wrong tags, 0.5 to 1 us each: from one to two percent of a core
LOST_PPS, JUNK_PPS = 100, 1_000  # the kernel dropped what the socket did not hold, and so much of the rest was refused
REST_NS = 30_000_000_000  # nothing is placed on the lane for so long after the last time it was seen so
JUNK = ("short", "type", "version", "lane", "noindex", "src", "auth", "ratelimit")


@dataclass
class Seen:
    at: int
    forged: int
    junk: int
    lost: int


class Assault:
    """The lanes of all workers of a relay."""

    def __init__(self, workers: int) -> None:
        self._seen: list[Seen | None] = [None] * workers
        self._until = [0] * workers

    def look(self, worker: int, drops: Mapping[str, int], lost: int, now: int) -> bool:
        """True when an attack on its lane has begun. `drops`: by id, `lost`: by the kernel, since its page was made."""
        junk = sum(drops.get(word, 0) for word in JUNK)
        before, seen = self._seen[worker], Seen(now, drops.get("auth", 0), junk, lost)
        if before is not None and now <= before.at:
            return False
        self._seen[worker] = seen
        if before is None or seen.forged < before.forged or seen.junk < before.junk or seen.lost < before.lost:
            return False  # another page: counted anew
        if not self._attacks(before, seen):
            return False
        begun = not self.attacked(worker, now)
        self._until[worker] = now + REST_NS
        return begun

    def attacked(self, worker: int, now: int) -> bool:
        return now < self._until[worker]

    @staticmethod
    def _attacks(before: Seen, seen: Seen) -> bool:
        span = seen.at - before.at

        def pps(count: int) -> float:
            return count * 1e9 / span

        floods = pps(seen.lost - before.lost) >= LOST_PPS and pps(seen.junk - before.junk) >= JUNK_PPS
        return floods or pps(seen.forged - before.forged) >= FORGED_PPS
