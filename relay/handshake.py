"""Handshakes with all peers: initiations, responses, cookies, retries. Pure: datagrams and `now` in, datagrams out.

    begin ─▶ initiation ──────────────────────▶ known static key? new stamp? ─▶ response, Agreed(initiator=False)
             every 100 ms, a fresh ephemeral;                                       │
             the eight newest can be answered   Agreed(initiator=True) ◀────────────┘

Two things happen that a plain request and answer would get wrong:

*An answer is under way while the next initiation is.* If the responder took each initiation for a new beginning, it
would hold other keys than the initiator, who takes the answer that comes first. So for HOLD_NS after an initiation it
sends the same response again: one initiation, one pair of secrets, however often the answer is lost. (Eight pending
ephemerals are older than that together with a round trip of up to 400 ms.)

*Both begin at once.* Then the one with the larger public key goes on and ignores the other's initiation, which only
makes it try again at once; the smaller one answers and stops its own attempt. One handshake is left.

*Our key is replaced before the peers know of it.* Until the former one's end both are good: who greets us by one is
answered under it, and greeted by it from then on. Before a peer has said which it knows, our initiations take turns.

Nothing that fails changes anything: reading a message leaves the handshake as it was, a pending initiation ends only
when it is answered, is one of more than eight or is old, and what an initiation makes is not in use before the peer
has sent something under it (relay/sealed.py).
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from cryptography.exceptions import InvalidTag

from relay import xchacha
from relay.actions import SendDatagram
from relay.handshake_own import OwnKey, own_keys
from relay.handshake_peer import PENDING_MAX, Agreed, Answer, Indices, Pending, Shaking
from relay.handshake_wire import (
    COOKIE_BYTES,
    COOKIE_REPLY_BYTES,
    LANE_AGENT,
    ZRELAY,
    Labels,
    Macs,
    Params,
    head,
    mac1_of,
)
from relay.identity import Identity
from relay.noise import Handshake, HandshakeError, KeyPair
from relay.pace import MS, SECOND, retry_ns
from relay.secret import Secret
from relay.stamp import STAMP_BYTES, Stamps, pack_stamp, unpack_stamp
from relay.units import Address

PENDING_NS = 20 * SECOND
COOKIE_NS = 120 * SECOND
NUDGE_NS = 50 * MS  # between initiations, and between answers to old stamps, at least
WAIT_NS = 1000 * MS  # for what follows an answer, before we try ourselves
SLOW_NS = 1000 * MS  # between the tries of a rekey, which has minutes
COUNTS = (
    "begun", "agreed_initiator", "agreed_responder", "crossed", "initiations_sent", "responses_sent",
    "responses_repeated", "responses_taken", "cookies_taken", "stamps_told", "stamps_taken",
    "agreed_former",
)  # fmt: skip
_STAMP_LABEL = b"stamp---"


class Handshakes:
    """All peers' handshakes. `out` and `agreed` are emptied by the owner after every call.

    `boot_for(peer, their_boot)` names the boot id we say: in an initiation (their_boot None), or in the answer to one.
    """

    def __init__(
        self,
        identity: Identity,
        peers: Mapping[str, Sequence[Address]],
        params: Params,
        stamps: Stamps,
        rng: random.Random,
        *,
        boot_for: Callable[[str, int | None], int] = lambda peer, their_boot: 0,
        labels: Labels = ZRELAY,
        entropy: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._own = own_keys(identity, labels)
        self._psk = identity.mesh_key.reveal()
        self._params, self._stamps, self._rng, self._labels = params, stamps, rng, labels
        self._boot_for, self._entropy = boot_for, entropy
        self.indices = Indices(rng)
        self.peers: dict[str, Shaking] = {}
        self._by_static: dict[bytes, Shaking] = {}
        self._listed: set[Address] = set()
        for id, addresses in peers.items():
            self.add_peer(id, identity.peers[id], addresses)
        self._pending: dict[int, Pending] = {}
        self._answered: dict[int, Shaking] = {}  # by the index of the newest response to each
        self.out: list[SendDatagram] = []
        self.agreed: list[Agreed] = []
        self.counts: Counter[str] = Counter({name: 0 for name in COUNTS})
        self.refused: Counter[str] = Counter()  # datagrams, by drop word

    @property
    def public(self) -> bytes:
        return self._own[0].static.public

    # -- peers and keys that change ----------------------------------------------------------------------------------

    def add_peer(self, id: str, public: bytes, addresses: Sequence[Address]) -> None:
        """One more peer, or other addresses of one."""
        peer = self.peers.get(id)
        if peer is None:
            macs = Macs(self._labels, public, self._psk)
            self.peers[id] = peer = Shaking(id, public, macs, list(addresses))
            self._by_static[public] = peer
        peer.addresses = list(addresses)
        self._list_addresses()

    def remove_peer(self, id: str) -> None:
        """A stranger from now on."""
        self.cancel(id)
        static = self.peers.pop(id).static
        del self._by_static[static]
        for own in self._own:
            own.forget(static)
        self._list_addresses()

    def set_identity(self, identity: Identity) -> None:
        """Our own keys from now on. Nothing that is under way with those before may come to anything."""
        self._own, self._psk = own_keys(identity, self._labels), identity.mesh_key.reveal()
        for peer in self.peers.values():
            trying = peer.trying
            self.cancel(peer.id)
            peer.trying, peer.cookie, peer.knows = trying, None, None
            peer.macs = Macs(self._labels, peer.static, self._psk)

    def close(self, id: str, until: int) -> None:
        """No handshake with this peer before that."""
        self.cancel(id)
        self.peers[id].closed_until = until

    def _list_addresses(self) -> None:
        self._listed = {address for peer in self.peers.values() for address in peer.addresses}

    # -- what the owner wants ---------------------------------------------------------------------------------------

    def begin(self, id: str, now: int, *, slow: bool = False) -> None:
        """Initiations until one is answered. `slow`: a second apart, for a session that works."""
        peer = self.peers[id]
        if not peer.trying or (peer.slow and not slow):
            self.counts["begun"] += not peer.trying
            peer.trying, peer.slow, peer.since, peer.next_at = True, slow, now, max(now, peer.closed_until)

    def stop(self, id: str) -> None:
        """No further initiation; those under way may still be answered."""
        self.peers[id].trying = False

    def heard(self, id: str, now: int) -> None:
        """The peer lives: its initiations stay at most 250 ms apart."""
        peer = self.peers[id]
        peer.since = max(peer.since, now - 3 * SECOND)

    def forget(self, id: str) -> None:
        """No initiation that is under way may be answered any more."""
        peer = self.peers[id]
        peer.trying = False
        for pending in list(peer.pending.values()):
            self._forget(pending)

    def cancel(self, id: str) -> None:
        """Nothing of before may come to anything, neither what we began nor what we answered."""
        self.forget(id)
        peer = self.peers[id]
        if peer.answer is not None:
            del self._answered[peer.answer.index]
            peer.answer = None

    # -- time -------------------------------------------------------------------------------------------------------

    def on_timer(self, now: int) -> None:
        if not self._own[-1].good(now):
            self._forget_former()
        for peer in self.peers.values():
            if peer.trying and now >= peer.next_at:
                self._initiate(peer, now)

    def deadline(self) -> int | None:
        return min((peer.next_at for peer in self.peers.values() if peer.trying), default=None)

    def _initiate(self, peer: Shaking, now: int) -> None:
        for old in list(peer.pending.values()):
            if len(peer.pending) >= PENDING_MAX or now - old.sent_at >= PENDING_NS:
                self._forget(old)
        ours = replace(self._params, boot_id=self._boot_for(peer.id, None))
        stamp = peer.floor = self._stamps.next(now, peer.floor)
        payload = pack_stamp(stamp) + (ours.pack() + bytes(8) if self._labels.params else b"")
        own = self._own_for(peer, now)
        handshake = Handshake(own.static, self._psk, self._labels.prologue)
        index = self.indices.take()
        body = handshake.write_initiation(self._ephemeral(), peer.static, payload, own.shared(peer.static))
        message = head(self._labels.types[0], index) + body
        data = peer.macs.finish(message, self._cookie(peer, now))
        peer.number += 1
        pending = Pending(peer, own, peer.number, index, handshake, message, mac1_of(data), ours, stamp, now)
        peer.pending[index] = self._pending[index] = pending
        address = peer.addresses[peer.tries % len(peer.addresses)]
        peer.tries, peer.sent_at = peer.tries + 1, now
        peer.next_at = now + (
            int(SLOW_NS * self._rng.uniform(0.67, 1.33)) if peer.slow else retry_ns(self._rng, now - peer.since)
        )
        self._send(address, data, "initiations_sent")

    # -- datagrams --------------------------------------------------------------------------------------------------

    def on_datagram(self, data: bytes, source: Address, now: int) -> str | None:
        """One handshake datagram; the drop word when it is refused."""
        word = self._take(data, source, now)
        if word is not None:
            self.refused[word] += 1
        return word

    def _take(self, data: bytes, source: Address, now: int) -> str | None:
        labels = self._labels
        kind = data[0] if data else -1
        lengths = (labels.initiation_bytes, labels.response_bytes, COOKIE_REPLY_BYTES)
        if kind not in labels.types:
            return "type"
        number = labels.types.index(kind)
        if len(data) != lengths[number]:
            return "length"
        try:
            return (self._on_initiation, self._on_response, self._on_cookie)[number](data, source, now)
        except HandshakeError as error:
            return error.word

    def _on_initiation(self, data: bytes, source: Address, now: int) -> str | None:
        their_index = int.from_bytes(data[4:8], "little")
        own = self._pending.get(their_index)
        if own is not None and data.startswith(own.message):
            return "self"
        known = next((own for own in self._own if own.good(now) and own.macs.good(data)), None)
        if known is None:
            return "mac1"
        if source not in self._listed:
            return "unknown_peer"
        body = data[8:-32]
        handshake = Handshake(known.static, self._psk, self._labels.prologue)
        static = handshake.read_static(body)
        if any(static == own.static.public for own in self._own):
            return "self"
        peer = self._by_static.get(static)
        if peer is None or source not in peer.addresses:
            return "unknown_peer"
        if now < peer.closed_until:
            return "closed"
        payload = handshake.read_payload(body, static, known.shared(static))
        stamp, theirs = payload[:STAMP_BYTES], self._params_of(payload[STAMP_BYTES:], their_index)
        if stamp <= peer.seen:
            if stamp < peer.seen and now - peer.told_at >= NUDGE_NS and self._labels.params:
                self._tell_stamp(peer, handshake, their_index, source, now)
            return "stamp"
        peer.seen, peer.knows = stamp, known
        self.heard(peer.id, now)
        if peer.trying and peer.tries and known.static.public > peer.static:
            peer.next_at = min(peer.next_at, max(now, peer.sent_at + NUDGE_NS))
            self.counts["crossed"] += 1
            return None
        answer = peer.answer
        stamp_ns = unpack_stamp(stamp) or 0
        if answer is not None and answer.holds(theirs.boot_id, stamp_ns, now):
            self._send_answer(peer, answer, source, now, "responses_repeated")
        else:
            self._answer(peer, handshake, their_index, theirs, stamp_ns, source, now)
            self.counts["agreed_former"] += known is not self._own[0]
        # The peer's own attempt goes first; but recorded ones, replayed after our restart, do not silence us for long.
        peer.next_at = max(peer.next_at, min(now, max(peer.sent_at, peer.since) + WAIT_NS) + WAIT_NS)
        return None

    def _answer(
        self,
        peer: Shaking,
        handshake: Handshake,
        their_index: int,
        theirs: Params,
        stamp: int,
        source: Address,
        now: int,
    ) -> None:
        ours = replace(self._params, boot_id=self._boot_for(peer.id, theirs.boot_id))
        body = handshake.write_response(self._ephemeral(), peer.static, ours.pack() if self._labels.params else b"")
        index = self.indices.take()
        message = head(self._labels.types[1], index, their_index) + body
        if peer.answer is not None:
            del self._answered[peer.answer.index]
        peer.answer = Answer(index, theirs.boot_id, message, now, stamp)
        self._answered[index] = peer
        recv, send = (Secret(secret) for secret in handshake.split())
        self.counts["agreed_responder"] += 1
        self.agreed.append(Agreed(peer.id, False, index, their_index, send, recv, ours, theirs, source))
        self._send_answer(peer, peer.answer, source, now, "responses_sent")

    def _send_answer(self, peer: Shaking, answer: Answer, source: Address, now: int, count: str) -> None:
        data = peer.macs.finish(answer.message, self._cookie(peer, now))
        answer.mac1 = mac1_of(data)
        self._send(source, data, count)

    def _on_response(self, data: bytes, source: Address, now: int) -> str | None:
        their_index, receiver = (int.from_bytes(data[at : at + 4], "little") for at in (4, 8))
        pending = self._pending.get(receiver)
        if pending is None:
            return "noindex"
        own = pending.own
        if not (own.good(now) and own.macs.good(data)):
            return "mac1"
        peer = pending.peer
        if source not in peer.addresses:
            return "unknown_peer"
        payload = pending.handshake.read_response(data[12:-32])
        theirs = self._params_of(payload, their_index)
        peer.done, peer.trying, peer.tries = pending.number, False, 0
        send, recv = (Secret(secret) for secret in pending.handshake.split())
        for old in list(peer.pending.values()):
            if old.number <= peer.done:
                self._forget(old, keep_index=old is pending)
        peer.knows = own
        self.counts["agreed_initiator"] += 1
        self.counts["agreed_former"] += own is not self._own[0]
        self.agreed.append(Agreed(peer.id, True, receiver, their_index, send, recv, pending.ours, theirs, source))
        self.counts["responses_taken"] += 1
        return None

    def _on_cookie(self, data: bytes, source: Address, now: int) -> str | None:
        """A cookie for what we sent, or word that its stamp was too old: the key that opens it tells which."""
        receiver = int.from_bytes(data[4:8], "little")
        pending = self._pending.get(receiver)
        peer = pending.peer if pending is not None else self._answered.get(receiver)
        asked = pending if pending is not None or peer is None else peer.answer
        if peer is None or asked is None or source not in peer.addresses:
            return "cookie"
        cookie = None if asked.cookie_taken else _open(peer.macs.cookie_key, data, asked.mac1)
        if cookie is None:
            return self._on_stamp(pending, data, now)
        asked.cookie_taken = True
        peer.cookie = (cookie, now)
        peer.next_at = min(peer.next_at, max(now, peer.sent_at + NUDGE_NS))
        self.counts["cookies_taken"] += 1
        return None

    # -- a clock that went back -------------------------------------------------------------------------------------

    def _tell_stamp(self, peer: Shaking, handshake: Handshake, receiver: int, source: Address, now: int) -> None:
        """In the shape of a cookie reply, under a key that only the two of this handshake have."""
        peer.told_at = now
        nonce, seen = self._entropy(xchacha.NONCE_BYTES), peer.seen.ljust(COOKIE_BYTES, b"\0")
        sealed = xchacha.seal(handshake.derive(_STAMP_LABEL), nonce, seen, handshake.hash)
        self._send(source, head(self._labels.types[2], receiver) + nonce + sealed, "stamps_told")

    def _on_stamp(self, pending: Pending | None, data: bytes, now: int) -> str | None:
        """Our stamp was too old: the next one will be newer than what the responder last saw."""
        if pending is None or not self._labels.params:
            return "cookie"
        handshake, peer = pending.handshake, pending.peer
        said = _open(handshake.derive(_STAMP_LABEL), data, handshake.hash)
        seen = None if said is None else unpack_stamp(said[:STAMP_BYTES])
        if seen is None:
            return "cookie"
        if seen >= peer.floor:
            peer.floor = seen
            peer.next_at = min(peer.next_at, now)
            self.counts["stamps_taken"] += 1
        return None

    # -- inside -----------------------------------------------------------------------------------------------------

    def _params_of(self, payload: bytes, their_index: int) -> Params:
        """What the peer says of itself. Raises HandshakeError when there can be no session with it."""
        if not self._labels.params:
            return Params()
        theirs = Params.unpack(payload)
        word = theirs.refusal() or ("lane" if their_index & 63 != LANE_AGENT else None)
        if word is not None:
            raise HandshakeError(word)
        return theirs

    def _own_for(self, peer: Shaking, now: int) -> OwnKey:
        """The key of ours that the peer knows; as long as it has not shown which, each in turn."""
        if peer.knows is not None and peer.knows.good(now):
            return peer.knows
        good = [own for own in self._own if own.good(now)]
        return good[peer.tries // max(len(peer.addresses), 1) % len(good)]

    def _ephemeral(self) -> KeyPair:
        return KeyPair(self._entropy(32))

    def _cookie(self, peer: Shaking, now: int) -> bytes | None:
        return peer.cookie[0] if peer.cookie is not None and now - peer.cookie[1] < COOKIE_NS else None

    def _send(self, address: Address, data: bytes, count: str) -> None:
        self.counts[count] += 1
        self.out.append(SendDatagram(address, data))

    def _forget_former(self) -> None:
        former = self._own.pop()
        for peer in self.peers.values():
            if peer.knows is former:
                peer.knows = None

    def _forget(self, pending: Pending, *, keep_index: bool = False) -> None:
        del self._pending[pending.index]
        del pending.peer.pending[pending.index]
        if not keep_index:
            self.indices.give(pending.index)


def _open(key: bytes, data: bytes, aad: bytes) -> bytes | None:
    """What a cookie reply holds; None when it was not sealed with this key for this message."""
    try:
        return xchacha.open_(key, data[8 : 8 + xchacha.NONCE_BYTES], data[8 + xchacha.NONCE_BYTES :], aad)
    except InvalidTag:
        return None
