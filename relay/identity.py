"""Who this relay is, and whom it knows: what the handshake needs of the keys. Held by the agent alone."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass

from relay.secret import Secret

KEY_BYTES = 32
CIPHER_AES_GCM, CIPHER_CHACHA = 1, 2
_P = (1 << 255) - 19
_LOW_ORDER = {
    0, 1, _P - 1, _P, _P + 1,
    325606250916557431795983626356110631294008115727848805560023387167927233504,
    39382357235489614581723060781553021112529911719440698176882885853963445705823,
}  # fmt: skip


@dataclass(frozen=True)
class Identity:
    """`private`: our X25519 key. `mesh_key`: 32 bytes every relay of the mesh knows. `peers`: public key by relay id.

    Of the peers at the start: sessions are told of changes by `set_peers`.
    `cipher`: CIPHER_AES_GCM where this CPU has AES, else CIPHER_CHACHA.
    `former`: our key before this one, None where there was none; good until `former_until`, on the agent's clock.
    """

    private: Secret
    mesh_key: Secret
    peers: Mapping[str, bytes]
    cipher: int = CIPHER_AES_GCM
    former: Secret | None = None
    former_until: int = 0

    def __post_init__(self) -> None:
        keys = [self.private.reveal(), self.mesh_key.reveal(), *self.peers.values()]
        keys += [] if self.former is None else [self.former.reveal()]
        if any(len(key) != KEY_BYTES for key in keys):
            raise ValueError("a key has 32 bytes")
        if len(set(self.peers.values())) != len(self.peers):
            raise ValueError("two peers have the same public key")


def parse_public(text: str) -> bytes:
    """A public key as `zrelay keys show` prints it. ValueError."""
    try:
        value = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"{text[:48]!r} is not base64: `zrelay keys show` prints the key") from None
    if len(value) != KEY_BYTES:
        raise ValueError(f"{text[:48]!r} holds {len(value)} bytes, a public key has {KEY_BYTES}")
    if int.from_bytes(value, "little") & (1 << 255) - 1 in _LOW_ORDER:
        raise ValueError("a point of low order is no public key: nothing agreed with it is secret")
    return value


def encode_public(key: bytes) -> str:
    return base64.b64encode(key).decode()
