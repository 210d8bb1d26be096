"""What the handshake machine remembers: of a peer, of an initiation under way, of an answer; and what it hands over."""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

from relay.handshake_own import OwnKey
from relay.handshake_wire import LANE_AGENT, Macs, Params
from relay.noise import Handshake
from relay.pace import MS, SECOND
from relay.secret import Secret
from relay.stamp import STAMP_BYTES
from relay.units import Address

PENDING_MAX = 8  # ephemerals of a peer that can still be answered
HOLD_NS = 400 * MS  # for so long the same response is sent again


@dataclass(frozen=True)
class Agreed:
    """A handshake has ended: both have these secrets. Indices as on the wire, 32 bits; ours is the session's now."""

    peer: str
    initiator: bool
    index: int
    peer_index: int
    send: Secret
    recv: Secret
    ours: Params
    theirs: Params
    source: Address


@dataclass
class Pending:
    """An initiation of ours that may still be answered."""

    peer: Shaking
    own: OwnKey
    number: int
    index: int
    handshake: Handshake
    message: bytes  # without its MACs
    mac1: bytes
    ours: Params
    stamp: int
    sent_at: int
    cookie_taken: bool = False


@dataclass
class Answer:
    """The newest response to a peer, without its MACs: what is sent again while it may have been lost."""

    index: int
    their_boot: int
    message: bytes
    made_at: int
    stamp: int  # of the initiation; 0: no time of ours
    mac1: bytes = b""
    cookie_taken: bool = False

    def holds(self, their_boot: int, stamp: int, now: int) -> bool:
        """Does it answer this initiation, too? By both clocks: initiations may have waited in our socket."""
        return their_boot == self.their_boot and now - self.made_at < HOLD_NS and stamp - self.stamp < HOLD_NS


@dataclass
class Shaking:
    """One peer, as far as handshakes go."""

    id: str
    static: bytes
    macs: Macs
    addresses: Sequence[Address]
    trying: bool = False
    slow: bool = False
    since: int = 0
    tries: int = 0
    next_at: int = 0
    sent_at: int = -SECOND
    number: int = 0  # of the newest initiation
    done: int = 0  # the newest one that was answered
    floor: int = 0  # the largest stamp sent, or told to have been seen
    pending: OrderedDict[int, Pending] = field(default_factory=OrderedDict)
    seen: bytes = bytes(STAMP_BYTES)  # the peer's largest stamp
    told_at: int = -SECOND
    answer: Answer | None = None
    cookie: tuple[bytes, int] | None = None
    knows: OwnKey | None = None  # the key of ours that it last used; None: not seen
    closed_until: int = 0  # it broke the protocol too often


class Indices:
    """Receive indices in use by this relay: random, of 26 bits, none twice."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._taken: set[int] = set()

    def take(self) -> int:
        """As on the wire: the index << 6, and the agent's lane."""
        while True:
            index = self._rng.getrandbits(26)
            if index not in self._taken:
                self._taken.add(index)
                return index << 6 | LANE_AGENT

    def give(self, index: int) -> None:
        self._taken.discard(index >> 6)

    def __len__(self) -> int:
        return len(self._taken)
