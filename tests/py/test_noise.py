"""The handshake pattern against published vectors; its primitives against theirs."""

import struct
from binascii import unhexlify

import cryptography_vectors
import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from relay import xchacha
from relay.noise import Handshake, HandshakeError, KeyPair, blake2s

# Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s of cacophony's published vectors (vectors/cacophony.txt there).
PROLOGUE = bytes.fromhex("4a6f686e2047616c74")
PSK = bytes.fromhex("54686973206973206d7920417573747269616e20706572737065637469766521")
INIT_STATIC = bytes.fromhex("e61ef9919cde45dd5f82166404bd08e38bceb5dfdfded0a34c8df7ed542214d1")
INIT_EPHEMERAL = bytes.fromhex("893e28b9dc6ca8d611ab664754b8ceb7bac5117349a4439a6b0569da977c464a")
RESP_STATIC = bytes.fromhex("4a3acbfdb163dec651dfa3194dece676d437029c62a408b4c5ea9114246e4893")
RESP_EPHEMERAL = bytes.fromhex("bbdb4cdbd309f1a1f2e1456967fe288cadd6f712d65dc7b7793d5e63da6b375b")
RESP_PUBLIC = bytes.fromhex("31e0303fd6418d2f8c0e78b91f22e8caed0fbe48656dcf4767e4834f701b8f62")
MESSAGES = [
    (
        "4c756477696720766f6e204d69736573",
        "ca35def5ae56cec33dc2036731ab14896bc4c75dbb07a61f879f8e3afa4c7944001e21de9f98ddd8e2ad57527207feb5"
        "6253c9c94a9e496782ecfcb2a75fbcaf1b52948cc48daefe660c62119ab5000980c84831215f2441eba616548e832985"
        "464cf17e51ee93109008399a21f7e13f",
    ),
    (
        "4d757272617920526f746862617264",
        "95ebc60d2b1fa672c1f46a8aa265ef51bfe38e7ccb39ec5be34069f144808843cb765f2caef0751b8f007572dab03222"
        "17755c0632f365717edbf34d33e87a",
    ),
    ("462e20412e20486179656b", "8153ca9833bc3c1b91a7e66e5f4d4f5b59bf9e64c2f20d15f0bba7"),
    ("4361726c204d656e676572", "07af0c9c86e1b4e80f36b04ff7688d51141af3debd0332f0a705ef"),
    ("4a65616e2d426170746973746520536179", "6ab1467c0448cc78394494abaaf23afce0e234315d6e2624dcbfa8a21c1c4d073d"),
    (
        "457567656e2042f6686d20766f6e2042617765726b",
        "dfc346c0d2296ae6cf1acf6f12b8456a1dba228cf8d8b774aacf1c47fc53aa80ebc7a4c292",
    ),
]
# The points of order 1, 2, 4 and 8 of Curve25519 and its twist, and their spellings above the prime.
LOW_ORDER = [
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
]


def ends(psk: bytes = PSK) -> tuple[Handshake, Handshake]:
    return (
        Handshake(KeyPair(INIT_STATIC), PSK, PROLOGUE),
        Handshake(KeyPair(RESP_STATIC), psk, PROLOGUE),
    )


def test_the_published_handshake_is_ours_to_the_byte() -> None:
    (initiator, responder) = ends()
    payloads = [unhexlify(payload) for payload, _ in MESSAGES]
    sealed = [unhexlify(message) for _, message in MESSAGES]
    assert initiator.write_initiation(KeyPair(INIT_EPHEMERAL), RESP_PUBLIC, payloads[0]) == sealed[0]
    static = responder.read_static(sealed[0])
    assert static == KeyPair(INIT_STATIC).public
    assert responder.read_payload(sealed[0], static) == payloads[0]
    assert responder.write_response(KeyPair(RESP_EPHEMERAL), static, payloads[1]) == sealed[1]
    assert initiator.read_response(sealed[1]) == payloads[1]
    assert initiator.hash == responder.hash
    assert initiator.split() == responder.split()
    # What follows alternates: initiator, responder, each with a key and a counter of its own.
    for number, (payload, message) in enumerate(zip(payloads[2:], sealed[2:], strict=True)):
        key, counter = initiator.split()[number % 2], number // 2
        assert ChaCha20Poly1305(key).encrypt(struct.pack("<4xQ", counter), payload, b"") == message


