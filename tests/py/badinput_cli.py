"""The command line as people use it: a process, its exit code, and the one line that says what is wrong."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

EX_USAGE, EX_OS, EX_PERMISSION, EX_CONFIG = 2, 71, 77, 78
ROOT = Path(__file__).resolve().parents[2]
TIMEOUT_S = 40


def zrelay(
    *args: str, env: Mapping[str, str] | None = None, before: Callable[[], None] | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs `zrelay ARGS` to its end; `before` runs in the child, before the program."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("ZRELAY_")}
    return subprocess.run(
        [sys.executable, "-m", "relay.cli", *args],
        env={**clean, "PYTHONPATH": str(ROOT), **(env or {})},
        capture_output=True, text=True, timeout=TIMEOUT_S, preexec_fn=before, check=False,
    )  # fmt: skip


def refusal(done: subprocess.CompletedProcess[str], code: int) -> str:
    """The line on stderr of a command that was refused with this code: exactly one, and nothing on stdout."""
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    assert done.stderr.startswith("zrelay: ")
    assert done.stderr.endswith("\n")
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr.removeprefix("zrelay: ").removesuffix("\n")
