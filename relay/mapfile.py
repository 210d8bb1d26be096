"""The peer map's file as the agent sees it: read again when it changes, the last good map kept.

    file ──▶ size, signature, version, date ──▶ current map ──▶ kept copy, in the relay's state directory
                        └─ refused: said and counted; the current map stays

The kept copy is what the next agent begins with, so that neither a damaged file nor an old map put in the place of the
new one takes effect by a restart. It does not expire: a relay goes on with what it knows.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from datetime import UTC, datetime

from relay.peermap import MAP_BYTES_MAX, MapError, PeerMap, verify

NEVER_EXPIRED = datetime.min.replace(tzinfo=UTC)
Say = Callable[..., None]  # (level, event, **fields)


class MapFile:
    """`say` is told of every map that is taken or refused. No method raises."""

    def __init__(self, path: str, public_key: bytes, kept_path: str, say: Say) -> None:
        self._path, self._key, self._kept_path, self._say = path, public_key, kept_path, say
        self._seen: tuple[int, ...] | None = None  # of the file that was looked at last; None: there was none
        self._data = b""
        self._expiry_said = False
        self.current: PeerMap | None = None
        self.refused = 0

    def start(self, now: datetime) -> None:
        """The kept map, then the file."""
        with contextlib.suppress(OSError):
            data = read_map(self._kept_path)
            try:
                self.current, self._data = verify(data, self._key, NEVER_EXPIRED), data
            except MapError:  # of another key, or half written: as if there were none
                self._say("warning", "kept peer map ignored", path=self._kept_path)
        self._seen = (0,)  # so that a file that is not there is said once
        self.look(now)

    def look(self, now: datetime, *, again: bool = False) -> bool:
        """True when there is a newer map. Opens the file when it has changed since the last look, or `again`."""
        self._say_expiry(now)
        try:
            found = os.stat(self._path)
            seen: tuple[int, ...] | None = (found.st_mtime_ns, found.st_ino, found.st_size)
        except OSError:
            seen = None
        if seen == self._seen and not again:
            return False
        self._seen = seen
        try:
            return self._take(read_map(self._path), now)
        except OSError as error:
            self._refuse("missing", error.strerror or str(error))
        except MapError as error:
            self._refuse(error.word, str(error))
        return False

    def _take(self, data: bytes, now: datetime) -> bool:
        if data == self._data:
            return False
        known = self.current.version if self.current is not None else 0
        found = verify(data, self._key, now, least_version=known)
        if found.version == known:
            raise MapError("version", f"version {known} is in use already, with other contents: sign it anew")
        self.current, self._data, self._expiry_said = found, data, False
        self._say("info", "peer map", version=found.version, relays=len(found.relays))
        try:
            _write(self._kept_path, data)
        except OSError as error:
            self._say("warning", "peer map not kept", path=self._kept_path, error=error.strerror)
        return True

    def _refuse(self, word: str, why: str) -> None:
        self.refused += 1
        kept = self.current.version if self.current is not None else 0
        self._say(
            "error", "peer map refused", path=self._path, reason=word, detail=why, kept_version=kept, code="ZR1010"
        )

    def _say_expiry(self, now: datetime) -> None:
        current = self.current
        if current is not None and current.expires is not None and current.expires <= now and not self._expiry_said:
            self._expiry_said = True
            self._say("error", "peer map expired", version=current.version, code="ZR1010")


def read_map(path: str) -> bytes:
    """The file, or one byte more of it than a map may have."""
    with open(path, "rb") as file:
        return file.read(MAP_BYTES_MAX + 1)


def _write(path: str, data: bytes) -> None:
    temporary = f"{path}.new"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(fd)
    os.replace(temporary, path)
