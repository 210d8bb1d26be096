"""Seals datagrams by hand from PROTOCOL.md, with `cryptography`: what a peer with the right keys may send."""

from __future__ import annotations

import struct

from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from relay.actions import SessionKeys

AES = 1
IV = 12


class Sealer:
    """One lane of a peer, sending to one of ours; counts its datagrams from 0."""

    def __init__(self, keys: SessionKeys, index: int, *, lane: int, to_lane: int, epoch: int = 0) -> None:
        key_bytes = 16 if keys.cipher == AES else 32
        info = b"zlink lane" + struct.pack("<BBH", lane, to_lane, epoch)
        made = HKDFExpand(SHA256(), key_bytes + IV, info).derive(keys.send.reveal())
        key, self._iv = made[:key_bytes], int.from_bytes(made[key_bytes:], "little")
        self._aead = AESGCM(key) if keys.cipher == AES else ChaCha20Poly1305(key)
        self._head = struct.pack("<BBHI", 0x0B, lane, epoch, index << 6 | to_lane)
        self.counter = 0

    def seal(self, body: bytes = b"") -> bytes:
        """The next datagram."""
        head = self._head + struct.pack("<Q", self.counter)
        nonce = (self._iv ^ self.counter << 32).to_bytes(IV, "little")
        self.counter += 1
        return head + self._aead.encrypt(nonce, body, head)
