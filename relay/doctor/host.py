"""Where the files of a host are: below /, or below a folder that holds another's /proc and /sys."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple


class Host(NamedTuple):
    root: Path = Path("/")

    def path(self, absolute: str) -> Path:
        return self.root / absolute.lstrip("/")

    def read(self, absolute: str) -> str:
        return read(self.path(absolute))


def read(path: Path) -> str:
    """The file without blanks around it; "" when it cannot be read."""
    try:
        return path.read_text(errors="replace").strip()
    except OSError:  # a card that is down answers EINVAL
        return ""
