"""Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s (Noise specification, revision 34): the two messages of one handshake. Pure.

    <- s
    ...
    -> e, es, s, ss          write_initiation / read_initiation   (who calls says who he is)
    <- e, ee, se, psk        write_response / read_response       (both know the psk, both were here)

A `Handshake` is one side of one handshake. Reading fails as a whole: after an exception the object is as it was before,
so that a forged message costs its receiver nothing but time.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

PROTOCOL = b"Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s"
KEY_BYTES = 32
TAG_BYTES = 16
_BLOCK_BYTES = 64  # of BLAKE2s
_INNER_PAD = bytes(byte ^ 0x36 for byte in range(256))
_OUTER_PAD = bytes(byte ^ 0x5C for byte in range(256))


class HandshakeError(Exception):
    """A message that is refused; `word` is the drop word to count, here `dh` or `auth`."""

    def __init__(self, word: str) -> None:
        super().__init__(word)
        self.word = word


def blake2s(*parts: bytes) -> bytes:
    """HASH of the specification: BLAKE2s with 32 bytes of output."""
    return hashlib.blake2s(b"".join(parts)).digest()


def hmac_blake2s(key: bytes, data: bytes) -> bytes:
    """HMAC-HASH of the specification, for keys of at most one block. The handshake does 25 of them: hmac.digest with
    this hash takes twice as long."""
    block = key.ljust(_BLOCK_BYTES, b"\0")
    inner = hashlib.blake2s(block.translate(_INNER_PAD) + data).digest()
    return hashlib.blake2s(block.translate(_OUTER_PAD) + inner).digest()


def kdf(chain: bytes, material: bytes, outputs: int) -> list[bytes]:
    """HKDF of the specification, section 4.3: one to three outputs of 32 bytes."""
    secret = hmac_blake2s(chain, material)
    made, last = [], b""
    for number in range(1, outputs + 1):
        last = hmac_blake2s(secret, last + bytes((number,)))
        made.append(last)
    return made


class KeyPair:
    """An X25519 key with its public half."""

    __slots__ = ("_private", "public")

    def __init__(self, private: bytes) -> None:
        self._private = X25519PrivateKey.from_private_bytes(private)
        self.public = self._private.public_key().public_bytes_raw()

    def __repr__(self) -> str:
        return f"KeyPair(public={self.public.hex()[:8]})"

    def dh(self, public: bytes) -> bytes:
        """The shared secret of 32 bytes.

        Raises:
            HandshakeError: `dh`, the other key is a point of low order and the secret would be zero.
        """
        try:
            return self._private.exchange(X25519PublicKey.from_public_bytes(public))
        except ValueError:
            raise HandshakeError("dh") from None


@dataclass(frozen=True)
class Symmetric:
    """SymmetricState, section 5.2, as a value: every step answers the next one.

    In this pattern each key encrypts exactly once, so the nonce is always zero and is not kept.
    """

    chain: bytes
    hash: bytes
    key: bytes = b""

    @classmethod
    def begin(cls, prologue: bytes, responder: bytes) -> Symmetric:
        """After Initialize, the prologue and the responder's static key, which both sides know before."""
        first = blake2s(PROTOCOL)
        return cls(first, blake2s(blake2s(first, prologue), responder))

    def mix_hash(self, data: bytes) -> Symmetric:
        return Symmetric(self.chain, blake2s(self.hash, data), self.key)

    def mix_chain(self, material: bytes) -> Symmetric:
        """MixKey where the next token replaces the key before anything is encrypted with it."""
        return Symmetric(kdf(self.chain, material, 1)[0], self.hash)

    def mix_key(self, material: bytes) -> Symmetric:
        chain, key = kdf(self.chain, material, 2)
        return Symmetric(chain, self.hash, key)

    def mix_ephemeral(self, public: bytes) -> Symmetric:
        """Token e where a psk is used, section 9.2: it goes into the hash and into the chaining key."""
        return self.mix_hash(public).mix_chain(public)

    def mix_psk(self, psk: bytes) -> Symmetric:
        chain, hashed, key = kdf(self.chain, psk, 3)
        return Symmetric(chain, blake2s(self.hash, hashed), key)

    def seal(self, plain: bytes) -> tuple[Symmetric, bytes]:
        sealed = ChaCha20Poly1305(self.key).encrypt(bytes(12), plain, self.hash)
        return self.mix_hash(sealed), sealed

    def open(self, sealed: bytes) -> tuple[Symmetric, bytes]:
        try:
            plain = ChaCha20Poly1305(self.key).decrypt(bytes(12), sealed, self.hash)
        except InvalidTag:
            raise HandshakeError("auth") from None
        return self.mix_hash(sealed), plain


