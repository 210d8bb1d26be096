"""Who this relay is, and whom it knows: what the handshake needs of the keys."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from relay.secret import Secret

KEY_BYTES = 32
CIPHER_AES_GCM, CIPHER_CHACHA = 1, 2


@dataclass(frozen=True)
class Identity:
    """`private`: our X25519 key. `mesh_key`: 32 bytes every relay of the mesh knows. `peers`: public key by relay id.

    `cipher`: CIPHER_AES_GCM where this CPU has AES, else CIPHER_CHACHA.
    """

    private: Secret
    mesh_key: Secret
    peers: Mapping[str, bytes]
    cipher: int = CIPHER_AES_GCM

    def __post_init__(self) -> None:
        keys = [self.private.reveal(), self.mesh_key.reveal(), *self.peers.values()]
        if any(len(key) != KEY_BYTES for key in keys):
            raise ValueError("a key has 32 bytes")
        if len(set(self.peers.values())) != len(self.peers):
            raise ValueError("two peers have the same public key")
