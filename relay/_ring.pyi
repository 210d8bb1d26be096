"""What `zrelay bench ring` drives: two ends of two rings, each end called from a thread of its own, without the GIL.

Times are nanoseconds. Every call ends by itself: after `limit_ns` it gives up and answers what it has.
"""

from array import array
from typing import final

@final
class Rings:
    """A ring there and one back, in one shared region as a worker and the agent have them. Sizes as in zr_spsc.h.

    CoreError "inval": out of range.
    """

    def __new__(cls, slots: int, record_bytes: int) -> Rings: ...
    def alone(self, records: int) -> int:
        """One thread is both ends: how long `records` claims, commits, peeks and releases took."""

    def produce(self, records: int, burst: int, yields: bool, limit_ns: int) -> tuple[int, int, int]:
        """Fills the ring there: (began, ended, records). `burst` records are committed before the next look for room.

        `yields`: gives the core away when the ring is full; with two threads on one core nothing else works.
        """

    def consume(self, records: int, yields: bool, limit_ns: int) -> tuple[int, int, int, int]:
        """Empties it: (began, ended, records, of them out of order)."""

    def ping(self, rounds: int, yields: bool, wake: bool, pause_ns: int, limit_ns: int) -> tuple[array[int], int]:
        """Sends one record and waits for it to come back: (round trips, eventfd writes).

        `wake`: both ends sleep on their eventfd instead of spinning. `pause_ns`: before each round, so that the other
        end is asleep.
        """

    def pong(self, rounds: int, yields: bool, wake: bool, limit_ns: int) -> int:
        """Answers each; how many."""
