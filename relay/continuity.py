"""Has this machine gone on without a break? After a pause, a copy or a fork no key of before may be used again.

    suspended, paused           CLOCK_BOOTTIME went on, CLOCK_MONOTONIC stood: their difference is constant otherwise
    restored, cloned (VM)       the hypervisor gave the machine another generation id (VMGENID), where it shows one
    moved (checkpoint, CRIU)    the kernel's boot id is another one
    forked                      the process id is another one

`Continuity` decides and is pure, `moment` reads files, `Guard` acts. A copy of a machine whose hypervisor says nothing
of it, and that was never suspended, cannot be told from the original: its relay needs keys of its own.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

SLACK_NS = 1_000_000  # what rounding may do to the difference of the two clocks, and more
BOOT_ID = "/proc/sys/kernel/random/boot_id"
# QEMU's copy of the page that holds the id, for root with the module qemu_fw_cfg.
GENERATION = "/sys/firmware/qemu_fw_cfg/by_name/etc/vmgenid_guid/raw"
FILE_BYTES_MAX = 64


REASONS = {
    "pause": "this machine was suspended or paused",
    "clone": "this machine was restored or copied (its generation id is another)",
    "boot": "this process goes on under another kernel (its boot id is another)",
    "fork": "this process is a copy of the relay's agent",
}


class Moment(NamedTuple):
    """What is seen at one moment. CLOCK_BOOTTIME was read between two looks at CLOCK_MONOTONIC, all in ns."""

    before: int
    boot: int
    after: int
    pid: int
    boot_id: bytes = b""  # empty: not readable
    generation: bytes = b""  # the same


class Continuity:
    """Sees moment after moment. Being put aside between two readings of the clocks is not mistaken for a pause."""

    def __init__(self, first: Moment) -> None:
        self._begin(first)

    def _begin(self, moment: Moment) -> None:
        self._last = moment
        # The difference of the clocks lies within these; every further moment makes that narrower.
        self._least, self._most = moment.boot - moment.after, moment.boot - moment.before

    def broken(self, moment: Moment) -> str | None:
        """Why it has not gone on since the last moment, "pause", "clone", "boot" or "fork"; None when it has.

        After a break all is compared with what there is now: each is told once.
        """
        why = self._why(moment)
        if why is not None:
            self._begin(moment)
            return why
        last, self._last = self._last, moment
        if not moment.boot_id:
            self._last = self._last._replace(boot_id=last.boot_id)
        if not moment.generation:
            self._last = self._last._replace(generation=last.generation)
        self._least = max(self._least, moment.boot - moment.after)
        self._most = min(self._most, moment.boot - moment.before)
        return None

    def _why(self, moment: Moment) -> str | None:
        least, most = moment.boot - moment.after, moment.boot - moment.before
        for why, then, now in (
            ("fork", self._last.pid, moment.pid),
            ("boot", self._last.boot_id, moment.boot_id),
            ("clone", self._last.generation, moment.generation),
        ):
            if then and now and then != now:
                return why
        return "pause" if least > self._most + SLACK_NS or most < self._least - SLACK_NS else None


class Guard:
    """`check` now and then: after a break `discard(now)` ends all sessions. `counts`: breaks so far, by why."""

    def __init__(self, look: Callable[[], Moment], discard: Callable[[int], None], say: Callable[..., Any]) -> None:
        self._look, self._discard, self._say = look, discard, say
        self._continuity = Continuity(look())
        self.counts: Counter[str] = Counter({why: 0 for why in REASONS})

    def check(self, now: int) -> None:
        why = self._continuity.broken(self._look())
        if why is not None:
            self.counts[why] += 1
            self._say("warning", "all sessions begin again", reason=why, detail=REASONS[why], code="ZR1012")
            self._discard(now)


def moment(before: int, boot: int, after: int) -> Moment:
    """This moment here, by these three readings of the clocks."""
    return Moment(before, boot, after, os.getpid(), _read(BOOT_ID), _read(GENERATION))


def _read(path: str) -> bytes:
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read(FILE_BYTES_MAX) or b""
    except OSError:
        return b""
