"""A session's keys, generation by generation, and where a peer with keys stands."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from relay.actions import SessionKeys, SessionRekey
from relay.sessions import Peer, Session

LANE_GENERATIONS = 3  # that a lane holds: ZR_LANE_GENS


@dataclass(frozen=True)
class Generation:
    """One handshake's outcome. Indices as on the wire. `ours`: we began it, so the next one is ours to begin too."""

    index: int
    peer_index: int
    keys: SessionKeys
    made_at: int
    ours: bool
    heard: bool = False

    def proven(self) -> Generation:
        """The peer was heard under these keys: we may send under them, and need none from before."""
        keys = SessionKeys(self.keys.cipher, self.keys.send, self.keys.recv, True, self.keys.made_at)
        return Generation(self.index, self.peer_index, keys, self.made_at, self.ours, heard=True)


@dataclass
class SealedSession(Session):
    """A session with its keys. `generations`: the one in use, and what was agreed since; the newest last. `leaving`:
    indices of older ones, whose keys only lanes still have, for datagrams under way, and for seconds."""

    our_boot: int = 0
    heard: bool = False
    generations: deque[Generation] = field(default_factory=deque)
    leaving: deque[int] = field(default_factory=deque)

    @property
    def newest(self) -> Generation:
        return self.generations[-1]

    def in_use(self) -> Generation:
        """The newest generation we may send under; where there is none yet, the first, as every lane does."""
        return next((g for g in reversed(self.generations) if g.keys.initiator), self.generations[0])

    def retire(self) -> list[int]:
        """Forgets the keys that no lane is told again: those before the one in use; of too many that nothing was heard
        under, the oldest, as the lanes do. Returns the indices that no lane can still know."""
        used = self.in_use()
        while self.generations[0] is not used:
            self.leaving.append(self.generations.popleft().index)
        while len(self.generations) > LANE_GENERATIONS:
            self.leaving.append(self.generations[1].index)
            del self.generations[1]
        return [self.leaving.popleft() for _ in range(len(self.leaving) - LANE_GENERATIONS)]

    def since(self) -> list[SessionRekey]:
        """What a lane that knows the generation in use lacks: those after it, of which the peer may use any."""
        after = list(self.generations)[self.generations.index(self.in_use()) + 1 :]
        return [self.rekey(generation) for generation in after[1 - LANE_GENERATIONS :]]

    def rekey(self, generation: Generation | None = None) -> SessionRekey:
        """For every lane: this generation, or the newest."""
        g = generation or self.newest
        return SessionRekey(self.slot, g.index >> 6, g.peer_index >> 6, g.keys)


@dataclass
class SealedPeer(Peer):
    """`boot_id`: what we say it is in a session to come. `candidate`: a session the peer was not heard on yet."""

    boot_id: int = 0
    candidate: SealedSession | None = None

    @property
    def sealed(self) -> SealedSession | None:
        """The session, as what it is."""
        assert self.session is None or isinstance(self.session, SealedSession)
        return self.session

    def both(self) -> list[SealedSession]:
        return [session for session in (self.sealed, self.candidate) if session is not None]
