"""What a relay's lanes are told of its sessions: the agent's by actions, the workers' by commands.

    sessions come, go, have new keys ──▶ take ────────────────────────▶ every lane
    a worker begins ───────────────────▶ tell_all ────────────────────▶ its lane
    the agent's lane measures ─────────▶ on_rtt  on_mtu  on_address ──▶ workers' lanes
    it hears nothing ──────────────────▶ ask_heard ───────────────────▶ workers' lanes ──▶ it: heard elsewhere

Pure. Streams learn of sessions from Control, after the lanes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from relay import actions
from relay.desk import ENVELOPED, Desk
from relay.units import Address


class Lanes:
    """Of one relay."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._sessions = desk.sessions
        self._workers = desk.workers
        self.rtt_us: dict[int, int] = {}  # by session slot, as the workers were told
        self._mtu: dict[int, int] = {}  # the same, for KCP

    # -- which sessions there are -----------------------------------------------------------------------------------

    def take(self, now: int) -> None:
        """What was done to sessions since the last call: the agent's lane learns it, then the workers' do."""
        for action in self._sessions.actions:
            self._desk.emit(action)
            if isinstance(action, actions.SessionAdd | actions.SessionRekey):
                workers = range(len(self._workers.up))
                for worker in workers:
                    self._workers.add_session(worker, action, now)
                if isinstance(action, actions.SessionAdd) and len(self._sessions.paths_of(action.slot)) > 1:
                    self._tell_everyone_paths(action.slot)
            elif isinstance(action, actions.SessionDrop):
                self.rtt_us.pop(action.slot, None)
                self._mtu.pop(action.slot, None)
                self._workers.command_all("session_drop", session=action.slot)
        self._sessions.actions.clear()

    def tell_all(self, worker: int, now: int) -> None:
        """A process that knows none: every session there is, and its keys."""
        for add in self._sessions.adds():
            self._workers.add_session(worker, add, now, self.rtt_us.get(add.slot, 0), self._mtu.get(add.slot, 0))
            self._tell_paths(add.slot, [worker])
        for rekey in self._sessions.rekeys():
            self._workers.add_session(worker, rekey, now)

    def kick(self, slot: int) -> None:
        """The peer is back: what workers could not deliver is tried at once."""
        self._workers.command_all("session_kick", session=slot)

    # -- where their peers are --------------------------------------------------------------------------------------

    def tell_paths_again(self) -> None:
        """Peers may have other addresses than before."""
        for session in self._sessions.adds():
            self._tell_everyone_paths(session.slot)

    def on_address(self, slot: int, address: Address | None, now: int) -> None:
        """The agent's lane took to another address: the workers do, and try at once what they could not deliver."""
        if address is None or not self._sessions.on_address(slot, address, now):
            return
        self._workers.command_all("session_addr", session=slot, addr=address)
        self.kick(slot)

    def _tell_everyone_paths(self, slot: int) -> None:
        self._desk.emit(actions.SessionPaths(slot, self._sessions.paths_of(slot)))
        self._tell_paths(slot, range(len(self._workers.up)))

    def _tell_paths(self, slot: int, workers: Iterable[int]) -> None:
        """Where else this peer is: datagrams from there are its own. With one address there is nothing to tell."""
        addresses = self._sessions.paths_of(slot)
        for worker in workers if len(addresses) > 1 else ():
            for number, address in enumerate(addresses):
                self._workers.command(worker, "session_path", session=slot, number=number, addr=address)

    # -- what the agent's lane measures -----------------------------------------------------------------------------

    def on_rtt(self, slot: int, rtt_us: int) -> None:
        """The workers are told when it moved by an eighth."""
        known = self.rtt_us.get(slot, 0)
        if self._sessions.peer_of(slot) is None or abs(rtt_us - known) <= known // 8:
            return
        self.rtt_us[slot] = rtt_us
        self._workers.command_all("session_rtt", session=slot, rtt_us=rtt_us)

    def on_mtu(self, slot: int, ip_bytes: int) -> None:
        """The path takes IP packets of this size; workers are told what is left of it for KCP, when that changed."""
        mtu = ip_bytes - ENVELOPED
        if mtu != self._mtu.get(slot):
            self._mtu[slot] = mtu
            self._workers.command_all("session_mtu", session=slot, mtu=mtu)

    def ask_heard(self, slot: int, on_heard: Callable[[int, int], None]) -> None:
        """Did workers' lanes hear it? Each that did tells when: to the agent's lane, and to `on_heard(slot, when)`."""
        for worker in range(len(self._workers.up)):
            self._workers.ask(worker, "session_heard", self._heard_elsewhere(slot, on_heard), session=slot)

    def _heard_elsewhere(self, slot: int, on_heard: Callable[[int, int], None]) -> Callable[[int, int, int], None]:
        session = self._sessions.session_at(slot)

        def answered(rc: int, ago: int, now: int) -> None:
            if rc == 0 and ago <= now and self._sessions.session_at(slot) is session:
                self._desk.emit(actions.HeardElsewhere(slot, now - ago))
                on_heard(slot, now - ago)

        return answered
