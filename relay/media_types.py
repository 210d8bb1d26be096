"""Bodies in and out: JSON by default, MessagePack on request, problems in the same two shapes (RFC 9457)."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec
from aiohttp import web

from relay.errors import Problem

T = TypeVar("T")

MSGPACK_TYPES = ("application/vnd.msgpack", "application/msgpack", "application/x-msgpack")
JSON_RANGES = ("*/*", "application/*", "application/json", "application/problem+json")
BODY_MAX = 64 * 1024
SEND = "JSON is application/json, MessagePack application/vnd.msgpack"

_json_encoder = msgspec.json.Encoder()
_msgpack_encoder = msgspec.msgpack.Encoder()


def wants_msgpack(request: web.Request) -> bool:
    """True when ``Accept`` likes MessagePack best (RFC 9110 12.5.1); 406 when it takes nothing we can give."""
    best, msgpack = 0.0, False
    for part in request.headers.get("Accept", "*/*").split(","):
        kind, *parameters = (word.strip().lower() for word in part.split(";"))
        if kind in MSGPACK_TYPES or kind in JSON_RANGES:
            quality = _quality(parameters)
            if quality > best:
                best, msgpack = quality, kind in MSGPACK_TYPES
    if best == 0.0:
        raise Problem(406, "not-acceptable", "Nothing acceptable to send", SEND)
    return msgpack


def _quality(parameters: list[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return min(1.0, max(0.0, float(value)))
            except ValueError:
                return 0.0
    return 1.0


async def read_body(request: web.Request, shape: type[T]) -> T:
    """The request's body as ``shape``; unknown fields, wrong types and bad syntax become 4xx problems.

    Raises:
        Problem: 413 above 64 KiB, 415 for another media type, 400 ``empty`` or ``syntax``, 422 ``unknown_field``,
            ``missing`` or ``type`` with the field to blame.
    """
    kind = (request.content_type or "application/json").lower()
    if kind not in MSGPACK_TYPES and kind not in ("application/json", "application/octet-stream"):
        raise Problem(415, "media-type", "Unsupported media type", f"{kind}: {SEND}")
    if request.headers.get("Content-Encoding"):
        raise Problem(415, "media-type", "Unsupported media type", "bodies are taken uncompressed")
    if (request.content_length or 0) > BODY_MAX:
        raise Problem(413, "too-large", "Body too large", f"at most {BODY_MAX} bytes")
    body = await request.content.read(BODY_MAX + 1)
    while len(body) <= BODY_MAX and not request.content.at_eof():
        body += await request.content.read(BODY_MAX + 1 - len(body))
    if len(body) > BODY_MAX:
        raise Problem(413, "too-large", "Body too large", f"at most {BODY_MAX} bytes")
    if not body:
        raise Problem(400, "empty", "A body is required", "the request has none")
    try:
        if kind in MSGPACK_TYPES:
            return msgspec.msgpack.decode(body, type=shape)
        return msgspec.json.decode(body, type=shape)
    except msgspec.ValidationError as error:
        raise _blame(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Problem(400, "syntax", "The body does not parse", str(error)) from None


def _blame(text: str) -> Problem:
    """msgspec names the place as "... - at `$.tracks[0].kind`"."""
    message, _, place = text.partition(" - at `")
    field = place.rstrip("`").removeprefix("$.").removeprefix("$") or None
    if "unknown field" in message:
        name = message.split("`")[1] if "`" in message else ""
        return Problem(422, "unknown_field", "Unknown field", message, field=f"{field}.{name}" if field else name)
    if "missing required field" in message:
        name = message.split("`")[1] if "`" in message else ""
        return Problem(422, "missing", "A field is missing", message, field=f"{field}.{name}" if field else name)
    return Problem(422, "type", "A field has the wrong type", message, field=field)


def respond(request: web.Request, body: Any, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """``body`` (struct, list or dict) in the shape the caller accepts."""
    if wants_msgpack(request):
        return web.Response(
            body=_msgpack_encoder.encode(body), status=status, content_type=MSGPACK_TYPES[0], headers=headers
        )
    return web.Response(
        body=_json_encoder.encode(body), status=status, content_type="application/json", headers=headers
    )


def respond_problem(request: web.Request, problem: Problem, request_id: str) -> web.Response:
    """The problem as ``application/problem+json``, or the same map in MessagePack."""
    headers = {"X-Request-Id": request_id}
    if problem.retry_after_s is not None:
        headers["Retry-After"] = str(max(1, round(problem.retry_after_s)))
    accept = request.headers.get("Accept", "")
    body = problem.to_dict(request_id)
    if any(kind in accept for kind in MSGPACK_TYPES):
        return web.Response(
            body=_msgpack_encoder.encode(body), status=problem.status, content_type=MSGPACK_TYPES[0], headers=headers
        )
    return web.Response(
        body=_json_encoder.encode(body), status=problem.status, content_type="application/problem+json", headers=headers
    )
