"""Relays under churn for a minute, half an hour with ZR_FULL=1: nothing is lost, nothing stays behind, nothing grows
beyond a warm-up.
"""

from __future__ import annotations

import asyncio
import os

import pytest

from relay.bench.aging import age
from relay.bench.churn import Shape

MINUTES = 30 if os.environ.get("ZR_FULL") == "1" else 1
pytestmark = [pytest.mark.net, pytest.mark.slow, pytest.mark.timeout(240 + 60 * MINUTES)]


def test_churn_leaves_nothing_behind() -> None:
    made = asyncio.run(age(60.0 * MINUTES, relays=3, workers=1, shape=Shape(life_s=3.0), step=lambda passed: None))
    assert made["findings"] == []
    assert made["published"] > 100 * MINUTES
    assert made["subscribed"] > 300 * MINUTES
    assert made["verified"] > 2000 * MINUTES
    assert {trend["name"] for trend in made["trends"]} >= {"data_kib", "python_kib", "files", "sockets", "p99_ms"}
