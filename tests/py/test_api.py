"""The HTTP API of a real relay: statuses, bodies, problems."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import msgpack
import pytest
import pytest_asyncio

from relay.api import make_app
from relay.client import Client, stream_path
from relay.dev import DevMesh
from relay.openapi import document
from tests.net.rtp import TRACK, publish_body

pytestmark = [pytest.mark.net, pytest.mark.asyncio(loop_scope="module")]

MSGPACK = "application/vnd.msgpack"
ADDRESS = {"kind": "rtp", "address": "127.0.0.1:9"}
JSON = {"Content-Type": "application/json"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mesh() -> AsyncIterator[DevMesh]:
    async with DevMesh(1) as mesh:
        yield mesh


@pytest_asyncio.fixture(loop_scope="module")
async def http(mesh: DevMesh) -> AsyncIterator[aiohttp.ClientSession]:
    timeout = aiohttp.ClientTimeout(total=10)
    async with aiohttp.ClientSession(mesh.relays[0].api_url, timeout=timeout) as session:
        yield session


async def put(
    http: aiohttp.ClientSession, path: str, body: Any, headers: dict[str, str] | None = None
) -> tuple[int, Any]:
    """Status and decoded body."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    async with http.put(aiohttp.client.URL(path, encoded=True), data=data, headers=headers or JSON) as response:
        return response.status, await response.json(content_type=None)


async def test_the_same_publish_twice_changes_nothing(http: aiohttp.ClientSession) -> None:
    status, first = await put(http, "/v1/streams/twice", publish_body())
    assert status == 201
    assert await put(http, "/v1/streams/twice", publish_body()) == (200, first)
    assert first["epoch"] == 1
    assert first["max_packet_bytes"] == 1500


async def test_the_same_subscriber_twice_changes_nothing(http: aiohttp.ClientSession) -> None:
    await put(http, "/v1/streams/sub-twice", publish_body())
    status, first = await put(http, "/v1/streams/sub-twice/subscribers/me", ADDRESS)
    assert (status, first["confirmed"]) == (201, True)
    assert await put(http, "/v1/streams/sub-twice/subscribers/me", ADDRESS) == (200, first)
    async with http.get("/v1/streams/sub-twice") as response:
        assert (await response.json())["subscribers"] == 1


async def test_a_lower_epoch_is_told_the_one_that_holds(http: aiohttp.ClientSession) -> None:
    await put(http, "/v1/streams/fenced", publish_body(epoch=5))
    status, problem = await put(http, "/v1/streams/fenced", publish_body(epoch=4))
    assert (status, problem["code"], problem["current_epoch"]) == (409, "stale-epoch", 5)
    status, answer = await put(http, "/v1/streams/fenced", publish_body(epoch=6))
    assert (status, answer["epoch"]) == (200, 6)


async def test_the_same_epoch_with_another_body_is_refused(http: aiohttp.ClientSession) -> None:
    await put(http, "/v1/streams/changed", publish_body(epoch=5))
    other = publish_body(epoch=5) | {"tracks": [TRACK | {"id": "a1"}]}
    status, problem = await put(http, "/v1/streams/changed", other)
    assert (status, problem["code"], problem["current_epoch"]) == (409, "stale-epoch", 5)


async def test_an_ended_stream_keeps_its_fence(http: aiohttp.ClientSession) -> None:
    await put(http, "/v1/streams/ended", publish_body(epoch=5))
    async with http.delete("/v1/streams/ended?epoch=4") as response:
        assert response.status == 409
    for _ in range(2):  # idempotent
        async with http.delete("/v1/streams/ended?epoch=5") as response:
            assert response.status == 204
    status, problem = await put(http, "/v1/streams/ended", publish_body(epoch=4))
    assert (status, problem["current_epoch"]) == (409, 5)


