"""Findings as a screen, as JSON, and their fixes as a script."""

from __future__ import annotations

import textwrap
from collections import Counter
from typing import Any

from relay.doctor.finding import PERSIST, Finding, Level

VERSION = 1
LEVELS: tuple[Level, ...] = ("ok", "warn", "fail", "skip")
_ORDER = {"fail": 0, "warn": 1, "ok": 2, "skip": 3}
_COLOURS = {"fail": "31", "warn": "33", "ok": "32", "skip": "90"}
_WIDTH, _WHAT = 100, 24


def screen(findings: list[Finding], relay: str, seconds: float, *, colour: bool) -> str:
    """Worst first, each with its fix below it."""
    counts = Counter(finding.level for finding in findings)
    said = " · ".join(f"{counts[level]} {level}" for level in LEVELS if counts[level])
    many = f"{len(findings)} check{'s' if len(findings) != 1 else ''}: {said}   {seconds:.1f} s"
    lines = [f"{f'zrelay doctor — {relay}':<{max(1, _WIDTH - len(many))}}{many}"]
    for finding in sorted(findings, key=lambda one: _ORDER[one.level]):
        bad = finding.level in ("warn", "fail")
        mark = f"{finding.level.upper() if bad else finding.level:<4}"
        if colour:
            mark = f"\x1b[{_COLOURS[finding.level]}m{mark}\x1b[0m"
        lines.append(f" {mark}  {finding.what:<{_WHAT}} {finding.text}")
        notes = _notes(finding) if bad else []
        lines += [f"       {'fix' if at == 0 else '   '}  {note}" for at, note in enumerate(notes)]
        if not bad and finding.hint:
            lines[-1] += f" ({finding.hint})"
    if any(finding.fix for finding in findings):
        lines.append("       all fixes as a script: zrelay doctor --print-fixes")
    return "\n".join(line.rstrip() for line in lines)


def _notes(finding: Finding) -> list[str]:
    """The first command, what else there is, and the hint."""
    notes = []
    if finding.fix:
        more = len(finding.fix) - 1
        kept = (
            f"   (persist: {PERSIST})" if finding.fix[0].startswith("sysctl") else f"   (+ {more} more)" if more else ""
        )
        notes.append(finding.fix[0] + kept)
    return [*notes, *([f"({finding.hint})"] if finding.hint else [])]


def as_json(findings: list[Finding], relay: str, seconds: float) -> dict[str, Any]:
    """{"version", "relay", "seconds", "counts", "findings": [{"check", "level", "what", "text", "fix", "hint"}]}."""
    counts = Counter(finding.level for finding in findings)
    return {
        "version": VERSION,
        "relay": relay,
        "seconds": round(seconds, 3),
        "counts": {level: counts[level] for level in LEVELS},
        "findings": [
            {
                "check": one.check, "level": one.level, "what": one.what, "text": one.text, "fix": list(one.fix),
                "hint": one.hint,
            }
            for one in findings
        ],
    }  # fmt: skip


def script(findings: list[Finding], relay: str) -> str:
    """A shell script of all fixes, each command once; to be read before it is run, as root."""
    lines = ["#!/bin/sh", f"# Fixes of zrelay doctor for {_comment(relay)}. Read it, then run it as root.", "set -u"]
    seen: set[str] = set()
    for finding in findings:
        commands = [command for command in finding.fix if command not in seen]
        seen.update(commands)
        if commands or (finding.hint and finding.level in ("warn", "fail")):
            lines += ["", *_comments(f"{finding.what}: {finding.text}")]
            lines += commands
            lines += _comments(finding.hint)
    if not seen:
        lines += ["", "# Nothing to fix by a command."]
    return "\n".join(lines) + "\n"


def _comments(text: str) -> list[str]:
    return [f"# {line}" for line in textwrap.wrap(_comment(text), _WIDTH)]


def _comment(text: str) -> str:
    """On one line, so that no part of it is run."""
    return " ".join(text.split())
