"""Bytes that must not be seen: their text is `***` wherever somebody prints, logs or formats them."""

from __future__ import annotations

import hmac


class Secret:
    """Some secret bytes. `reveal()` is the only way to them; equality takes the same time whatever differs."""

    __slots__ = ("_data",)

    def __init__(self, data: bytes) -> None:
        self._data = bytes(data)

    def reveal(self) -> bytes:
        return self._data

    def __repr__(self) -> str:
        return "***"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._data, other._data)

    def __hash__(self) -> int:
        return hash((Secret, len(self._data)))
