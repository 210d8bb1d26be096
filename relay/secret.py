"""Bytes that are not to be seen: neither by repr, str nor format, so that no log, trace or dump shows them."""

from __future__ import annotations

import hmac


class Secret:
    """`reveal()` is the only way to the bytes. Compares in constant time."""

    __slots__ = ("_bytes",)

    def __init__(self, data: bytes) -> None:
        self._bytes = data

    def reveal(self) -> bytes:
        return self._bytes

    def __repr__(self) -> str:
        return "***"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._bytes, other._bytes)

    def __hash__(self) -> int:
        return hash(self._bytes)

    def __reduce__(self) -> str:
        raise TypeError("a secret is not pickled")
