"""An agent stands still for three seconds, as a debugger or a busy machine makes it: its workers do not.

Nobody may replace it: the supervisor replaces workers that hang, which carry media, and of agents those that died or
left its messages unread; see DESIGN.md, *A dead control plane cuts no media*.
"""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Any

import pytest

from relay.dev import DevMesh, DevRelay
from tests.net.rtp import publish_body
from tests.net.test_failures import flowing, status_of
from tests.net.test_streams import no_ledger_is_off, until
from tests.py.test_metrics import samples

pytestmark = pytest.mark.net

STILL_S = 3.0


def family(status: dict[str, Any]) -> list[int]:
    return [status["pid"], status["boot_id"], *(row["pid"] for row in status["workers"])]


def link_to(status: dict[str, Any], peer: str) -> dict[str, Any]:
    (found,) = (link for link in status["links"] if link["peer"] == peer)
    return dict(found)


async def up_again(relay: DevRelay, peer: str) -> dict[str, Any]:
    """Its status once the link to this peer is up and measured anew."""
    pings = link_to(await status_of(relay), peer)["answered"]
    async with asyncio.timeout(15):
        while True:
            link = link_to(status := await status_of(relay), peer)
            if link["state"] == "up" and link["answered"] > pings:
                return status
            await asyncio.sleep(0.05)


async def test_media_goes_on_whole_while_an_agent_stands_still_and_links_and_metrics_when_it_goes_on() -> None:
    async with DevMesh(2, sealed=True) as mesh, flowing(mesh) as flow:
        bj, sh = mesh["bj-1"], mesh["sh-1"]
        before = {relay.name: await status_of(relay) for relay in (bj, sh)}
        agent, first = before["bj-1"]["pid"], flow.sent
        os.kill(agent, signal.SIGSTOP)
        try:
            await asyncio.sleep(STILL_S)
            other = await status_of(sh)
            last = flow.sent
        finally:
            os.kill(agent, signal.SIGCONT)
        await until(lambda: len(flow.got) > 0 and max(flow.got) > last + 20)
        after = {relay.name: await up_again(relay, peer) for relay, peer in ((bj, "sh-1"), (sh, "bj-1"))}

        assert last - first >= 50 * STILL_S  # it was sent to all the time
        assert sorted(set(range(first, last)) - set(flow.got)) == [], "lost"
        assert len(set(flow.got)) == len(flow.got), "a packet came twice"
        assert link_to(other, "bj-1")["state"] == "up"  # its workers were heard
        for name in ("bj-1", "sh-1"):
            assert family(after[name]) == family(before[name]), "somebody was replaced"
            assert [row["restarts"] for row in after[name]["workers"]] == [0] * len(after[name]["workers"])
        assert link_to(after["sh-1"], "bj-1")["flaps"] == link_to(before["sh-1"], "bj-1")["flaps"]
        assert link_to(after["sh-1"], "bj-1")["received_datagrams"] > link_to(other, "bj-1")["received_datagrams"]

        async with mesh.client("bj-1") as client:  # and what is asked of it is done
            parsed = samples(await client.get("/metrics"))
            assert parsed["zrelay_link_up", (("peer", "sh-1"),)] == 1
            assert parsed["zrelay_worker_restarts_total", (("worker", "0"),)] == 0
            await client.put("/v1/streams/later", publish_body())
        await no_ledger_is_off(mesh)
