"""The peer map: the relays of a mesh, signed with Ed25519. Pure: bytes in, a map or a reason out.

    zrelay-map 1 <signature, base64>
    {"version": 1763748000, "expires": null, "relays": [
      {"id": "gz-1", "public_key": "…", "addresses": ["192.0.2.20:29900"], "rights": {"publish": [""], "pull": [""]}}]}

The signature covers "zrelay peer map 1\\n" and everything behind the first line, byte by byte, and is verified before
anything of it is looked at. Versions only rise: one lower than a relay knows is refused, also when it is signed, so
that a relay that was taken out of the map cannot be brought back with an old one.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from msgspec import Meta

from relay.identity import encode_public, parse_public
from relay.names import name_error
from relay.peers import Peer
from relay.secret import Secret
from relay.settings import Peer as ListedPeer
from relay.units import Address

MAP_BYTES_MAX = 1 << 20
RELAYS_MAX, ADDRESSES_MAX, PREFIXES_MAX, PREFIX_CHARS_MAX = 1024, 8, 64, 128
_MAGIC, _SIGNED = b"zrelay-map 1 ", b"zrelay peer map 1\n"
_SIGNATURE_CHARS = 88  # 64 bytes in base64


class MapError(ValueError):
    """A map that is not used. `word`: limit, format, signature, version, expired."""

    def __init__(self, word: str, message: str) -> None:
        super().__init__(message)
        self.word = word


class _Strict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is not known here may be a limit: it is not ignored."""


class _Rights(_Strict, frozen=True, kw_only=True):
    publish: list[str]
    pull: list[str]


class _Relay(_Strict, frozen=True, kw_only=True):
    id: str
    public_key: str
    addresses: list[str]
    rights: _Rights


Moment = Annotated[datetime, Meta(tz=True)]


class _Body(_Strict, frozen=True, kw_only=True):
    version: Annotated[int, Meta(ge=1, le=2**53)]
    expires: Moment | None = None
    relays: list[_Relay]


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """What an operator writes: [[relays]] like [[peers]] of the configuration file, perhaps `expires`, a date."""

    expires: Moment | None = None
    relays: list[ListedPeer]


@dataclass(frozen=True)
class PeerMap:
    version: int
    expires: datetime | None
    relays: tuple[Peer, ...]


def source_map(path: str, version: int) -> PeerMap:
    """From a TOML file. ConfigError with its place, MapError."""
    from relay.config import read

    source = read(Source, path)
    for relay in source.relays:
        if not relay.public_key:
            raise MapError("format", f"relay {relay.id!r} has no public_key: `zrelay keys show` there prints it")
    return _checked(PeerMap(version, source.expires, tuple(Peer.of(relay) for relay in source.relays)))


def sign(peer_map: PeerMap, key: Secret) -> bytes:
    """The map's file. MapError when relays would refuse it."""
    relays = [
        _Relay(
            id=peer.id, public_key=encode_public(peer.public_key), addresses=[str(a) for a in peer.addresses],
            rights=_Rights(publish=list(peer.publish), pull=list(peer.pull)),
        )
        for peer in _checked(peer_map).relays
    ]  # fmt: skip
    body = _Body(version=peer_map.version, expires=peer_map.expires, relays=relays)
    text = msgspec.json.format(msgspec.json.encode(body), indent=1) + b"\n"
    signature = Ed25519PrivateKey.from_private_bytes(key.reveal()).sign(_SIGNED + text)
    data = _MAGIC + base64.b64encode(signature) + b"\n" + text
    if len(data) > MAP_BYTES_MAX:
        raise MapError("limit", f"the map has {len(data)} bytes, at most {MAP_BYTES_MAX}")
    return data


def verify(data: bytes, public_key: bytes, now: datetime, least_version: int = 0) -> PeerMap:
    """The map in a file's bytes, if it is to be used at `now`. MapError."""
    if len(data) > MAP_BYTES_MAX:
        raise MapError("limit", f"more than {MAP_BYTES_MAX} bytes")
    signature, text = _split(data)
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, _SIGNED + text)
    except (InvalidSignature, ValueError):
        raise MapError("signature", "not signed by [security] peer_map_key, or changed since") from None
    try:
        body = msgspec.json.decode(text, type=_Body)
        relays = tuple(_peer(relay) for relay in body.relays)
    except (ValueError, RecursionError) as error:  # msgspec's errors too
        raise MapError("format", str(error)) from None
    peer_map = _checked(PeerMap(body.version, body.expires, relays))
    if peer_map.version < least_version:
        raise MapError("version", f"version {peer_map.version} is older than {least_version}, which is in use")
    if peer_map.expires is not None and peer_map.expires <= now:
        raise MapError("expired", f"version {peer_map.version} expired {peer_map.expires.isoformat()}")
    return peer_map


def version_of(path: str) -> int:
    """The version that the map in this file says it has, unverified; 0 when there is none."""
    try:
        return msgspec.json.decode(_split(Path(path).read_bytes()[:MAP_BYTES_MAX])[1], type=_Body).version
    except (OSError, ValueError):
        return 0


def _split(data: bytes) -> tuple[bytes, bytes]:
    end = len(_MAGIC) + _SIGNATURE_CHARS
    if not data.startswith(_MAGIC) or data[end : end + 1] != b"\n":
        raise MapError("format", "no peer map: `zrelay keys sign-map` makes one")
    with contextlib.suppress(binascii.Error):
        signature = base64.b64decode(data[len(_MAGIC) : end], validate=True)
        if base64.b64encode(signature) == data[len(_MAGIC) : end]:  # one spelling: a map has one file
            return signature, data[end + 1 :]
    raise MapError("signature", "the signature is not base64")


def _peer(relay: _Relay) -> Peer:
    wrong = name_error(relay.id)
    if wrong is not None:
        raise ValueError(f"relay id {relay.id[:40]!r} {wrong}")
    addresses = tuple(Address.parse(text) for text in relay.addresses)
    rights = relay.rights
    return Peer(relay.id, addresses, tuple(rights.pull), tuple(rights.publish), parse_public(relay.public_key))


def _checked(peer_map: PeerMap) -> PeerMap:
    """The limits, and that nobody is there twice."""
    if len(peer_map.relays) > RELAYS_MAX:
        raise MapError("limit", f"{len(peer_map.relays)} relays, at most {RELAYS_MAX}")
    ids: set[str] = set()
    keys: set[bytes] = set()
    for peer in peer_map.relays:
        if peer.id in ids:
            raise MapError("format", f"relay {peer.id!r} is listed twice")
        if peer.public_key in keys:
            raise MapError("format", f"relay {peer.id!r} has the public key of another")
        ids.add(peer.id)
        keys.add(peer.public_key)
        if not 1 <= len(peer.addresses) <= ADDRESSES_MAX:
            raise MapError("limit", f"relay {peer.id!r} has {len(peer.addresses)} addresses: 1 to {ADDRESSES_MAX}")
        _check_prefixes(peer.id, peer.publish)
        _check_prefixes(peer.id, peer.pull)
    return peer_map


def _check_prefixes(relay: str, prefixes: Iterable[str]) -> None:
    prefixes = list(prefixes)
    if len(prefixes) > PREFIXES_MAX or any(len(prefix) > PREFIX_CHARS_MAX for prefix in prefixes):
        text = f"at most {PREFIXES_MAX} prefixes of {PREFIX_CHARS_MAX} characters"
        raise MapError("limit", f"relay {relay!r}: {text}")
