"""A small client of a relay's API, for the command line, the demo and tests: JSON, one connection pool.

async with Client("http://127.0.0.1:7481") as relay:
    await relay.put("/v1/streams/cam1", {...})
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any
from urllib.parse import quote

import aiohttp

from relay.errors import Problem

_FIELDS = {"type", "code", "title", "status", "detail", "field", "retry_after_s", "request_id"}


class Unreachable(Exception):
    """No relay answers there; the message says where."""


class Client:
    """Talks to ``base`` ("http://ip:port") or, when ``socket`` is given, to that Unix socket.

    Every call answers the decoded JSON body (None for 204, text for other media types) or raises Problem with what the
    relay said, or Unreachable.
    """

    def __init__(self, base: str = "http://zrelay", *, socket: str | None = None, timeout_s: float = 10.0) -> None:
        self._base = base.rstrip("/")
        self.where = socket or base
        self._socket = socket
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Client:
        connector = aiohttp.UnixConnector(self._socket) if self._socket else aiohttp.TCPConnector()
        self._session = aiohttp.ClientSession(connector=connector, timeout=self._timeout)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def get(self, path: str) -> Any:
        return await self._call("GET", path)

    async def put(self, path: str, body: dict[str, Any]) -> Any:
        return await self._call("PUT", path, body)

    async def post(self, path: str, body: dict[str, Any] | None = None) -> Any:
        return await self._call("POST", path, body)

    async def delete(self, path: str) -> None:
        await self._call("DELETE", path)

    async def wait_ready(self, timeout_s: float) -> None:
        """Until ``/readyz`` answers 200; Unreachable when it does not within ``timeout_s``."""
        async with asyncio.timeout(timeout_s + 1):
            for _ in range(max(1, int(timeout_s / 0.02))):
                try:
                    await self.get("/readyz")
                    return
                except (Unreachable, Problem):
                    await asyncio.sleep(0.02)
        raise Unreachable(f"{self.where} is not ready after {timeout_s:g} s")

    async def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        if self._session is None:
            raise RuntimeError("use `async with Client(...)`")
        try:
            async with self._session.request(method, self._base + path, json=body) as response:
                content_type = response.content_type
                if response.status >= 400:
                    raise _problem(response.status, await response.read(), content_type)
                if response.status == 204:
                    return None
                if content_type.endswith("json"):
                    return await response.json()
                return await response.text()
        except aiohttp.InvalidURL as error:
            raise Unreachable(f"{self.where!r} is not a URL: {error.description or 'write http://ip:port'}") from None
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:  # ValueError: host name, JSON
            raise Unreachable(f"{self.where}: {error or type(error).__name__}") from None


def stream_path(stream_id: str) -> str:
    """``/v1/streams/room42%2Fteacher``: the id is one path segment."""
    return f"/v1/streams/{quote(stream_id, safe='')}"


def _problem(status: int, body: bytes, content_type: str) -> Problem:
    if content_type != "application/problem+json":
        return Problem(status, "http", f"HTTP {status}", body[:200].decode(errors="replace"))
    import json

    said = json.loads(body)
    return Problem(
        status,
        said.get("code", "http"),
        said.get("title", ""),
        said.get("detail", ""),
        field=said.get("field"),
        extra={key: value for key, value in said.items() if key not in _FIELDS},
        retry_after_s=said.get("retry_after_s"),
    )
