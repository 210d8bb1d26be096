"""Who this relay is towards its peers, and who they are: what a handshake needs to know. Held by the agent alone."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field

from relay.secret import Secret

KEY_BYTES = 32


@dataclass(frozen=True)
class Identity:
    """X25519 keys as their 32 raw bytes. `peers`: relay id -> public key, of those listed at the start; Sessions are
    told of changes by `set_peers`."""

    private_key: Secret
    public_key: bytes
    mesh_key: Secret
    peers: Mapping[str, bytes] = field(default_factory=dict)


def parse_public(text: str) -> bytes:
    """A public key as `zrelay keys show` prints it. ValueError."""
    try:
        value = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"{text[:48]!r} is not base64: `zrelay keys show` prints the key") from None
    if len(value) != KEY_BYTES:
        raise ValueError(f"{text[:48]!r} holds {len(value)} bytes, a public key has {KEY_BYTES}")
    if not any(value):
        raise ValueError("zeros are no public key")
    return value


def encode_public(key: bytes) -> str:
    return base64.b64encode(key).decode()
