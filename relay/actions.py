"""What the pure control plane asks its owner to do. The owner performs them in order (relay/node.py, tests/sim)."""

from __future__ import annotations

from typing import Any, TypeAlias

import msgspec

from relay.secret import Secret
from relay.units import Address


class SendDatagram(msgspec.Struct, frozen=True):
    """By the agent's own UDP port: a hello or an answer."""

    address: Address
    data: bytes


class SessionKeys(msgspec.Struct, frozen=True):
    """One generation of a session's keys. cipher: 1 AES-128-GCM, 2 ChaCha20-Poly1305; `send`, `recv`: 32 bytes each.

    `initiator`: may send under them at once. Who answered the handshake sends after a valid datagram under them.
    """

    cipher: int
    send: Secret
    recv: Secret
    initiator: bool


class SessionAdd(msgspec.Struct, frozen=True):
    """Add the session to the agent's own lane. The workers get theirs by Command. Without `keys` it is plaintext."""

    slot: int
    index: int
    peer_index: int
    lanes: int
    rate_mhz: int
    mtu: int
    address: Address
    keys: SessionKeys | None = None


class SessionRekey(msgspec.Struct, frozen=True):
    """The session's next generation, for every lane. The same index again, now as `initiator`: it is proven, send."""

    slot: int
    index: int
    peer_index: int
    keys: SessionKeys


class SessionDrop(msgspec.Struct, frozen=True):
    slot: int


class SendControl(msgspec.Struct, frozen=True):
    """On conversation 0 of the session."""

    slot: int
    payload: bytes


class Command(msgspec.Struct, frozen=True):
    """Into the worker's command ring."""

    worker: int
    record: bytes


class OpenIngress(msgspec.Struct, frozen=True):
    """Open a socket on ip:port (0: a free one) and give it to the worker as `slot`; then call on_ingress_open."""

    worker: int
    slot: int
    ip: str
    port: int


class CloseIngress(msgspec.Struct, frozen=True):
    """Whoever opened the socket of `slot` keeps it no longer; the worker is told by Command."""

    worker: int
    slot: int


class StreamChanged(msgspec.Struct, frozen=True):
    """What the API says about this stream may be different now."""

    stream_id: str


class Refuse(msgspec.Struct, frozen=True):
    """Count one refusal under this drop word."""

    word: str


class Log(msgspec.Struct, frozen=True):
    level: str
    event: str
    fields: dict[str, Any]


Action: TypeAlias = (
    SendDatagram
    | SessionAdd
    | SessionRekey
    | SessionDrop
    | SendControl
    | Command
    | OpenIngress
    | CloseIngress
    | StreamChanged
    | Refuse
    | Log
)