class Handshake:
    """One side of one handshake.

    static: our long-term key. psk: 32 bytes both sides know. An `ephemeral` key is fresh, for one handshake alone.
    """

    def __init__(self, static: KeyPair, psk: bytes, prologue: bytes) -> None:
        self._static, self._psk, self._prologue = static, psk, prologue
        self._state = Symmetric(b"", b"")
        self._ephemeral = static  # until a message is written
        self._theirs = b""  # the other side's ephemeral key

    # -- the initiator ----------------------------------------------------------------------------------------------

    def write_initiation(
        self, ephemeral: KeyPair, responder: bytes, payload: bytes, static_dh: bytes | None = None
    ) -> bytes:
        """ephemeral 32 | sealed static 48 | sealed payload. `static_dh`: DH of the two static keys, if it is known."""
        state = Symmetric.begin(self._prologue, responder).mix_ephemeral(ephemeral.public)
        state, sealed_static = state.mix_key(ephemeral.dh(responder)).seal(self._static.public)
        state = state.mix_key(self._static.dh(responder) if static_dh is None else static_dh)
        state, sealed = state.seal(payload)
        self._state, self._ephemeral = state, ephemeral
        return ephemeral.public + sealed_static + sealed

    def read_response(self, message: bytes) -> bytes:
        """The payload of the answer; `split` may be called then."""
        theirs = message[:KEY_BYTES]
        state = self._state.mix_ephemeral(theirs).mix_chain(self._ephemeral.dh(theirs))
        state = state.mix_chain(self._static.dh(theirs)).mix_psk(self._psk)
        state, payload = state.open(message[KEY_BYTES:])
        self._state = state
        return payload

    # -- the responder ----------------------------------------------------------------------------------------------

    def read_static(self, message: bytes) -> bytes:
        """First half of an initiation: whose it claims to be. Not proven before `read_payload` succeeds."""
        theirs = message[:KEY_BYTES]
        state = Symmetric.begin(self._prologue, self._static.public).mix_ephemeral(theirs)
        state, static = state.mix_key(self._static.dh(theirs)).open(message[KEY_BYTES : 2 * KEY_BYTES + TAG_BYTES])
        self._state, self._theirs = state, theirs
        return static

    def read_payload(self, message: bytes, static: bytes, static_dh: bytes | None = None) -> bytes:
        """Second half: from here on it is certain that the owner of `static` wrote it, now or once."""
        state = self._state.mix_key(self._static.dh(static) if static_dh is None else static_dh)
        state, payload = state.open(message[2 * KEY_BYTES + TAG_BYTES :])
        self._state = state
        return payload

    def write_response(self, ephemeral: KeyPair, initiator: bytes, payload: bytes) -> bytes:
        """ephemeral 32 | sealed payload; `split` may be called then."""
        state = self._state.mix_ephemeral(ephemeral.public).mix_chain(ephemeral.dh(self._theirs))
        state = state.mix_chain(ephemeral.dh(initiator)).mix_psk(self._psk)
        state, sealed = state.seal(payload)
        self._state = state
        return ephemeral.public + sealed

    # -- both -------------------------------------------------------------------------------------------------------

    @property
    def hash(self) -> bytes:
        """What both sides have said so far, hashed."""
        return self._state.hash

    def derive(self, label: bytes) -> bytes:
        """A key that only the two sides know, of this moment of the handshake; not one of `split`."""
        return hmac_blake2s(self._state.chain, label)

    def split(self) -> tuple[bytes, bytes]:
        """(initiator to responder, responder to initiator): the direction secrets, 32 bytes each."""
        first, second = kdf(self._state.chain, b"", 2)
        return first, second
