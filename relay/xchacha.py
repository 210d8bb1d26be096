"""XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha-03): nonces of 24 bytes, long enough to be random.

For cookie replies: a few a second, so HChaCha20 is written out here, 20 rounds of plain integers.
"""

from __future__ import annotations

import struct

from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

NONCE_BYTES = 24

_SIGMA = struct.unpack("<4I", b"expand 32-byte k")
_COLUMNS_THEN_DIAGONALS = (
    *((0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15)),
    *((0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14)),
)


def hchacha20(key: bytes, nonce: bytes) -> bytes:
    """A key of 32 bytes from a key of 32 and the first 16 bytes of the nonce."""
    x = [*_SIGMA, *struct.unpack("<8I", key), *struct.unpack("<4I", nonce)]
    for _ in range(10):
        for a, b, c, d in _COLUMNS_THEN_DIAGONALS:
            for left, right, by, turn in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
                x[left] = (x[left] + x[right]) & 0xFFFFFFFF
                word = x[by] ^ x[left]
                x[by] = (word << turn | word >> (32 - turn)) & 0xFFFFFFFF
    return struct.pack("<8I", *x[:4], *x[12:])


def _inner(key: bytes, nonce: bytes) -> tuple[ChaCha20Poly1305, bytes]:
    return ChaCha20Poly1305(hchacha20(key, nonce[:16])), bytes(4) + nonce[16:]


def seal(key: bytes, nonce: bytes, plain: bytes, aad: bytes) -> bytes:
    """The ciphertext and its tag of 16 bytes."""
    cipher, short = _inner(key, nonce)
    return cipher.encrypt(short, plain, aad)


def open_(key: bytes, nonce: bytes, sealed: bytes, aad: bytes) -> bytes:
    """The plaintext.

    Raises:
        cryptography.exceptions.InvalidTag: key, nonce, AAD or ciphertext are not what was sealed.
    """
    cipher, short = _inner(key, nonce)
    return cipher.decrypt(short, sealed, aad)
