"""The handshake datagrams, byte for byte: fixed keys, fixed entropy.

static keys: 32 times 0x01 (initiator), 0x02 (responder); mesh key: 32 times 0x03; ephemerals 0x04 and 0x05; indices
0x123456 and 0x234567 on lane 63; stamp 1 800 000 000 s; boot ids 7 and 9; the initiator has 3 workers, the other 2.
"""

from __future__ import annotations

from hashlib import blake2s
from random import Random

from relay.handshake import Handshakes
from relay.handshake_wire import Params
from relay.identity import Identity
from relay.noise import KeyPair
from relay.secret import Secret
from relay.stamp import Stamps
from relay.units import Address

INITIATOR, RESPONDER, MESH = bytes([1] * 32), bytes([2] * 32), bytes([3] * 32)
SECOND = 1_000_000_000
HERE, THERE = Address("127.0.0.1", 1), Address("127.0.0.2", 2)
INITIATION = bytes.fromhex(
    "08000000bf158d04ac01b2209e86354fb853237b5de0f4fab13c7fcbf433a61c019369617fecf10b740b513c32e275aef166"
    "845895398e87e99acf254d250c287b6d54cd606e976c0d4e6bd1413221d7cd3e904d49e17b2539d9893bbe874d6933a3863c"
    "d75e63d242692f45b569eb7d7df6bcc0f5c40fc976a1dc4f082b44c492e367ad383ecab79af31a6c6a3456f1e446c5d98222"
    "bcc33e040a13c3be3249d7a52f6d00000000000000000000000000000000"
)
RESPONSE = bytes.fromhex(
    "09000000ff59d108bf158d0450a61409b1ddd0325e9b16b700e719e9772c07000b1bd7786e907c653d20495d16bbc078ba6e"
    "1062c5273e2515931d77b5c115cdf05f07c35d717631ccc9646d957e25d4fb91f06e96914dda2a29292188644265e7f79df3"
    "00000000000000000000000000000000"
)
STAMP = bytes.fromhex(
    "0a000000bf158d04050505050505050505050505050505050505050505050505ee75d7d908d51f984b8338ce4fff4373216e"
    "af313b472de63026f7f210416e16"
)
SECRETS = (  # initiator to responder, responder to initiator
    "62a921e82c289435bdbde3004e3ad962fd852efe28b25d0cdc61252690920169",
    "92d96074be1df6b535201df5ee05f9d2b0fbb4310c66154b85d9fbd7e1a44571",
)


class Fixed(Random):
    """Gives this index for ever."""

    index = 0

    def getrandbits(self, k: int, /) -> int:
        return self.index


def machine(private: bytes, ephemeral: int, index: int, boot: int, lanes: int, peer: bytes, at: Address) -> Handshakes:
    rng = Fixed()
    rng.index = index
    identity = Identity(Secret(private), Secret(MESH), {"peer": KeyPair(peer).public})
    return Handshakes(
        identity, {"peer": [at]}, Params(lanes=lanes), Stamps(1_800_000_000 * SECOND, 0), rng,
        boot_for=lambda peer, their_boot: boot, entropy=lambda size: bytes([ephemeral] * size),
    )  # fmt: skip


def ends() -> tuple[Handshakes, Handshakes]:
    return (
        machine(INITIATOR, 4, 0x123456, 7, 3, RESPONDER, THERE),
        machine(RESPONDER, 5, 0x234567, 9, 2, INITIATOR, HERE),
    )


def test_a_handshake_is_these_bytes() -> None:
    initiator, responder = ends()
    initiator.begin("peer", 0)
    initiator.on_timer(0)
    assert [action.data.hex() for action in initiator.out] == [INITIATION.hex()]
    assert responder.on_datagram(INITIATION, HERE, 0) is None
    assert [action.data.hex() for action in responder.out] == [RESPONSE.hex()]
    assert initiator.on_datagram(RESPONSE, THERE, 0) is None
    (here,), (there,) = initiator.agreed, responder.agreed
    assert (here.send.reveal().hex(), here.recv.reveal().hex()) == SECRETS
    assert (there.recv.reveal().hex(), there.send.reveal().hex()) == SECRETS
    assert (here.theirs.boot_id, here.theirs.lanes, there.theirs.boot_id, there.theirs.lanes) == (9, 2, 7, 3)
    assert (here.index, here.peer_index) == (0x123456 << 6 | 63, 0x234567 << 6 | 63)


def test_a_stamp_too_old_is_told_in_these_bytes() -> None:
    initiator, responder = ends()
    responder.peers["peer"].seen = bytes.fromhex("4000000070000000") + bytes(4)
    initiator.begin("peer", 0)
    initiator.on_timer(0)
    assert responder.on_datagram(INITIATION, HERE, 0) == "stamp"
    assert [action.data.hex() for action in responder.out] == [STAMP.hex()]
    assert initiator.on_datagram(STAMP, THERE, 0) is None
    assert initiator.peers["peer"].floor == (0x70000000 - 10) * SECOND


def test_mac1_is_keyed_by_the_responder_and_the_mesh_key() -> None:
    for datagram, private in ((INITIATION, RESPONDER), (RESPONSE, INITIATOR)):
        key = blake2s(b"mac1----" + KeyPair(private).public + MESH).digest()
        assert blake2s(datagram[:-32], key=key, digest_size=16).digest() == datagram[-32:-16]
        assert datagram[-16:] == bytes(16)
