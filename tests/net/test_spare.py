"""A worker is killed again and again under a flow of RTP: what its stream loses, and what nobody else does."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import statistics
from collections.abc import Callable
from pathlib import Path

import pytest

from relay.dev import DevMesh
from tests.net.kills import SETTLE_S, deaths, held, kill_again_and_again, streaming
from tests.net.test_failures import flowing
from tests.net.test_streams import no_ledger_is_off

pytestmark = pytest.mark.net

PPS = 2000
LOST_MAX, LOST_MEAN_MAX = 64, 3
CONNECTIONS = 2  # of the API, which come and go; a leak would be one a death
FAMILY = ["agent", "zr-spare", "zr-worker-0", "zr-worker-1"]
OTHER_WAYS = [signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGSTOP]
KILLS = 1000 if os.environ.get("ZR_FULL") == "1" else 50


@pytest.mark.timeout(240 + KILLS)
async def test_workers_killed_again_and_again_lose_what_was_in_them_and_nobody_else_loses_anything() -> None:
    mesh = DevMesh(1)
    relay = mesh.relays[0]
    relay.workers = 2
    async with mesh, mesh.client(relay.name) as client, streaming(client, [PPS, 200]) as flows:
        assert relay.process is not None
        supervisor, agent = relay.process.pid, (await client.get("/v1/status"))["pid"]
        await at_last(lambda: children(supervisor) == FAMILY)
        before = held(supervisor), held(agent) + CONNECTIONS
        numbers = ([signal.SIGKILL] * 46 + OTHER_WAYS) * (KILLS // 50)
        kills = await kill_again_and_again(relay, 0, numbers)
        await asyncio.sleep(1.0)  # the next spare is there
        await at_last(lambda: held(supervisor) == before[0] and held(agent) <= before[1])
        await at_last(lambda: children(supervisor) == FAMILY)
        after, family = (held(supervisor), held(agent)), children(supervisor)
        status = await client.get("/v1/status")
        for flow in flows:
            flow.end()
        assert after[0] == before[0]
        assert after[1] <= before[1]
        assert family == FAMILY
        assert [row["restarts"] for row in status["workers"]] == [len(numbers), 0]
        assert flows[1].missing() == [], "the other worker's stream"
        costs = deaths(flows[0], kills)
        lost = [death.lost for death in costs]
        assert max(lost) <= LOST_MAX, lost
        assert statistics.mean(lost) <= LOST_MEAN_MAX, lost
        assert flows[0].twice() == 0
        await no_ledger_is_off(mesh)


async def at_last(reached: Callable[[], bool]) -> None:
    """Until then, or for 10 s: a busy machine closes and starts later."""
    for _ in range(200):
        if reached():
            break
        await asyncio.sleep(0.05)


def children(pid: int) -> list[str]:
    """The names of a relay's processes, also of dead ones that nobody has waited for; a nameless one is the agent."""
    names = []
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        with contextlib.suppress(OSError):
            state = Path(f"/proc/{child}/stat").read_text()
            name = state.rpartition(") ")[0].partition(" (")[2]
            names.append((name if name.startswith("zr-") else "agent") + " dead" * (") Z" in state))
    return sorted(names)


@pytest.mark.parametrize("name", ["bj-1", "sh-1", "gz-1"])
async def test_a_player_behind_relays_misses_only_what_was_in_the_dead_worker(name: str) -> None:
    """The stream resumes after the last number that got through, so nothing on a link is lost for good."""
    async with DevMesh(3) as mesh, flowing(mesh) as flow:
        await kill_again_and_again(mesh[name], 0, [signal.SIGKILL] * 2, settle_s=4 * SETTLE_S)
        await flow.whole_again()
        sent = flow.got[-1]
        missing = sorted(set(range(flow.got[0], sent)) - set(flow.got))
        assert len(missing) <= 2, missing
        assert len(set(flow.got)) == len(flow.got), "a packet came twice"
        await no_ledger_is_off(mesh)
