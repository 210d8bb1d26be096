"""Who this relay is towards its peers, and who they are: what a handshake needs to know. Held by the agent alone."""

from __future__ import annotations

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
