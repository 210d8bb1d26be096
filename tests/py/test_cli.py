"""The command line as a shell sees it: stdout, stderr, exit code."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
import tomllib
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from relay import __version__
from relay.client import Client
from relay.dev import DevMesh, free_ports
from tests.net.rtp import publish_body

pytestmark = pytest.mark.net

EXAMPLES = Path(__file__).parents[2] / "relay" / "data" / "examples"
OK, FAILED, USAGE, WARNED, UNREACHABLE, CONFIG = 0, 1, 2, 3, 4, 78


async def zrelay(*arguments: str) -> tuple[int | None, str, str]:
    """Exit code, stdout, stderr."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "relay.cli", *arguments, stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        out, err = await asyncio.wait_for(process.communicate(), 40)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode, out.decode(), err.decode()


async def test_status_of_a_running_relay_fills_a_screen_or_a_json_map() -> None:
    async with DevMesh(2, sealed=False) as mesh:
        relay = mesh["bj-1"]
        async with mesh.client("bj-1") as client:
            await client.put("/v1/streams/cam", publish_body())
        code, shown, _ = await zrelay("status", "-c", str(relay.config_path))
        assert code == OK
        assert shown.startswith(f"bj-1  ready  zrelay {__version__}  up ")
        assert "streams      1 live" in shown.splitlines()
        assert any(line.split()[:2] == ["sh-1", "up"] for line in shown.splitlines())
        code, text, _ = await zrelay("status", "--api", relay.api_url, "--json")
        assert code == OK
        status = json.loads(text)
        assert (status["relay"], status["state"], status["streams"]) == ("bj-1", "ready", {"live": 1})
        # The first greetings may cross, and where a machine stalled one more than is let through is dropped.
        dropped = ", ".join(f"{name} {count}" for name, count in sorted(status["drops"].items())) or "none"
        assert f"dropped      {dropped}" in shown.splitlines()


async def test_status_of_a_relay_that_is_not_ready_exits_1_and_says_why() -> None:
    async with DevMesh(1) as mesh, mesh.client("bj-1") as client:
        status = await client.get("/v1/status")
    status |= {"state": "degraded", "reasons": ["worker 0 is down"]}
    status["workers"][0]["up"] = False

    async def answer(request: web.Request) -> web.Response:
        return web.json_response(status)

    app = web.Application()
    app.router.add_get("/v1/status", answer)
    async with TestServer(app) as server:
        code, shown, _ = await zrelay("status", "--api", str(server.make_url("")))
    assert code == FAILED
    assert "  not ready: worker 0 is down" in shown.splitlines()
    assert any(line.split()[:2] == ["0", "DOWN"] for line in shown.splitlines())


async def test_status_without_a_relay_exits_4_and_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "none.toml"
    path.write_text(f'[listen]\nsocket = "{tmp_path / "none.sock"}"\n')
    nobody = f"http://127.0.0.1:{free_ports(1)}"
    for where in (("-c", str(path)), ("--api", nobody)):
        code, out, err = await zrelay("status", *where)
        assert (code, out) == (UNREACHABLE, "")
        assert "zrelay run" in err


@pytest.mark.parametrize(
    "url", ["nonsense", "http://", "ftp://127.0.0.1", "http://127.0.0.1:99999", "http://[::1", "http://a..b"]
)
async def test_status_at_what_is_no_url_exits_4_in_one_line(url: str) -> None:
    code, out, err = await zrelay("status", "--api", url)
    assert (code, out) == (UNREACHABLE, "")
    assert len(err.splitlines()) == 1
    assert url in err


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (web.Response(text="hello"), UNREACHABLE),
        (web.json_response(["hello"]), UNREACHABLE),
        (web.Response(body=b"{", content_type="application/json"), UNREACHABLE),
        (web.Response(status=404, text="no such page"), FAILED),
    ],
)
async def test_status_of_a_server_that_is_no_relay_says_so_in_one_line(answer: web.Response, expected: int) -> None:
    async def status(request: web.Request) -> web.Response:
        return answer

    app = web.Application()
    app.router.add_get("/v1/status", status)
    async with TestServer(app) as server:
        code, out, err = await zrelay("status", "--api", str(server.make_url("")))
    assert (code, out, len(err.splitlines())) == (expected, "", 1)


@pytest.mark.parametrize("verb", ["run", "status", "check", "ports"])
async def test_a_bad_file_exits_78_and_names_the_place(tmp_path: Path, verb: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_text('[node]\nid = "bj-1"\n[sockets]\nrecieve_buffer = 1\n')
    code, out, err = await zrelay(verb, "-c", str(path))
    assert (code, out) == (CONFIG, "")
    assert f"{path}:4:1: unknown key 'recieve_buffer'" in err
    assert "receive_buffer" in err.split("did you mean")[1]


@pytest.mark.parametrize("name", sorted(path.name for path in EXAMPLES.glob("*.toml")))
async def test_the_examples_pass_the_check(name: str) -> None:
    code, out, err = await zrelay("check", "-c", str(EXAMPLES / name))
    assert (code, out.split(":")[1].split(",")[0].strip()) == (OK, "ok")
    warnings = err.splitlines()
    strict, _, _ = await zrelay("check", "--strict", "-c", str(EXAMPLES / name))
    assert strict == (WARNED if warnings else OK)


async def test_ports_are_those_of_the_file() -> None:
    path = EXAMPLES / "single.toml"
    config = tomllib.loads(path.read_text())
    code, out, _ = await zrelay("ports", "-c", str(path), "--json")
    assert code == OK
    rows = {(row["protocol"], f"{row['address']}:{row['port']}") for row in json.loads(out)}
    assert ("udp", config["listen"]["data"]) in rows
    assert ("tcp", config["listen"]["api"]) in rows
    assert ("udp", f"{config['ingress']['address']}:{config['ingress']['ports']}") in rows
    code, shown, _ = await zrelay("ports", "-c", str(path))
    assert (code, len(shown.splitlines())) == (OK, len(rows))


async def test_version_is_said_in_two_ways() -> None:
    code, out, _ = await zrelay("version", "--json")
    assert (code, json.loads(out)["zrelay"]) == (OK, __version__)
    assert await zrelay("--version") == (OK, f"zrelay {__version__}\n", "")


async def test_a_typo_exits_2_and_is_corrected() -> None:
    code, out, err = await zrelay("stauts")
    assert (code, out) == (USAGE, "")
    assert "Did you mean 'status'?" in err


async def test_dev_prints_a_json_line_for_each_relay_and_ends_with_a_signal() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "relay.cli", "dev", "--relays", "2", "--json",
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        async with asyncio.timeout(40):
            rows = [json.loads(await process.stdout.readline()) for _ in range(2)]
            assert [row["relay"] for row in rows] == ["bj-1", "sh-1"]
            for row in rows:
                async with Client(row["api"]) as client:
                    assert await client.get("/readyz") == {"ready": True, "reasons": []}
            process.send_signal(signal.SIGINT)
            assert await process.wait() == OK
        assert not Path(rows[0]["config"]).exists()
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()  # it takes its relays along
            await process.wait()


async def test_a_second_relay_in_the_same_place_is_refused() -> None:
    async with DevMesh(1) as mesh:
        code, out, err = await zrelay("run", "-c", str(mesh.relays[0].config_path))
        assert (code, out) == (71, "")
        assert "already running, pid" in err
