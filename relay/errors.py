"""Errors: the core's return codes as exceptions, and the API's problems (RFC 9457).

The core's list is written once, in csrc/base/zr_err.h. The binding hands it over at import (`bind`), so this module has
no list of its own and `import relay.errors` needs no extension.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

PROBLEM_BASE = "https://zrelay.dev/problems/"


class CoreError(Exception):
    """A return code < 0 of the C core. Each name of ZR_ERR_LIST has a subclass, e.g. `CoreFull` for "full"."""

    code: ClassVar[int] = 0
    name: ClassVar[str] = "unknown"
    text: ClassVar[str] = "not in the list of errors"

    def __init__(self, context: str = "", *, rc: int | None = None) -> None:
        self.rc = self.code if rc is None else rc
        said = f"{self.name} ({self.rc}): {self.text}"
        super().__init__(f"{context}: {said}" if context else said)


_by_code: dict[int, type[CoreError]] = {}


def bind(table: Iterable[tuple[str, int, str]]) -> dict[str, type[CoreError]]:
    """Makes one subclass per (name, value, text) of the core's list; returns them by name.

    Binding the same table again changes nothing, so that `except` clauses stay true.
    """
    made: dict[str, type[CoreError]] = {}
    for name, code, text in table:
        known = _by_code.get(code)
        if known is None or known.name != name:
            members = {"code": code, "name": name, "text": text, "__doc__": text, "__module__": __name__}
            known = type(f"Core{name.capitalize()}", (CoreError,), members)
            _by_code[code] = known
        made[name] = known
    return made


def error_for(rc: int, context: str = "") -> CoreError:
    """The exception for a return code < 0; a plain CoreError when the code is not in the list."""
    return _by_code.get(rc, CoreError)(context, rc=rc)


class Problem(Exception):
    """What the API answers instead of a result: `application/problem+json`.

    `code` is stable and what callers switch on; `detail` is for people and may change. `field` names the member of
    the request that is wrong. `extra` is merged into the body. `retry_after_s` becomes the Retry-After header too.
    """

    def __init__(
        self,
        status: int,
        code: str,
        title: str,
        detail: str = "",
        *,
        field: str | None = None,
        extra: dict[str, Any] | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(f"{status} {code}: {detail or title}")
        self.status = status
        self.code = code
        self.title = title
        self.detail = detail
        self.field = field
        self.extra = dict(extra or {})
        self.retry_after_s = retry_after_s

    def to_dict(self, request_id: str) -> dict[str, Any]:
        """The body to send; members that say nothing are left out."""
        body: dict[str, Any] = {
            **self.extra,
            "type": PROBLEM_BASE + self.code,
            "code": self.code,
            "title": self.title,
            "status": self.status,
            "request_id": request_id,
        }
        if self.detail:
            body["detail"] = self.detail
        if self.field is not None:
            body["field"] = self.field
        if self.retry_after_s is not None:
            body["retry_after_s"] = self.retry_after_s
        return body