async def test_messagepack_goes_in_and_comes_out(http: aiohttp.ClientSession) -> None:
    headers = {"Content-Type": MSGPACK, "Accept": MSGPACK}
    body = msgpack.packb(publish_body())
    async with http.put("/v1/streams/packed", data=body, headers=headers) as response:
        assert (response.status, response.content_type) == (201, MSGPACK)
        packed = msgpack.unpackb(await response.read())
    assert await put(http, "/v1/streams/packed", publish_body()) == (200, packed)
    async with http.get("/v1/streams/nowhere", headers=headers) as response:
        assert (response.status, response.content_type) == (404, MSGPACK)
        assert msgpack.unpackb(await response.read())["code"] == "not-found"


STREAM = "/v1/streams/bad"
SUBSCRIBER = "/v1/streams/bad/subscribers/me"
PROBLEMS = {
    "unknown field": ("PUT", STREAM, publish_body() | {"epok": 1}, {}, 422, "unknown_field", "epok"),
    "unknown field inside": ("PUT", STREAM, publish_body() | {"tracks": [TRACK | {"x": 1}]}, {}, 422, "unknown_field",
                             "tracks[0].x"),
    "missing field": ("PUT", STREAM, {"epoch": 1}, {}, 422, "missing", "tracks"),
    "wrong type": ("PUT", STREAM, publish_body() | {"epoch": "1"}, {}, 422, "type", "epoch"),
    "no track": ("PUT", STREAM, publish_body() | {"tracks": []}, {}, 422, "track", "tracks"),
    "no JSON": ("PUT", STREAM, b"{", {}, 400, "syntax", None),
    "no body": ("PUT", STREAM, b"", {}, 400, "empty", None),
    "media type": ("PUT", STREAM, b"a=1", {"Content-Type": "text/plain"}, 415, "media-type", None),
    "too large": ("PUT", STREAM, b"[" + b" " * 70_000, {}, 413, "too-large", None),
    "no such stream": ("GET", "/v1/streams/nowhere", None, {}, 404, "not-found", None),
    "no such route": ("GET", "/v2", None, {}, 404, "not-found", None),
    "method": ("POST", STREAM, None, {}, 405, "method", None),
    "accept": ("GET", "/v1/version", None, {"Accept": "image/png"}, 406, "not-acceptable", None),
    "accept, before any effect": ("PUT", STREAM, publish_body(), {"Accept": "text/html"}, 406, "not-acceptable", None),
    "host": ("GET", "/v1/version", None, {"Host": "evil.example"}, 421, "host", None),
    "stream id": ("PUT", "/v1/streams/a%20b", publish_body(), {}, 422, "id", "id"),
    "public address": ("PUT", SUBSCRIBER, {"address": "8.8.8.8:53"}, {}, 422, "address", "address"),
    "multicast": ("PUT", SUBSCRIBER, {"address": "239.1.1.1:5004"}, {}, 422, "address", "address"),
    "no address": ("PUT", SUBSCRIBER, {"kind": "rtp"}, {}, 422, "address", "address"),
    "wait": ("PUT", f"{SUBSCRIBER}?wait=soon", ADDRESS, {}, 422, "type", "wait"),
    "limit of none": ("GET", "/v1/streams?limit=0", None, {}, 422, "range", "limit"),
    "limit of many": ("GET", "/v1/streams?limit=1001", None, {}, 422, "range", "limit"),
    "sdp of nobody": ("GET", "/v1/streams/bad/sdp", None, {}, 422, "missing", "sid"),
    "key frame of nothing": ("POST", "/v1/streams/nowhere/keyframe", None, {}, 404, "not-found", None),
}  # fmt: skip


