"""How long a person waits for the first sign of life."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from benchmarks.machine import percentile, slack

pytestmark = pytest.mark.figures

ROUNDS = 15


def timed(benchmark: Any, *command: str) -> float:
    """Median of whole-process runs, seconds."""
    benchmark.pedantic(
        subprocess.run,
        args=(command,),
        kwargs={"check": True, "stdout": subprocess.DEVNULL},
        rounds=ROUNDS,
        warmup_rounds=1,
    )
    values = list(benchmark.stats.stats.data)
    print(f"\n{' '.join(command[-2:])}: median {percentile(values, 0.5) * 1e3:.0f} ms of {ROUNDS}")
    return percentile(values, 0.5)


def test_import_relay(benchmark: Any) -> None:
    assert timed(benchmark, sys.executable, "-c", "import relay") <= 0.150 * slack()


def test_help(benchmark: Any) -> None:
    assert timed(benchmark, sys.executable, "-m", "relay.cli", "--help") <= 0.2 * slack()
