"""The three handshake datagrams, byte by byte, and their MACs (PROTOCOL.md §3). Pure.

    initiation   type 1 | 0 0 0 | sender 4 | ephemeral 32 | static 48 | stamp, params 60 | mac1 16 | mac2 16      180
    response     type 1 | 0 0 0 | sender 4 | receiver 4 | ephemeral 32 | params 40 | mac1 16 | mac2 16            116
    cookie       type 1 | 0 0 0 | receiver 4 | nonce 24 | sealed cookie or stamp 32                                64

mac1 proves that the sender knows the responder's key and the mesh key; mac2 that it receives at its source address.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from dataclasses import dataclass

from relay.noise import blake2s

MAC_BYTES = 16
COOKIE_BYTES = 16
COOKIE_REPLY_BYTES = 64
LANE_AGENT = 63

_PARAMS = struct.Struct("<BBBBHHQQ")


@dataclass(frozen=True)
class Labels:
    """What tells one use of the pattern from another."""

    prologue: bytes
    types: tuple[int, int, int]  # initiation, response, cookie
    mesh_key_in_macs: bool
    params: bool  # do the payloads carry Params?

    @property
    def initiation_bytes(self) -> int:
        return 180 if self.params else 148

    @property
    def response_bytes(self) -> int:
        return 116 if self.params else 92


ZRELAY = Labels(b"zrelay v1", (0x08, 0x09, 0x0A), mesh_key_in_macs=True, params=True)
WIREGUARD = Labels(b"WireGuard v1 zx2c4 Jason@zx2c4.com", (1, 2, 3), mesh_key_in_macs=False, params=False)


@dataclass(frozen=True)
class Params:
    """What a relay says of itself inside the handshake, 24 bytes.

    cipher: 1 when this CPU has AES, else 2; the session uses the larger of both. `boot_id` changes whenever its sender
    cannot go on with the session it had.
    """

    version: int = 1
    cipher: int = 1
    lanes: int = 1
    rate_idle: int = 4
    rate_active: int = 4
    boot_id: int = 0
    caps: int = 0

    def pack(self) -> bytes:
        return _PARAMS.pack(
            self.version, self.cipher, self.lanes, 0, self.rate_idle, self.rate_active, self.boot_id, self.caps
        )

    @classmethod
    def unpack(cls, data: bytes) -> Params:
        version, cipher, lanes, _, idle, active, boot_id, caps = _PARAMS.unpack_from(data)
        return cls(version, cipher, lanes, idle, active, boot_id, caps)

    def refusal(self) -> str | None:
        """The drop word, when we cannot have a session with who says this."""
        if self.version != 1:
            return "version"
        return None if self.cipher in (1, 2) and 1 <= self.lanes <= 62 else "msg"


class Macs:
    """The keys of mac1 and of cookies for messages to one static key."""

    def __init__(self, labels: Labels, public: bytes, mesh_key: bytes) -> None:
        tail = mesh_key if labels.mesh_key_in_macs else b""
        self._mac1_key = blake2s(b"mac1----", public, tail)
        self.cookie_key = blake2s(b"cookie--", public, tail)

    def finish(self, message: bytes, cookie: bytes | None) -> bytes:
        """The message with both MACs; mac2 is zero without a cookie."""
        with_mac1 = message + mac(self._mac1_key, message)
        return with_mac1 + (bytes(MAC_BYTES) if cookie is None else mac(cookie, with_mac1))

    def good(self, data: bytes) -> bool:
        """Is mac1 right? mac2 is the gate's, which alone knows its secret."""
        body = data[: -2 * MAC_BYTES]
        return hmac.compare_digest(mac(self._mac1_key, body), data[-2 * MAC_BYTES : -MAC_BYTES])


def mac(key: bytes, data: bytes) -> bytes:
    """Keyed BLAKE2s, 16 bytes."""
    return hashlib.blake2s(data, key=key, digest_size=MAC_BYTES).digest()


def mac1_of(data: bytes) -> bytes:
    return data[-2 * MAC_BYTES : -MAC_BYTES]


def head(kind: int, *indices: int) -> bytes:
    """The clear beginning: type and index of an initiation (sender), a response (both), a cookie reply (receiver)."""
    return struct.pack(f"<B3x{len(indices)}I", kind, *indices)
