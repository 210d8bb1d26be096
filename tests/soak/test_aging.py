"""Relays under churn for a minute: nothing is lost, nothing stays behind, nothing grows beyond a warm-up."""

from __future__ import annotations

import asyncio

import pytest

from relay.bench.aging import age
from relay.bench.churn import Shape

pytestmark = [pytest.mark.net, pytest.mark.slow, pytest.mark.timeout(300)]

SECONDS = 60.0


def test_a_minute_of_churn_leaves_nothing_behind() -> None:
    made = asyncio.run(age(SECONDS, relays=3, workers=1, shape=Shape(life_s=3.0), step=lambda passed: None))
    assert made["findings"] == []
    assert made["published"] > 100
    assert made["subscribed"] > 300
    assert made["verified"] > 2000
    assert {trend["name"] for trend in made["trends"]} >= {"data_kib", "python_kib", "files", "sockets", "p99_ms"}
