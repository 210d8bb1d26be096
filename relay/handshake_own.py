"""Our own static key as handshakes use it; two of them while a rotation goes on. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from relay.handshake_wire import Labels, Macs
from relay.identity import Identity
from relay.noise import KeyPair
from relay.secret import Secret


@dataclass
class OwnKey:
    """`macs`: of messages to us under it. `until`: when it is nobody any more; None: it is in use."""

    static: KeyPair
    macs: Macs
    until: int | None = None
    _shared: dict[bytes, bytes] = field(default_factory=dict, repr=False)

    def good(self, now: int) -> bool:
        return self.until is None or now < self.until

    def shared(self, peer: bytes) -> bytes:
        """The secret with that static key: a key exchange the first time."""
        if peer not in self._shared:
            self._shared[peer] = self.static.dh(peer)
        return self._shared[peer]

    def forget(self, peer: bytes) -> None:
        self._shared.pop(peer, None)


def own_keys(identity: Identity, labels: Labels) -> list[OwnKey]:
    """The key in use, and after it the former one if there is any; both with the mesh key of now."""

    def own(private: Secret, until: int | None = None) -> OwnKey:
        static = KeyPair(private.reveal())
        return OwnKey(static, Macs(labels, static.public, identity.mesh_key.reveal()), until)

    former = [] if identity.former is None else [own(identity.former, identity.former_until)]
    return [own(identity.private), *former]
