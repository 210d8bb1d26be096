"""Handshake stamps: larger each time, across restarts and clocks that go back.

A stamp is the wall clock in ns, or one more than the last, whichever is larger. The file holds a bound that no stamp
given so far has reached; it is written ahead, an hour at a time, before the first stamp beyond the old bound is used. A
restart begins at the bound. Where the file is lost and the clock has gone back as well, the responder says what it
last saw (`floor`), which costs one round trip; what one responder says moves no other's stamps.
"""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Callable

AHEAD_NS = 3600 * 1_000_000_000
STAMP_BYTES = 12
_TAI64N = struct.Struct(">QI")
_TAI_EPOCH = (1 << 62) + 10
_SECONDS_MAX = 1 << 33  # the year 2242: beyond it a stamp is nobody's clock


def pack_stamp(stamp_ns: int) -> bytes:
    """TAI64N, 12 bytes, big-endian: what bytes compare as is what stamps compare as."""
    seconds, ns = divmod(stamp_ns, 1_000_000_000)
    return _TAI64N.pack(_TAI_EPOCH + seconds, ns)


def unpack_stamp(data: bytes) -> int | None:
    """ns since 1970 by the wall clock; None where no clock of ours could have made it."""
    seconds, ns = _TAI64N.unpack(data)
    seconds -= _TAI_EPOCH
    return seconds * 1_000_000_000 + ns if 0 <= seconds < _SECONDS_MAX and ns < 1_000_000_000 else None


class Stamps:
    """Gives stamps. `realtime_ns` is the wall clock at `now`; `saved` what the file held, 0 for nothing.

    `save(bound)` must have the bound on disk when it returns; an OSError leaves us without the file's protection, not
    without stamps, and is tried again with the next one.
    """

    def __init__(self, realtime_ns: int, now: int, saved: int = 0, save: Callable[[int], None] | None = None) -> None:
        self._offset = realtime_ns - now
        self._last = saved
        self._bound = saved
        self._save = save
        self.failures = 0

    def next(self, now: int, floor: int = 0) -> int:
        """A stamp larger than all before it, and than `floor`, which holds for one responder and is not saved."""
        stamp = self._last = max(self._offset + now, self._last + 1)
        if stamp > self._bound:
            self._write(stamp + AHEAD_NS)
        return max(stamp, floor + 1)

    def _write(self, bound: int) -> None:
        if self._save is None:
            return
        try:
            self._save(bound)
        except OSError:
            self.failures += 1
        else:
            self._bound = bound


def open_stamps(path: str, realtime_ns: int, now: int) -> Stamps:
    """The stamps of the relay whose bound is kept in this file; a file that is not there yet is made with the first."""
    return Stamps(realtime_ns, now, load_bound(path), lambda bound: save_bound(path, bound))


def load_bound(path: str) -> int:
    """The bound in the file; 0 when there is none, or it says nothing that makes sense."""
    try:
        with open(path, "rb") as file:
            bound = int(file.read(32))
    except (OSError, ValueError):
        return 0
    return bound if 0 <= bound < _SECONDS_MAX * 1_000_000_000 else 0


def save_bound(path: str, bound: int) -> None:
    """Old or new, never half: a temporary file, its bytes on disk, renamed, the directory on disk."""
    temporary = f"{path}.new"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        os.write(fd, b"%d\n" % bound)
        os.fsync(fd)
    finally:
        os.close(fd)
    os.rename(temporary, path)
    with contextlib.suppress(OSError):  # the rename itself is done; not every file system syncs a directory
        directory = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
