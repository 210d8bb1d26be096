"""Deadlines, residual, overhead and overload levels on their way from the configuration into the core."""

from __future__ import annotations

from typing import Any

import pytest

from relay import _core, worker
from relay.config import loads
from relay.errors import CoreError
from relay.supervisor import SupervisorConf

TEXT = """
[links]
deadline = "300ms"
deadline_audio = "150ms"
residual = 1e-4
max_overhead = 3.0
[limits]
overload_enter = [0.5, 0.6, 0.7, 0.8]
"""


def test_the_supervisor_hands_on_what_the_file_says() -> None:
    conf = SupervisorConf.of(loads(TEXT, environ={}), None)
    assert conf.overload_enter == (0.5, 0.6, 0.7, 0.8)
    assert (conf.deadlines_ms, conf.residual, conf.max_overhead) == ((150, 300, 300), 1e-4, 3.0)


def test_a_worker_takes_them_from_its_boot_map(monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}
    monkeypatch.setattr(worker._core, "Worker", lambda **words: given.update(words))
    fds = dict.fromkeys(("chan", "page", "link", "egress", "fdpass", "wake", "agent_wake"), -1)
    worker.boot_worker(
        {
            "lane": 0, "fds": fds, "streams_max": 1, "window": 64, "batch": 1, "gso": False, "spin_ns": 0,
            "deadlines_ms": [150, 300, 300], "residual": 1e-4, "max_overhead": 3.0,
            "overload_enter": [0.5, 0.6, 0.7, 0.8], "hold_ns": 0, "peers": [],
        }
    )  # fmt: skip
    assert given["overload_enter"] == (0.5, 0.6, 0.7, 0.8)
    assert (given["deadlines_ms"], given["residual"], given["max_overhead"]) == ((150, 300, 300), 1e-4, 3.0)


def test_the_core_refuses_what_is_no_deadline() -> None:
    with pytest.raises(CoreError, match="out of range"):
        _core.Forwarder(0, 1, deadlines_ms=(400, 0, 400))
    with pytest.raises(OverflowError):
        _core.Forwarder(0, 1, deadlines_ms=(400, 65536, 400))
    with pytest.raises(ValueError, match="3 of them, not 2"):
        _core.Forwarder(0, 1, deadlines_ms=(400, 400))  # type: ignore[arg-type]