def test_every_flipped_bit_of_either_message_is_refused() -> None:
    for number, readers in enumerate(([1], [0])):
        message = unhexlify(MESSAGES[number][1])
        for bit in range(0, 8 * len(message), 5):
            both = ends()
            if number == 1:
                both[0].write_initiation(KeyPair(INIT_EPHEMERAL), RESP_PUBLIC, unhexlify(MESSAGES[0][0]))
            bad = bytearray(message)
            bad[bit // 8] ^= 1 << bit % 8
            if bit == 8 * 31 + 7:
                continue  # X25519 ignores the top bit of a point; the hash does not: below
            with pytest.raises(HandshakeError):
                read(both[readers[0]], bytes(bad), number)


def read(end: Handshake, message: bytes, number: int) -> bytes:
    if number == 1:
        return end.read_response(message)
    return end.read_payload(message, end.read_static(message))


def test_the_bit_of_a_point_that_x25519_ignores_is_in_the_hash() -> None:
    message = bytearray(unhexlify(MESSAGES[0][1]))
    message[31] ^= 0x80
    with pytest.raises(HandshakeError, match="auth"):
        read(ends()[1], bytes(message), 0)


def test_another_psk_fails_at_the_initiator_and_the_right_answer_is_still_taken_afterwards() -> None:
    initiator, responder = ends()
    wrong = ends(bytes(32))[1]
    first = initiator.write_initiation(KeyPair(INIT_EPHEMERAL), RESP_PUBLIC, b"x")
    static = KeyPair(INIT_STATIC).public
    answers = []
    for end in (wrong, responder):
        assert read(end, first, 0) == b"x"  # the psk enters with the second message
        answers.append(end.write_response(KeyPair(RESP_EPHEMERAL), static, b"y"))
    with pytest.raises(HandshakeError, match="auth"):
        initiator.read_response(answers[0])
    assert initiator.read_response(answers[1]) == b"y"


@pytest.mark.parametrize("point", LOW_ORDER)
def test_a_point_of_low_order_is_refused(point: str) -> None:
    with pytest.raises(HandshakeError, match="dh"):
        KeyPair(INIT_STATIC).dh(unhexlify(point))
    initiator, responder = ends()
    initiator.write_initiation(KeyPair(INIT_EPHEMERAL), RESP_PUBLIC, b"")
    with pytest.raises(HandshakeError, match="dh"):
        responder.read_static(unhexlify(point) + bytes(64))
    with pytest.raises(HandshakeError, match="dh"):
        initiator.read_response(unhexlify(point) + bytes(16))


def test_another_prologue_or_responder_is_another_handshake() -> None:
    first = ends()[0].write_initiation(KeyPair(INIT_EPHEMERAL), RESP_PUBLIC, b"x")
    other = Handshake(KeyPair(RESP_STATIC), PSK, b"another")
    with pytest.raises(HandshakeError, match="auth"):
        read(other, first, 0)
    elsewhere = Handshake(KeyPair(bytes(range(32))), PSK, PROLOGUE)
    with pytest.raises(HandshakeError, match="auth"):
        read(elsewhere, first, 0)


def test_keys_do_not_show_in_texts() -> None:
    assert INIT_STATIC.hex()[:12] not in repr(KeyPair(INIT_STATIC))


def vectors(name: str) -> list[dict[str, str]]:
    """The records of one file of cryptography-vectors: `NAME = value` lines between COUNTs."""
    records: list[dict[str, str]] = []
    with cryptography_vectors.open_vector_file(name, "r") as file:
        for line in file:
            key, found, value = line.strip().partition("=")
            if not found or line.startswith("#"):
                continue
            if key.strip() == "COUNT":
                records.append({})
            records[-1][key.strip().lower()] = value.strip()
    return records


def test_x25519_agrees_with_rfc_7748() -> None:
    records = vectors("asymmetric/X25519/rfc7748.txt")[:3]
    for record in records:
        scalar, point, shared = (unhexlify(record[name]) for name in ("input_scalar", "input_u", "output_u"))
        assert KeyPair(scalar).dh(point) == shared
    assert len(records) == 3


def test_chacha20_poly1305_agrees_with_its_vectors() -> None:
    checked = 0
    for record in vectors("ciphers/ChaCha20Poly1305/openssl.txt"):
        if "result" in record or len(record["iv"]) != 24:
            continue  # made to fail, or a nonce that is not ours
        key, nonce, aad, plain, sealed, tag = (
            unhexlify(record.get(name, "")) for name in ("key", "iv", "aad", "plaintext", "ciphertext", "tag")
        )
        assert ChaCha20Poly1305(key).encrypt(nonce, plain, aad) == sealed + tag
        checked += 1
    assert checked >= 2


def test_hchacha20_agrees_with_the_draft() -> None:
    """draft-irtf-cfrg-xchacha-03, section 2.2.1."""
    key = bytes(range(32))
    nonce = unhexlify("000000090000004a0000000031415927")
    assert xchacha.hchacha20(key, nonce).hex() == "82413b4227b27bfed30e42508a877d73a0f9e4d58a74a853c12ec41326d3ecdc"


def test_xchacha20_poly1305_agrees_with_the_draft() -> None:
    """draft-irtf-cfrg-xchacha-03, appendix A.3.1."""
    plain = (
        b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, "
        b"sunscreen would be it."
    )
    aad, key = unhexlify("50515253c0c1c2c3c4c5c6c7"), bytes(range(0x80, 0xA0))
    nonce = bytes(range(0x40, 0x58))
    sealed = xchacha.seal(key, nonce, plain, aad)
    assert sealed.hex() == (
        "bd6d179d3e83d43b9576579493c0e939572a1700252bfaccbed2902c21396cbb731c7f1b0b4aa6440bf3a82f4eda7e39"
        "ae64c6708c54c216cb96b72e1213b4522f8c9ba40db5d945b11b69b982c1bb9e3f3fac2bc369488f76b2383565d3fff9"
        "21f9664c97637da9768812f615c68b13b52ec0875924c1c7987947deafd8780acf49"
    )
    assert xchacha.open_(key, nonce, sealed, aad) == plain
    for wrong in (sealed[:-1] + b"\0", sealed[:-1]):
        with pytest.raises(InvalidTag):
            xchacha.open_(key, nonce, wrong, aad)


def test_blake2s_is_the_one_of_rfc_7693() -> None:
    assert blake2s(b"a", b"bc").hex() == "508c5e8c327c14e2e1a72ba34eeb452f37458b209ed63a294d999b4c86675982"
