"""Names that travel: stream, relay, subscriber and track ids.

[A-Za-z0-9._~/-]{1,128}     no empty, "." or ".." segment: an id may stand in a path without changing its meaning
"""

from __future__ import annotations

import re

from relay.errors import Problem

NAME_CHARS_MAX = 128
_NAME = re.compile(r"[A-Za-z0-9._~/-]{1,128}")


def name_error(text: str) -> str | None:
    """Why `text` is no name, or None when it is one."""
    if not text:
        return "is empty"
    if len(text) > NAME_CHARS_MAX:
        return f"has {len(text)} characters, at most {NAME_CHARS_MAX}"
    if _NAME.fullmatch(text) is None:
        return "may hold letters, digits and . _ ~ - / only"
    if any(segment in ("", ".", "..") for segment in text.split("/")):
        return "has an empty, '.' or '..' segment"
    return None


def is_name(text: str) -> bool:
    return name_error(text) is None


def _check(text: str, what: str, field: str) -> str:
    error = name_error(text)
    if error is not None:
        raise Problem(422, "id", f"Not a {what} id", f"{text[:40]!r} {error}", field=field)
    return text


def check_stream_id(text: str) -> str:
    """`text`, or a 422 `id` problem."""
    return _check(text, "stream", "id")


def check_subscriber_id(text: str) -> str:
    """`text`, or a 422 `id` problem."""
    return _check(text, "subscriber", "sid")


def check_relay_id(text: str) -> str:
    """`text`, or a 422 `id` problem."""
    return _check(text, "relay", "relay")
