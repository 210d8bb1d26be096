"""Sessions with keys: the surface of relay.sessions, with the handshake in place of the hello. Pure.

                     the peer answered                    the same boot ids: next keys
    begin ─▶ greeting ─────────────────────▶ up ◀──────────────────────────────────────── initiation
                 │ we answered               ▲            another boot id of the peer           │
                 └────────────▶ candidate ───┘ heard ◀──────────────────────────────────────────┘

A session is a pair of boot ids, ours and the peer's. A side takes a new one when it drops a session, since it cannot
go on with the conversations it had. An initiation with the same pair brings the next keys; with another pair, a
*candidate*: a slot of its own that is not used before the peer was heard there. So whatever an initiation was (replayed
after our restart, made with another mesh key), the session in use goes on.

Silence ends no session: its keys do, 15 minutes after the newest were made. Meanwhile initiations go out, for a peer
that has none of them left, and what comes through first goes on under the keys there are.

Whose initiation was answered says `have {}` at once: a control message is repeated until it is acknowledged, so the
peer hears the new keys as soon as the path lets anything through.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Mapping, Sequence

from relay.actions import Log, SendControl, SessionAdd, SessionDrop, SessionKeys, SessionRekey
from relay.generations import Generation, SealedPeer, SealedSession
from relay.handshake import WAIT_NS, Handshakes
from relay.handshake_peer import Agreed
from relay.handshake_wire import Params
from relay.identity import Identity
from relay.messages import Have, encode_message
from relay.pace import SECOND
from relay.sessions import REKEY_SHUT, SILENT_NS, Peer, Session, SessionDown, Sessions, SessionUp
from relay.stamp import Stamps
from relay.units import Address

REKEY_NS = 120 * SECOND
EXPIRE_NS = 900 * SECOND  # of the newest keys
CANDIDATE_NS = 10 * SECOND  # a candidate that was not heard by then is gone
_PRESENT = encode_message(Have(streams={}))


class SealedSessions(Sessions):
    """All peers of one relay, by their keys. `stamps` must be this relay's own, saved ones; `entropy`: secret bytes."""

    def __init__(
        self,
        relay_id: str,
        boot_id: int,
        lanes: int,
        peers: Mapping[str, Sequence[Address]],
        rng: random.Random,
        *,
        identity: Identity,
        stamps: Stamps,
        rate: int = 4,
        mtu: int = 1420,
        entropy: Callable[[int], bytes] = os.urandom,
    ) -> None:
        super().__init__(relay_id, boot_id, lanes, peers, rng, rate=rate, mtu=mtu)
        self._entropy = entropy
        self._sealed = {id: SealedPeer(id, list(addresses), boot_id=boot_id) for id, addresses in peers.items()}
        self.peers = dict(self._sealed)
        params = Params(cipher=identity.cipher, lanes=lanes, rate_idle=rate, rate_active=rate)
        self.handshakes = Handshakes(
            identity, peers, params, stamps, rng, boot_for=self._boot_for, entropy=entropy
        )  # fmt: skip

    # -- inputs -----------------------------------------------------------------------------------------------------

    def start(self, now: int) -> None:
        for peer in self._sealed.values():
            self._set_state(peer, "greeting")
            self.handshakes.begin(peer.id, now)

    def on_datagram(self, data: bytes, source: Address, now: int) -> str | None:
        """An initiation, a response or a cookie reply; returns the drop word when it is refused."""
        word = self.handshakes.on_datagram(data, source, now)
        full = self._take(now)
        return word or full

    def on_heard(self, slot: int, now: int) -> None:
        """Something valid of this session was heard at `now`."""
        peer = self._sealed_of(slot)
        if peer is None:
            return
        candidate = peer.candidate
        if candidate is not None and candidate.slot == slot:
            self.handshakes.forget(peer.id)  # what else is under way is with an older boot of the peer
            self._promote(peer, candidate)
            if len(candidate.generations) == 1:  # else only the lane knows which keys those were
                self._confirm(candidate, candidate.newest.index >> 6)
        session = peer.sealed
        if session is None or session.slot != slot:
            return
        if now > session.heard_at or not session.heard:
            if (peer.state == "silent" and session.alive) or not session.heard:  # what was tried for want of it
                self.handshakes.stop(peer.id)
            session.heard_at, session.heard = max(now, session.heard_at), True
            self.handshakes.heard(peer.id, now)
            if peer.state == "silent" and session.alive:
                self._set_state(peer, "up")

    def on_confirmed(self, slot: int, index: int, now: int) -> None:
        """The agent's lane sends under the keys of this receive index: the peer has them, any lane may."""
        peer = self._sealed_of(slot)
        if peer is None:
            return
        self.on_heard(slot, now)
        session = peer.sealed
        if session is not None and session.slot == slot:
            self._confirm(session, index)

    def rekey(self, slot: int, now: int) -> None:
        """A lane has sent so much under its keys that it wants others."""
        peer = self._sealed_of(slot)
        if peer is not None and peer.session is not None and peer.session.slot == slot:
            self.handshakes.begin(peer.id, now, slow=True)

    def on_rekey(self, slot: int, why: int, now: int) -> None:
        """A lane wants new keys: 1 soon, 2 it sends no more, 3 it takes no more, so that the session is over."""
        if why == REKEY_SHUT:
            self.reset(slot, now)
        else:
            self.rekey(slot, now)

    def reset(self, slot: int, now: int) -> None:
        """Ends the session and begins one with another boot id: the peer cannot mistake it for the old one."""
        peer = self._sealed_of(slot)
        if peer is not None and peer.session is not None and peer.session.slot == slot:
            self._end(peer)
            self.handshakes.begin(peer.id, now)

    def handshake_counts(self) -> tuple[dict[str, int], dict[str, int]]:
        return dict(self.handshakes.counts), dict(self.handshakes.refused)

    def discard_all(self, now: int) -> None:
        """This machine was forked, cloned or resumed: no key, index or initiation from before is used again."""
        for peer in self._sealed.values():
            self._end(peer)
            self.handshakes.begin(peer.id, now)

    def close(self, slot: int, now: int, for_ns: int) -> None:
        """Ends the session; no handshake with the peer for `for_ns`."""
        peer = self._sealed_of(slot)
        if peer is not None:
            self._end(peer)
            peer.closed_until = now + for_ns
            self.handshakes.close(peer.id, peer.closed_until)
            self.handshakes.begin(peer.id, now)

    def set_peers(self, peers: Mapping[str, Sequence[Address]], keys: Mapping[str, bytes], now: int) -> None:
        super().set_peers(peers, keys, now)
        for id, peer in self._sealed.items():
            self.handshakes.add_peer(id, keys[id], peer.addresses)

    def set_identity(self, identity: Identity) -> None:
        """The keys of handshakes that begin from now on; sessions go on with theirs."""
        self.handshakes.set_identity(identity)

    def revoke(self, peer_id: str) -> None:
        """Its session ends now, and nothing of it is remembered: to us it is a stranger."""
        self._end(self._sealed[peer_id])
        self.handshakes.remove_peer(peer_id)
        del self._sealed[peer_id], self.peers[peer_id]

    def on_timer(self, now: int) -> None:
        for peer in self._sealed.values():
            if peer.candidate is not None and now - peer.candidate.newest.made_at >= CANDIDATE_NS:
                self._drop_candidate(peer)
            if peer.sealed is not None:
                self._watch(peer, peer.sealed, now)
            if peer.session is None and (peer.candidate is None or now - peer.candidate.newest.made_at >= WAIT_NS):
                self.handshakes.begin(peer.id, now)
        self.handshakes.on_timer(now)
        self._take(now)

    def deadline(self) -> int | None:
        times = [self.handshakes.deadline()]
        for peer in self._sealed.values():
            trying, session = self.handshakes.peers[peer.id].trying, peer.sealed
            if peer.candidate is not None:
                wait = WAIT_NS if session is None and not trying else CANDIDATE_NS
                times.append(peer.candidate.newest.made_at + wait)
            if session is not None:
                made = session.newest.made_at
                times += [session.heard_at + SILENT_NS] if peer.state == "up" else []
                times.append(made + EXPIRE_NS)
                if session.newest.ours and not trying:
                    times.append(made + (REKEY_NS if session.heard else WAIT_NS))
        return min((time for time in times if time is not None), default=None)

    # -- questions --------------------------------------------------------------------------------------------------

    def adds(self) -> list[SessionAdd]:
        """Every session with the keys in use; `rekeys` has what was agreed since."""
        return [self._session_add(session) for peer in self._sealed.values() for session in peer.both()]

    def rekeys(self) -> list[SessionRekey]:
        sessions = [session for peer in self._sealed.values() for session in peer.both()]
        return [rekey for session in sessions for rekey in session.since()]

    # -- inside -----------------------------------------------------------------------------------------------------

    def _greet(self, peer: Peer, now: int) -> None:
        self.handshakes.begin(peer.id, now)

    def _has_other_key(self, peer_id: str, key: bytes | None) -> bool:
        return self.handshakes.peers[peer_id].static != key

    def _add_peer(self, id: str, addresses: list[Address], key: bytes | None, now: int) -> None:
        assert key is not None
        boot_id = int.from_bytes(self._entropy(8), "little")  # none that it may have known before
        self.peers[id] = self._sealed[id] = SealedPeer(id, addresses, boot_id=boot_id)
        self.handshakes.add_peer(id, key, addresses)
        self._set_state(self._sealed[id], "greeting")
        self.handshakes.begin(id, now)

    def _sealed_of(self, slot: int) -> SealedPeer | None:
        peer = self._by_slot.get(slot)
        return None if peer is None else self._sealed[peer.id]

    def _session_of(self, slot: int) -> Session | None:
        peer = self._sealed_of(slot)
        return None if peer is None else next((session for session in peer.both() if session.slot == slot), None)

    def _watch(self, peer: SealedPeer, session: SealedSession, now: int) -> None:
        """A session's clocks: the next keys, and the end of these. Silence is the lane's to judge, as soon as the peer
        has promised it a rate; before that it is 2 s."""
        age = now - session.newest.made_at
        if age >= EXPIRE_NS:
            self._end(peer)
        elif now - session.heard_at >= SILENT_NS and peer.state == "up":
            self._set_state(peer, "silent")
            self.handshakes.begin(peer.id, now)
        elif session.newest.ours and age >= (REKEY_NS if session.heard else WAIT_NS):
            self.handshakes.begin(peer.id, now, slow=True)

    def _boot_for(self, id: str, their_boot: int | None) -> int:
        """The boot id we say: of the session with this boot of the peer, or of the one there is, or of one to come."""
        peer = self._sealed[id]
        for session in peer.both():
            if their_boot is None or session.boot_id == their_boot:
                return session.our_boot
        return peer.boot_id

    def _take(self, now: int) -> str | None:
        """What the handshakes have come to. The drop word when there was no slot for a session."""
        word = None
        for agreed in self.handshakes.agreed:
            word = self._on_agreed(agreed, now) or word
        self.handshakes.agreed.clear()
        self.actions.extend(self.handshakes.out)
        self.handshakes.out.clear()
        return word

    def _on_agreed(self, agreed: Agreed, now: int) -> str | None:
        peer = self._sealed[agreed.peer]
        cipher = max(agreed.ours.cipher, agreed.theirs.cipher)
        keys = SessionKeys(cipher, agreed.send, agreed.recv, agreed.initiator, now)
        generation = Generation(agreed.index, agreed.peer_index, keys, now, agreed.initiator)
        pair = (agreed.ours.boot_id, agreed.theirs.boot_id)
        session = next((s for s in peer.both() if (s.our_boot, s.boot_id) == pair), None)
        if session is not None:
            self._renew(session, generation)
        else:
            session = self._open(peer, agreed, generation, now)
            if session is None:
                self.handshakes.indices.give(agreed.index)
                return "link_pool"
        if agreed.initiator:  # the peer has just answered: it is there
            if session is peer.candidate:
                self._promote(peer, session)
            elif peer.state == "silent" and session.alive:
                self._set_state(peer, "up")
            session.heard_at = max(session.heard_at, now)
            self.actions.append(SendControl(session.slot, _PRESENT))
        elif session is peer.session:
            self.handshakes.stop(peer.id)
        return None

    def _open(self, peer: SealedPeer, agreed: Agreed, generation: Generation, now: int) -> SealedSession | None:
        """A candidate, in the place of the one of another boot."""
        self._drop_candidate(peer)
        slot = self._slots.take()
        if slot is None:
            return None
        session = SealedSession(
            slot, agreed.index >> 6, agreed.peer_index >> 6, agreed.theirs.boot_id, agreed.theirs.lanes,
            agreed.source, now, our_boot=agreed.ours.boot_id,
        )  # fmt: skip
        session.generations.append(generation)
        peer.candidate = session
        self._by_slot[slot] = peer
        self.actions.append(self._session_add(session))
        return session

    def _renew(self, session: SealedSession, generation: Generation) -> None:
        session.generations.append(generation)
        self._retire(session)
        self.actions.append(session.rekey())

    def _confirm(self, session: SealedSession, index: int) -> None:
        """Only forward: lanes may have forgotten what was before the generation in use.

        Every lane hears of it, also of keys we began and send under anyway: it wipes those before, a little later.
        """
        for at, generation in enumerate(session.generations):
            if generation.index >> 6 == index and not generation.heard:
                session.generations[at] = generation.proven()
                self._retire(session)
                if session.leaving or not generation.keys.initiator:
                    self.actions.append(session.rekey(session.generations[0]))
                return

    def _retire(self, session: SealedSession) -> None:
        for index in session.retire():
            self.handshakes.indices.give(index)

    def _promote(self, peer: SealedPeer, session: SealedSession) -> None:
        """The peer is there: what there was before ends, and this is the session."""
        peer.candidate = None
        self._close(peer)
        peer.session = session
        self._set_state(peer, "up")
        self.handshakes.stop(peer.id)
        self.actions.append(Log("info", "session up", {"peer": peer.id, "address": str(session.address)}))
        self.events.append(SessionUp(peer.id, session.slot))

    def _end(self, peer: SealedPeer) -> None:
        """We give up what we have with this peer: the next session is of another boot id."""
        peer.boot_id = int.from_bytes(self._entropy(8), "little")
        self.handshakes.cancel(peer.id)
        self._drop_candidate(peer)
        self._close(peer)

    def _close(self, peer: SealedPeer) -> None:
        """First those who use the session hear of it, then the lanes."""
        session, peer.session = peer.sealed, None
        if session is None:
            return
        self._release(session)
        self._set_state(peer, "down")
        self.events.append(SessionDown(peer.id, session.slot))
        self.actions.append(SessionDrop(session.slot))
        self.actions.append(Log("warning", "session down", {"peer": peer.id}))

    def _drop_candidate(self, peer: SealedPeer) -> None:
        candidate, peer.candidate = peer.candidate, None
        if candidate is not None:
            self._release(candidate)
            self.actions.append(SessionDrop(candidate.slot))

    def _release(self, session: SealedSession) -> None:
        del self._by_slot[session.slot]
        self._slots.give(session.slot)
        for index in (*session.leaving, *(generation.index for generation in session.generations)):
            self.handshakes.indices.give(index)

    def _session_add(self, session: Session) -> SessionAdd:
        assert isinstance(session, SealedSession)
        g = session.in_use()
        return SessionAdd(
            session.slot, g.index >> 6, g.peer_index >> 6, session.lanes, self._rate_mhz, self._mtu, session.address,
            g.keys,
        )  # fmt: skip
