"""What a check says."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warn", "fail", "skip"]
PERSIST = "/etc/sysctl.d/90-zrelay.conf"


@dataclass(frozen=True)
class Finding:
    """One line. `fix`: shell commands that mend it; `hint`: what to do where no command does; `check`: who says so."""

    level: Level
    what: str
    text: str
    fix: tuple[str, ...] = ()
    hint: str = ""
    check: str = ""


def ok(what: str, text: str) -> Finding:
    return Finding("ok", what, text)


def warn(what: str, text: str, *fix: str, hint: str = "") -> Finding:
    return Finding("warn", what, text, fix, hint)


def fail(what: str, text: str, *fix: str, hint: str = "") -> Finding:
    return Finding("fail", what, text, fix, hint)


def skip(what: str, text: str, hint: str = "") -> Finding:
    """Could not be checked, or does not apply; `hint` says what to install."""
    return Finding("skip", what, text, hint=hint)


def sysctl(name: str, value: str | int) -> tuple[str, ...]:
    """Sets it now, and keeps it over a reboot without listing it twice."""
    said = f"{name} = {value}"
    return (
        f"sysctl -w {name}={shlex.quote(str(value))}",
        f"grep -qxF '{said}' {PERSIST} 2>/dev/null || echo '{said}' >>{PERSIST}",
    )


def mib(size: int) -> str:
    """ "16 MiB", "208 KiB"."""
    if size < 1 << 20:
        return f"{size / 1024:.0f} KiB"
    return f"{size / (1 << 20):.4g} MiB"
