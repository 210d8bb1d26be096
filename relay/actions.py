"""What the pure control plane asks its owner to do. It performs them in order (relay/performer.py, tests/sim)."""

from __future__ import annotations

from typing import Any, TypeAlias

import msgspec

from relay.secret import Secret
from relay.units import Address

KeyRow: TypeAlias = tuple[int, bool, bytes, bytes, int]  # cipher, at once, send, recv, age in ms


class SendDatagram(msgspec.Struct, frozen=True):
    """By the agent's own UDP port: a hello or an answer."""

    address: Address
    data: bytes


class SessionKeys(msgspec.Struct, frozen=True):
    """What a handshake gives to the lanes: a secret of 32 bytes for each direction.

    cipher: 1 AES-128-GCM, 2 ChaCha20-Poly1305. initiator: lanes send under these keys at once, else after the first
    valid datagram under them. made_at: when the handshake was (monotonic ns; 0: now); 15 minutes later they are over.
    """

    cipher: int
    send: Secret
    recv: Secret
    initiator: bool
    made_at: int = 0

    def row(self, now: int) -> KeyRow:
        """For _core: it holds the secrets openly, so use it up where it is made."""
        age_ms = max(now - self.made_at, 0) // 1_000_000 if self.made_at else 0
        return self.cipher, self.initiator, self.send.reveal(), self.recv.reveal(), min(age_ms, 0xFFFFFFFF)


class SessionAdd(msgspec.Struct, frozen=True):
    """Add the session to the agent's own lane. The workers get theirs by Command."""

    slot: int
    index: int
    peer_index: int
    lanes: int
    rate_mhz: int
    mtu: int
    address: Address
    keys: SessionKeys | None = None  # None: plaintext


class SessionRekey(msgspec.Struct, frozen=True):
    """One more generation of keys for a session that has some, with indices of its own. In every lane, too.

    Told again with the same index, and as `initiator`: the peer has them, every lane sends under them.
    """

    slot: int
    index: int
    peer_index: int
    keys: SessionKeys


class SessionDrop(msgspec.Struct, frozen=True):
    slot: int


class SessionPaths(msgspec.Struct, frozen=True):
    """Where the session's peer is listed, at most 8 addresses: the agent's lane finds out which is best."""

    slot: int
    addresses: tuple[Address, ...]


class HeardElsewhere(msgspec.Struct, frozen=True):
    """A worker's lane heard the session at `when` (ns): the agent's lane takes it for a sign of life."""

    slot: int
    when: int


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
    | SessionPaths
    | HeardElsewhere
    | SendControl
    | Command
    | OpenIngress
    | CloseIngress
    | StreamChanged
    | Refuse
    | Log
)
