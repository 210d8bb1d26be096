"""The codec of the 64-byte records that the control plane and a worker exchange (csrc/forward/zr_cmd.h).

    u16 op, u16 0, u32 seq, u32 a b c d, u64 x y, zr_addr (20 bytes), u32 0        little-endian

Which operations exist and what their fields are called comes from the core's own tables, `_core.COMMANDS` and
`_core.EVENTS`: rows of (op, (a, b, c, d, x, y, addr), help) where "_" is an unused field. A Codec over other tables is
what tests use.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import cache
from typing import Any, TypeAlias

import msgspec

from relay.units import Address

Table: TypeAlias = Sequence[tuple[str, Sequence[str], str]]

RECORD_BYTES = 64
_RECORD = struct.Struct("<HHIIIIIQQ20sI")
_NO_ADDR = bytes(20)
_MAXES = (*[(1 << 32) - 1] * 4, *[(1 << 64) - 1] * 2)


class Event(msgspec.Struct, frozen=True):
    """What a worker reports: `fields` by the names of the table, `addr` under its own when the event has one."""

    op: str
    seq: int
    fields: dict[str, int]
    addr: Address | None = None

    @property
    def rc(self) -> int:
        """Of a `done` event: 0, or minus a zr_err value, as the core returns it (a negative number)."""
        rc = self.fields.get("rc", 0)
        return -rc if rc < 1 << 31 else rc - (1 << 32)


class Codec:
    """Encodes and decodes both directions over the two tables."""

    def __init__(self, commands: Table, events: Table) -> None:
        self._commands = {op: (code, tuple(names)) for code, (op, names, _) in enumerate(commands)}
        self._command_rows = [(op, tuple(names)) for op, names, _ in commands]
        self._events = {op: (code, tuple(names)) for code, (op, names, _) in enumerate(events)}
        self._event_rows = [(op, tuple(names)) for op, names, _ in events]

    def encode(self, op: str, seq: int = 0, *, addr: Address | None = None, **fields: int) -> bytes:
        """A command. Fields not given are 0; a name that `op` does not have, or a value that does not fit, raises."""
        return self._encode(self._commands, op, seq, addr, fields)

    def encode_event(self, op: str, seq: int = 0, *, addr: Address | None = None, **fields: int) -> bytes:
        """An event as a worker writes it: for simulated workers."""
        return self._encode(self._events, op, seq, addr, fields)

    def decode_event(self, record: bytes) -> Event:
        return self._decode(self._event_rows, record)

    def decode(self, record: bytes) -> Event:
        """A command, as the worker reads it: for tests, traces and simulated workers."""
        return self._decode(self._command_rows, record)

    @staticmethod
    def _encode(
        table: dict[str, tuple[int, tuple[str, ...]]], op: str, seq: int, addr: Address | None, fields: dict[str, int]
    ) -> bytes:
        if op not in table:
            raise ValueError(f"no operation {op!r}")
        code, names = table[op]
        unknown = fields.keys() - set(names[:6]) | fields.keys() & {"_"}
        if unknown:
            raise ValueError(f"{op} has no field {min(unknown)!r}")
        if addr is not None and names[6] == "_":
            raise ValueError(f"{op} has no address")
        values = [fields.get(name, 0) for name in names[:6]]
        for name, value, most in zip(names, values, _MAXES, strict=False):
            if not 0 <= value <= most:
                raise ValueError(f"{op}: {name} = {value} is outside 0..{most}")
        return _RECORD.pack(code, 0, seq, *values, _NO_ADDR if addr is None else addr.pack(), 0)

    @staticmethod
    def _decode(rows: list[tuple[str, tuple[str, ...]]], record: bytes) -> Event:
        code, _, seq, *values, addr, _ = _RECORD.unpack(record)
        if code >= len(rows):
            raise ValueError(f"no operation with code {code}")
        op, names = rows[code]
        fields = {name: value for name, value in zip(names[:6], values, strict=True) if name != "_"}
        return Event(op, seq, fields, Address.unpack(addr) if names[6] != "_" else None)


@cache
def core_codec() -> Codec:
    """The codec over the core's tables."""
    from relay import _core  # late: importing this module must not need the extension

    core: Any = _core
    return Codec(core.COMMANDS, core.EVENTS)


def encode(op: str, seq: int = 0, *, addr: Address | None = None, **fields: int) -> bytes:
    """A command record of 64 bytes: `core_codec().encode`."""
    return core_codec().encode(op, seq, addr=addr, **fields)


def decode_event(record: bytes) -> Event:
    """A worker's event: `core_codec().decode_event`."""
    return core_codec().decode_event(record)
