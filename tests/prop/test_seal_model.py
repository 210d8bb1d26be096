"""The seal against published vectors, and against the same three lines written with `cryptography`, both ways."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cryptography_vectors
import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.whitebox import ffi, lib

AES, CHACHA = 1, 2
HEAD, TAG = 16, 16
VECTORS = Path(cryptography_vectors.__file__).parent / "ciphers"
KEY_BYTES = {AES: 16, CHACHA: 32}
MANY = settings(max_examples=100_000) if os.environ.get("ZR_FULL") else settings()


class Seals:
    """One seal to seal with and one to open with, for both ciphers; keyed again and again."""

    def __init__(self) -> None:
        kit = ffi.new("zr_seal_kit *")
        assert lib.zr_seal_kit_open(kit) == 0
        self.kit = ffi.gc(kit, lib.zr_seal_kit_close)
        self.ours, self.theirs = self._make(True), self._make(False)

    def _make(self, to_seal: bool) -> Any:
        seal = ffi.new("zr_seal *")
        lib.zr_seal_init(seal)
        for cipher in (AES, CHACHA):
            assert lib.wb_seal_prepare(seal, self.kit, cipher, to_seal) == 0
        return ffi.gc(seal, lib.zr_seal_fini)

    def key(self, cipher: int, secret: bytes, path: tuple[int, int, int]) -> None:
        for seal in (self.ours, self.theirs):
            lib.zr_seal_wipe(seal)
            lib.wb_seal_key(seal, cipher, secret, *path)

    def key_raw(self, cipher: int, key: bytes, iv: bytes) -> None:
        for seal in (self.ours, self.theirs):
            lib.zr_seal_wipe(seal)
            assert lib.wb_seal_key_raw(seal, cipher, key, iv) == 0

    def seal(self, counter: int, head: bytes, body: bytes) -> bytes:
        datagram = bytearray(head + body + bytes(TAG))
        lib.zr_seal_put(self.ours, counter, ffi.from_buffer("uint8_t[]", datagram), len(datagram))
        return bytes(datagram)

    def open(self, counter: int, sealed: bytes) -> bytes | None:
        datagram = bytearray(sealed)
        good = lib.zr_seal_open(self.theirs, counter, ffi.from_buffer("uint8_t[]", datagram), len(datagram))
        return bytes(datagram[HEAD:-TAG]) if good else None


SEALS = Seals()


def lane_key(cipher: int, secret: bytes, path: tuple[int, int, int]) -> tuple[bytes, bytes]:
    """As PROTOCOL.md says it: (key, IV) of sending lane, receiving lane, epoch."""
    sender, receiver, epoch = path
    info = b"zlink lane" + bytes([sender, receiver]) + epoch.to_bytes(2, "little")
    made = HKDFExpand(SHA256(), KEY_BYTES[cipher] + 12, info).derive(secret)
    return made[:-12], made[-12:]


def aead(cipher: int, key: bytes) -> AESGCM | ChaCha20Poly1305:
    return AESGCM(key) if cipher == AES else ChaCha20Poly1305(key)


def nonce(iv: bytes, counter: int) -> bytes:
    return bytes(a ^ b for a, b in zip(iv, bytes(4) + counter.to_bytes(8, "little"), strict=True))


ciphers = st.sampled_from([AES, CHACHA])
secrets = st.binary(min_size=32, max_size=32)
paths = st.tuples(st.integers(0, 255), st.integers(0, 255), st.integers(0, 0xFFFF))
counters = st.integers(0, (1 << 64) - 1) | st.integers(0, 3) | st.just((1 << 64) - 1)
heads = st.binary(min_size=HEAD, max_size=HEAD)
bodies = st.binary(max_size=64) | st.binary(min_size=1380, max_size=1468)


@pytest.mark.timeout(1200)  # 100 000 times both ways
@MANY
@given(ciphers, secrets, paths, counters, heads, bodies)
def test_what_c_seals_python_opens_and_the_other_way(
    cipher: int, secret: bytes, path: tuple[int, int, int], counter: int, head: bytes, body: bytes
) -> None:
    key, iv = lane_key(cipher, secret, path)
    SEALS.key(cipher, secret, path)
    ours = SEALS.seal(counter, head, body)
    theirs = head + aead(cipher, key).encrypt(nonce(iv, counter), body, head)
    assert ours == theirs
    assert aead(cipher, key).decrypt(nonce(iv, counter), ours[HEAD:], head) == body
    assert SEALS.open(counter, theirs) == body


@given(ciphers, secrets, paths, counters, bodies, st.data())
def test_one_changed_bit_or_another_counter_is_refused_by_both(
    cipher: int, secret: bytes, path: tuple[int, int, int], counter: int, body: bytes, data: st.DataObject
) -> None:
    key, iv = lane_key(cipher, secret, path)
    SEALS.key(cipher, secret, path)
    sealed = SEALS.seal(counter, bytes(HEAD), body)
    bit = data.draw(st.integers(0, 8 * len(sealed) - 1))
    changed = bytearray(sealed)
    changed[bit // 8] ^= 1 << bit % 8
    assert SEALS.open(counter, bytes(changed)) is None
    assert SEALS.open(counter ^ 1, sealed) is None
    with pytest.raises(InvalidTag):
        aead(cipher, key).decrypt(nonce(iv, counter), bytes(changed[HEAD:]), bytes(changed[:HEAD]))


@given(secrets, st.binary(max_size=64), st.integers(1, 64))
def test_expanding_a_secret_is_what_cryptography_makes_of_it(secret: bytes, info: bytes, length: int) -> None:
    assert expand(secret, info, length) == HKDFExpand(SHA256(), length, info).derive(secret)


def expand(secret: bytes, info: bytes, length: int) -> bytes:
    out = ffi.new("uint8_t[]", length)
    lib.zr_hkdf_expand(secret, info, len(info), out, length)
    return bytes(ffi.buffer(out))


def test_expanding_a_secret_gives_the_bytes_of_rfc_5869_a_1() -> None:
    prk = bytes.fromhex("077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5")
    okm = "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"
    assert expand(prk, bytes(range(0xF0, 0xFA)), 42).hex() == okm


def vectors(path: Path) -> Iterator[dict[str, bytes | None]]:
    """Blocks of `name = hex`; FAIL stands for a tag that must not verify."""
    for block in re.split(r"\n\s*\n", path.read_text().replace("\r", "")):
        found = re.findall(r"^(\w+)\s*[=:] *([0-9a-fA-F]*)$", block, re.M)
        row: dict[str, bytes | None] = {
            name.lower(): bytes.fromhex(value) for name, value in found if name.lower() not in ("count", "keylen")
        }
        if "FAIL" in block:
            row["pt"] = None
        if "key" in row:
            yield row


def with_our_header(rows: Iterator[dict[str, bytes | None]]) -> list[dict[str, bytes | None]]:
    """Those that our envelope can be: 16 bytes of additional data, 12 of IV, 16 of tag."""
    return [row for row in rows if [len(row.get(part) or b"") for part in ("aad", "iv", "tag")] == [16, 12, 16]]


def test_every_published_aes_gcm_vector_of_our_shape_comes_out() -> None:
    sealed = with_our_header(vectors(VECTORS / "AES/GCM/gcmEncryptExtIV128.rsp"))
    opened = with_our_header(vectors(VECTORS / "AES/GCM/gcmDecrypt128.rsp"))
    assert len(sealed) == len(opened) == 75
    for row in sealed:
        SEALS.key_raw(AES, row["key"] or b"", row["iv"] or b"")
        assert SEALS.seal(0, row["aad"] or b"", row["pt"] or b"")[HEAD:] == (row["ct"] or b"") + (row["tag"] or b"")
    for row in opened:
        SEALS.key_raw(AES, row["key"] or b"", row["iv"] or b"")
        assert SEALS.open(0, (row["aad"] or b"") + (row["ct"] or b"") + (row["tag"] or b"")) == row["pt"]
    assert sum(row["pt"] is None for row in opened) > 20


def test_the_chacha20_poly1305_of_rfc_8439_comes_out() -> None:
    """Its additional data is 12 bytes, ours 16: so the peer that is compared with all along is held to it."""
    key, text = bytes(range(0x80, 0xA0)), (
        b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, "
        b"sunscreen would be it."
    )  # fmt: skip
    iv, extra = bytes.fromhex("070000004041424344454647"), bytes.fromhex("50515253c0c1c2c3c4c5c6c7")
    assert aead(CHACHA, key).encrypt(iv, text, extra)[-16:].hex() == "1ae10b594f09e26a7e902ecbd0600691"
    SEALS.key_raw(CHACHA, key, iv)
    head = extra + bytes(4)
    assert SEALS.seal(0, head, text)[HEAD:] == aead(CHACHA, key).encrypt(iv, text, head)