@pytest.mark.parametrize("case", PROBLEMS)
async def test_a_refusal_is_a_problem_that_names_the_field(http: aiohttp.ClientSession, case: str) -> None:
    method, path, body, headers, status, code, field = PROBLEMS[case]
    data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
    said = {"X-Request-Id": "my-id", **(JSON if data is not None else {}), **headers}
    url = aiohttp.client.URL(path, encoded=True)
    async with http.request(method, url, data=data, headers=said) as response:
        problem = await response.json(content_type="application/problem+json")
        assert (response.status, problem["code"], problem.get("field")) == (status, code, field), problem
        assert problem["type"].endswith(f"/{code}")
        assert problem["status"] == status
        assert problem["request_id"] == response.headers["X-Request-Id"] == "my-id"
        if status == 405:
            assert response.headers["Allow"] == "DELETE, GET, HEAD, PUT"
    async with http.get("/v1/streams/bad") as response:
        assert response.status == 404, "a refused request leaves nothing behind"


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("application/json;q=0.1, application/msgpack", MSGPACK),
        ("application/msgpack;q=0.1, application/json", "application/json"),
        ("text/html, */*;q=0.1", "application/json"),
        ("application/msgpack;q=0, */*", "application/json"),
    ],
)
async def test_the_caller_gets_what_it_likes_best(http: aiohttp.ClientSession, accept: str, kind: str) -> None:
    async with http.get("/v1/version", headers={"Accept": accept}) as response:
        assert (response.status, response.content_type) == (200, kind)


async def test_learn_needs_a_loopback_ingress(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZRELAY_INGRESS__ADDRESS", "0.0.0.0")
    async with DevMesh(1) as mesh, aiohttp.ClientSession(mesh.relays[0].api_url) as http:
        status, problem = await put(http, "/v1/streams/cam", publish_body())
        assert (status, problem["code"], problem["field"]) == (422, "source", "ingress.source")
        listed = publish_body() | {"ingress": {"kind": "rtp", "source": ["127.0.0.1:5000"]}}
        assert (await put(http, "/v1/streams/cam", listed))[0] == 201


async def test_a_stream_id_with_a_slash_is_one_segment(http: aiohttp.ClientSession) -> None:
    assert stream_path("room42/teacher") == "/v1/streams/room42%2Fteacher"
    status, answer = await put(http, stream_path("room42/teacher"), publish_body())
    assert (status, answer["id"]) == (201, "room42/teacher")
    async with http.get("/v1/streams/room42/teacher") as response:
        assert response.status == 404


async def test_a_list_is_read_page_by_page(mesh: DevMesh) -> None:
    names = [f"page/{number:02}" for number in range(7)]
    async with mesh.client("bj-1") as relay:
        for name in reversed(names):
            await relay.put(stream_path(name), publish_body())
        seen: list[str] = []
        cursor = ""
        while cursor is not None:
            page = await relay.get(f"/v1/streams?limit=3&cursor={cursor}")
            assert len(page["items"]) == 3 or page["next_cursor"] is None
            seen += [item["id"] for item in page["items"]]
            cursor = page["next_cursor"]
    assert seen == sorted(set(seen))
    assert [name for name in seen if name.startswith("page/")] == names


async def test_a_key_frame_request_is_taken(mesh: DevMesh) -> None:
    async with mesh.client("bj-1") as relay:
        await relay.put("/v1/streams/key", publish_body())
        assert await relay.post("/v1/streams/key/keyframe") == {"status": "asked"}


async def test_the_unix_socket_answers_like_the_port(mesh: DevMesh) -> None:
    path = str(mesh.folder / "bj-1" / "api.sock")
    async with Client(socket=path) as here, mesh.client("bj-1") as there:
        assert await here.get("/v1/version") == await there.get("/v1/version")
        assert await here.get("/readyz") == {"ready": True, "reasons": []}
        assert await here.get("/healthz") == {"status": "ok"}


async def test_the_document_has_every_route_and_no_other(mesh: DevMesh) -> None:
    class NoNode:
        control = None

    served = {
        (route.resource.canonical, route.method.lower())
        for route in make_app(NoNode()).router.routes()  # type: ignore[arg-type]
        if route.resource is not None and route.method != "HEAD"
    }
    said = {(path, method) for path, methods in document()["paths"].items() for method in methods}
    assert said == served
    async with mesh.client("bj-1") as relay:
        assert await relay.get("/openapi.json") == json.loads(json.dumps(document()))
