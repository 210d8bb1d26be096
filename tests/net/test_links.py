"""Links of real relays on loopback: what the API, the command line and the metrics say of them."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from relay.client import Client
from relay.dev import DevMesh
from relay.errors import Problem
from tests.py.test_cli import zrelay

pytestmark = pytest.mark.net

OK, FAILED, UNREACHABLE = 0, 1, 4


async def measured(client: Client, peer: str, *, clock: bool = False) -> dict[str, Any]:
    """The link once it has been measured and its size found; `clock`: and its peer's clock is known to a millisecond.

    That takes 4 s where nothing else goes on, and longer the more a busy machine delays its pings."""
    async with asyncio.timeout(60 if clock else 20):
        while True:
            link: dict[str, Any] = await client.get(f"/v1/links/{peer}")
            if link.get("answered", 0) >= 3 and link.get("mtu") == 1500 and ("offset_ms" in link or not clock):
                return link
            await asyncio.sleep(0.1)


async def test_links_are_measured_and_shown() -> None:
    async with DevMesh(2) as mesh, mesh.client("bj-1") as client:
        relay = mesh["bj-1"]
        link = await measured(client, "sh-1", clock=True)
        assert link["state"] == "up"
        assert link["address"] == str(mesh["sh-1"].data)
        assert 0 < link["rtt_ms"] < 1000
        assert abs(link["offset_ms"]) <= link["rtt_ms"] + 1000  # one machine: one clock
        assert 0 <= link["delay_in_ms"] <= link["rtt_p99_ms"]
        assert 0 <= link["delay_out_ms"] <= link["rtt_p99_ms"]
        assert link["loss_in_pct"] < 50
        assert len(link["round_trips_us"]) == link["answered"]
        (listed,) = (await client.get("/v1/links"))["items"]
        assert listed["peer"] == "sh-1"
        assert listed["t_dead_ms"] >= 150
        with pytest.raises(Problem, match="not-found") as refused:
            await client.get("/v1/links/nobody")
        assert refused.value.status == 404
        with pytest.raises(Problem):
            await client.get("/v1/links/sh-1?since=x")
        metrics = await client.get("/metrics")
        for line in (
            'zrelay_link_up{peer="sh-1"} 1.0', 'zrelay_link_mtu_bytes{peer="sh-1"} 1500.0',
            'zrelay_link_rtt_seconds_bucket{le="+Inf",peer="sh-1"}', 'zrelay_link_flaps_total{peer="sh-1"}',
            'zrelay_link_jitter_seconds{peer="sh-1"}', 'zrelay_link_loss_ratio{peer="sh-1"}',
        ):  # fmt: skip
            assert line in metrics

        code, shown, _ = await zrelay("links", "-c", str(relay.config_path))
        assert code == OK
        head, row = shown.splitlines()
        assert head.split()[:3] == ["link", "state", "address"]
        assert row.split()[:3] == ["sh-1", "up", str(mesh["sh-1"].data)]
        code, text, _ = await zrelay("links", "sh-1", "--api", relay.api_url, "--json")
        assert code == OK
        assert json.loads(text)["mtu"] == 1500
        code, shown, _ = await zrelay("ping", "sh-1", "-n", "3", "-w", "15", "--api", relay.api_url)
        assert code == OK
        first, *lines = shown.splitlines()
        assert first.startswith(f"PING sh-1 ({mesh['sh-1'].data}): ")
        assert [line.split("answer=")[1].split()[0] for line in lines if "answer=" in line] == ["1", "2", "3"]
        assert lines[-1].startswith("rtt min/avg/max/mdev = ")
        code, _, said = await zrelay("ping", "nobody", "--api", relay.api_url)
        assert code == FAILED
        assert "the peers of this relay are: sh-1" in said


async def test_without_a_relay_links_and_ping_exit_4() -> None:
    for verb in (("links",), ("ping", "sh-1")):
        code, _, said = await zrelay(*verb, "--api", "http://127.0.0.1:9")
        assert code == UNREACHABLE
        assert "no relay answers" in said
