"""The API as an OpenAPI 3.1 document, made from the request and answer structs."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import msgspec

from relay import __version__
from relay.requests import PublishAnswer, PublishRequest, StreamView, SubscribeAnswer, SubscribeRequest

_STREAM = {
    "name": "id",
    "in": "path",
    "required": True,
    "schema": {"type": "string"},
    "description": "`/` is sent as %2F",
}
_SID = {"name": "sid", "in": "path", "required": True, "schema": {"type": "string"}}
_PEER = {"name": "peer", "in": "path", "required": True, "schema": {"type": "string"}}
_PROBLEM = {
    "description": "RFC 9457 problem",
    "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
}


def _query(name: str, text: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "schema": {"type": "string"}, "description": text}


@cache
def document() -> dict[str, Any]:
    """The whole document; the same object at each call."""
    shapes = (PublishRequest, PublishAnswer, SubscribeRequest, SubscribeAnswer, StreamView)
    _, components = msgspec.json.schema_components(shapes, ref_template="#/components/schemas/{name}")
    components["Problem"] = {
        "type": "object",
        "required": ["type", "code", "title", "status", "request_id"],
        "properties": {
            "type": {"type": "string"},
            "code": {"type": "string"},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string"},
            "field": {"type": "string"},
            "request_id": {"type": "string"},
        },
    }

    def call(
        summary: str,
        *,
        body: str | None = None,
        answers: Mapping[int, str | None],
        parameters: tuple[dict[str, Any], ...] = (),
        problems: tuple[int, ...] = (),
    ) -> dict[str, Any]:
        said: dict[str, Any] = {"summary": summary, "parameters": list(parameters), "responses": {}}
        if body:
            said["requestBody"] = {"required": True, "content": _content(body)}
        for status, shape in answers.items():
            said["responses"][str(status)] = {"description": "ok"} | ({"content": _content(shape)} if shape else {})
        for status in problems:
            said["responses"][str(status)] = _PROBLEM
        return said

    publish = {200: "PublishAnswer", 201: "PublishAnswer"}
    subscribe = {200: "SubscribeAnswer", 201: "SubscribeAnswer"}
    paths = {
        "/v1/streams": {
            "get": call(
                "Streams in order of id",
                answers={200: None},
                parameters=(_query("limit", "1 to 1000"), _query("cursor", "next_cursor of the page before")),
            ),
        },
        "/v1/streams/{id}": {
            "put": call(
                "Publish here",
                body="PublishRequest",
                answers=publish,
                parameters=(_STREAM,),
                problems=(400, 409, 413, 415, 422, 429, 503),
            ),
            "get": call(
                "Where a stream comes from and how well",
                answers={200: "StreamView"},
                parameters=(_STREAM,),
                problems=(404,),
            ),
            "delete": call(
                "Stop publishing",
                answers={204: None},
                parameters=(_STREAM, _query("epoch", "only when it is not newer")),
                problems=(409,),
            ),
        },
        "/v1/streams/{id}/subscribers/{sid}": {
            "put": call(
                "Take a stream out here",
                body="SubscribeRequest",
                answers=subscribe,
                parameters=(_STREAM, _SID, _query("wait", "answer when confirmed, at most this long, e.g. 5s")),
                problems=(400, 422, 429, 503),
            ),
            "delete": call("Stop taking it", answers={204: None}, parameters=(_STREAM, _SID)),
        },
        "/v1/streams/{id}/sdp": {
            "get": call(
                "The SDP file to open",
                answers={200: None},
                parameters=(_STREAM, _query("sid", "which subscriber")),
                problems=(404, 422),
            )
        },
        "/v1/streams/{id}/keyframe": {
            "post": call(
                "Ask the publisher for a key frame", answers={202: None}, parameters=(_STREAM,), problems=(404,)
            )
        },
        "/v1/links": {"get": call("Peers and the state of their sessions", answers={200: None})},
        "/v1/links/{peer}": {
            "get": call(
                "One link: estimates, the last hour by minutes, round trips",
                answers={200: None},
                parameters=(_PEER, _query("since", "round trips from this number on")),
                problems=(404, 422),
            )
        },
        "/v1/workers": {"get": call("Workers and their counters", answers={200: None})},
        "/v1/status": {"get": call("Everything `zrelay status` shows", answers={200: None})},
        "/v1/version": {"get": call("Version", answers={200: None})},
        "/healthz": {"get": call("The agent answers", answers={200: None})},
        "/readyz": {"get": call("The relay takes streams", answers={200: None, 503: None})},
        "/metrics": {"get": call("Prometheus text format", answers={200: None})},
        "/openapi.json": {"get": call("This document", answers={200: None})},
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "zrelay", "version": __version__},
        "paths": paths,
        "components": {"schemas": components},
    }


def _content(shape: str) -> dict[str, Any]:
    schema = {"schema": {"$ref": f"#/components/schemas/{shape}"}}
    return {"application/json": schema, "application/vnd.msgpack": schema}
