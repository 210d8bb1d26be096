"""How often a peer that does not answer is tried again (hellos and initiations)."""

from __future__ import annotations

import random

MS = 1_000_000
SECOND = 1000 * MS


def retry_ns(rng: random.Random, since_ns: int) -> int:
    """100 ms ± 33 % for 3 s, 250 ms for 30 s, then growing to 5 s, for ever. `since_ns`: how long it has gone on."""
    if since_ns < 3 * SECOND:
        return int(100 * MS * rng.uniform(0.67, 1.33))
    if since_ns < 33 * SECOND:
        return int(250 * MS * rng.uniform(0.67, 1.33))
    return int(min(5 * SECOND, 250 * MS + (since_ns - 33 * SECOND) // 4) * rng.uniform(0.8, 1.0))
