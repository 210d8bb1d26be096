"""The relay's HTTP API: media in and out of one relay, health, metrics, status.

Routes and bodies are those of README.md and ``GET /openapi.json``. JSON or MessagePack; errors are problem+json. PUT
and DELETE are idempotent. Without tokens the API listens on loopback and the Unix socket only (see relay.config).
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from ipaddress import ip_address
from typing import Any, Protocol

import structlog
from aiohttp import web

from relay import __version__
from relay.control import Control
from relay.errors import Problem
from relay.media_types import read_body, respond, respond_problem, wants_msgpack
from relay.metrics import PageCollector, exposition
from relay.names import check_stream_id, check_subscriber_id
from relay.openapi import document
from relay.requests import PublishRequest, SubscribeRequest
from relay.sdp import sdp
from relay.units import NS_PER_S, parse_duration_ns

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

INGRESS_TIMEOUT_S = 3.0
WAIT_MAX_NS = 30 * NS_PER_S
LIST_LIMIT_MAX = 1000
MUTATING = ("PUT", "POST", "DELETE", "PATCH")

log = structlog.get_logger("zrelay.api")


class Node(Protocol):
    """What the API needs of the agent (relay.node)."""

    @property
    def control(self) -> Control: ...
    @property
    def collector(self) -> PageCollector: ...
    @property
    def relay_id(self) -> str: ...

    def now(self) -> int:
        """The agent's clock, ns."""

    def pump(self) -> None:
        """Performs what the control plane has decided."""

    async def until(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        """Waits until ``condition`` holds after some stream changed; False after ``timeout_s``."""

    def stream_row(self, worker: int, slot: int) -> dict[str, int]:
        """A stream's counters."""

    def status(self) -> dict[str, Any]: ...
    def link(self, peer: str, since: int) -> dict[str, Any]: ...
    def reasons(self) -> list[str]:
        """Why the relay is not ready; empty when it is."""


@web.middleware
async def problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turns every error into a problem, echoes X-Request-Id, writes the audit line of a mutating call."""
    request_id = request.headers.get("X-Request-Id", "")[:64] or secrets.token_hex(8)
    try:
        _check_host(request)
        if request.method in MUTATING:
            wants_msgpack(request)  # a call whose answer cannot be said has no effect
        response = await handler(request)
        response.headers["X-Request-Id"] = request_id
    except Problem as problem:
        response = respond_problem(request, problem, request_id)
    except web.HTTPMethodNotAllowed as error:
        refused = Problem(405, "method", "Method not allowed", f"{request.method} {request.path}")
        response = respond_problem(request, refused, request_id)
        response.headers["Allow"] = ", ".join(sorted(error.allowed_methods))
    except web.HTTPException as error:
        code = "not-found" if error.status == 404 else "http"
        response = respond_problem(request, Problem(error.status, code, error.reason, request.path), request_id)
    except Exception:
        log.exception("internal error", method=request.method, path=request.path, request_id=request_id, code="ZR2001")
        response = respond_problem(request, Problem(500, "internal", "Internal error", "see the log"), request_id)
    if request.method in MUTATING:
        log.info("api", method=request.method, path=request.path, status=response.status, request_id=request_id)
    return response


def _check_host(request: web.Request) -> None:
    """Over TCP only "localhost" and IP addresses: no web page reaches us through a name of its own (DNS rebinding)."""
    transport = request.transport
    if transport is None or not isinstance(transport.get_extra_info("sockname"), tuple):
        return  # the Unix socket
    name = request.url.host or ""
    try:
        named_by_address = bool(ip_address(name))
    except ValueError:
        named_by_address = False
    if name != "localhost" and not named_by_address:
        raise Problem(
            421, "host", "Misdirected request", f"{name[:80]}: call this relay by its IP address or localhost"
        )


def make_app(node: Node) -> web.Application:
    """The application over one Node; it may be served on several sites."""
    app = web.Application(middlewares=[problems], client_max_size=64 * 1024)
    api = Api(node)
    app.router.add_get("/v1/streams", api.list_streams)
    app.router.add_put("/v1/streams/{id}", api.publish)
    app.router.add_get("/v1/streams/{id}", api.describe)
    app.router.add_delete("/v1/streams/{id}", api.unpublish)
    app.router.add_put("/v1/streams/{id}/subscribers/{sid}", api.subscribe)
    app.router.add_delete("/v1/streams/{id}/subscribers/{sid}", api.unsubscribe)
    app.router.add_get("/v1/streams/{id}/sdp", api.sdp)
    app.router.add_post("/v1/streams/{id}/keyframe", api.keyframe)
    app.router.add_get("/v1/links", api.links)
    app.router.add_get("/v1/links/{peer}", api.link)
    app.router.add_get("/v1/workers", api.workers)
    app.router.add_get("/v1/status", api.status)
    app.router.add_get("/v1/version", api.version)
    app.router.add_get("/healthz", api.healthz)
    app.router.add_get("/readyz", api.readyz)
    app.router.add_get("/metrics", api.metrics)
    app.router.add_get("/openapi.json", api.openapi)
    return app


class Api:
    """One handler per route; no state of its own."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._control = node.control

    async def publish(self, request: web.Request) -> web.Response:
        """PUT /v1/streams/{id}: 201 new, 200 known; answers when the ingress socket is open."""
        stream_id = _stream_id(request)
        body = await read_body(request, PublishRequest)
        created = self._control.publish(stream_id, body, self._node.now())
        self._node.pump()
        if not await self._node.until(lambda: self._control.publish_settled(stream_id), INGRESS_TIMEOUT_S):
            raise Problem(503, "ingress", "The ingress socket did not open in time", stream_id, retry_after_s=1)
        answer = self._control.publish_answer(stream_id)
        return respond(request, answer, 201 if created else 200)

    async def unpublish(self, request: web.Request) -> web.Response:
        """DELETE /v1/streams/{id}?epoch=N: 204, also when it is not there; 409 when a newer epoch is."""
        epoch = _number(request, "epoch")
        self._control.unpublish(_stream_id(request), epoch, self._node.now())
        self._node.pump()
        return web.Response(status=204)

    async def subscribe(self, request: web.Request) -> web.Response:
        """PUT .../subscribers/{sid}?wait=5s: 201 new, 200 known; with ``wait`` it answers when confirmed, or then."""
        stream_id, sid = _stream_id(request), check_subscriber_id(request.match_info["sid"])
        wait_ns = _wait_ns(request)
        body = await read_body(request, SubscribeRequest)
        created = self._control.subscribe(stream_id, sid, body, self._node.now())
        self._node.pump()
        if wait_ns:
            await self._node.until(lambda: self._control.subscribe_answer(stream_id, sid).confirmed, wait_ns / NS_PER_S)
        return respond(request, self._control.subscribe_answer(stream_id, sid), 201 if created else 200)

    async def unsubscribe(self, request: web.Request) -> web.Response:
        """DELETE .../subscribers/{sid}: 204, also when it is not there."""
        self._control.unsubscribe(_stream_id(request), check_subscriber_id(request.match_info["sid"]), self._node.now())
        self._node.pump()
        return web.Response(status=204)

    async def describe(self, request: web.Request) -> web.Response:
        """GET /v1/streams/{id}: where it comes from and how well."""
        return respond(request, self._control.describe(_stream_id(request), self._node.stream_row))

    async def list_streams(self, request: web.Request) -> web.Response:
        """GET /v1/streams?limit=&cursor=: in order of id; ``next_cursor`` is the last id of a full page."""
        limit = _number(request, "limit")
        limit = 100 if limit is None else limit
        if not 1 <= limit <= LIST_LIMIT_MAX:
            raise Problem(422, "range", "limit is out of range", f"1 to {LIST_LIMIT_MAX}", field="limit")
        after = request.query.get("cursor", "")
        ids = [stream_id for stream_id in sorted(self._control.streams()) if stream_id > after]
        items = [self._control.describe(stream_id, self._node.stream_row) for stream_id in ids[:limit]]
        cursor = ids[limit - 1] if len(ids) > limit else None
        return respond(request, {"items": items, "next_cursor": cursor})

    async def sdp(self, request: web.Request) -> web.Response:
        """GET .../sdp?sid=: the file that ffmpeg or VLC opens."""
        stream_id = _stream_id(request)
        if "sid" not in request.query:
            raise Problem(422, "missing", "Which subscriber?", "add ?sid=", field="sid")
        tracks, addresses, origin = self._control.sdp_facts(stream_id, check_subscriber_id(request.query["sid"]))
        return web.Response(text=sdp(stream_id, tracks, addresses, origin), content_type="application/sdp")

    async def keyframe(self, request: web.Request) -> web.Response:
        """POST .../keyframe: 202; merged with outstanding requests."""
        self._control.keyframe(_stream_id(request), self._node.now())
        self._node.pump()
        return respond(request, {"status": "asked"}, 202)

    async def links(self, request: web.Request) -> web.Response:
        return respond(request, {"items": self._node.status()["links"]})

    async def link(self, request: web.Request) -> web.Response:
        """GET /v1/links/{peer}?since=: everything known of it; round trips from number `since` on."""
        since = min(_number(request, "since") or 0, 0xFFFFFFFF)
        return respond(request, self._node.link(request.match_info["peer"], since))

    async def workers(self, request: web.Request) -> web.Response:
        return respond(request, {"items": self._node.status()["workers"]})

    async def status(self, request: web.Request) -> web.Response:
        return respond(request, self._node.status())

    async def version(self, request: web.Request) -> web.Response:
        return respond(request, {"version": __version__, "relay": self._node.relay_id})

    async def healthz(self, request: web.Request) -> web.Response:
        return respond(request, {"status": "ok"})

    async def readyz(self, request: web.Request) -> web.Response:
        """503 with the reasons while it cannot take streams."""
        reasons = self._node.reasons()
        return respond(request, {"ready": not reasons, "reasons": reasons}, 503 if reasons else 200)

    async def metrics(self, request: web.Request) -> web.Response:
        text = exposition(self._node.collector)
        return web.Response(body=text, headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    async def openapi(self, request: web.Request) -> web.Response:
        return respond(request, document())


def _stream_id(request: web.Request) -> str:
    return check_stream_id(request.match_info["id"])


def _number(request: web.Request, name: str) -> int | None:
    text = request.query.get(name)
    if text is None:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 19:
        raise Problem(422, "type", f"{name} is not a number", text[:40], field=name)
    return int(text)


def _wait_ns(request: web.Request) -> int:
    text = request.query.get("wait", "0")
    try:
        wait_ns = parse_duration_ns(text)
    except ValueError as error:
        raise Problem(422, "type", "wait is not a duration", str(error), field="wait") from None
    return min(wait_ns, WAIT_MAX_NS)
