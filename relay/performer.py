"""Performs what the control plane asks for, with the agent's lane, the workers' rings and the supervisor.

    Command ───────────────────────────▶ rings of the workers            with `flush`
    OpenIngress ───────────────────────▶ the supervisor                  with `flush`, after the commands before it
    SendControl ───────────────────────▶ conversation 0 of the session   with `flush`
    Session…  HeardElsewhere  Refuse ──▶ the agent's lane                at once
    SendDatagram ──────────────────────▶ its own UDP port                at once
    CloseIngress ──────────────────────▶ the supervisor                  at once
    StreamChanged  Log ────────────────▶ the agent                       at once

What finds no room waits in order.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Sequence

import structlog

from relay import _core
from relay import actions as act
from relay.ctl import Ctl
from relay.errors import CoreError
from relay.handles import WorkerHandle
from relay.outbox import Outbox

log = structlog.get_logger("zrelay.agent")


class Performer:
    """Of one agent. `hellos`: its own UDP port; `ports`: where ingress sockets may be.

    `changed()` is called when a stream did, `say(level, event, **fields)` for the log, and `stuck(slot, now)` when a
    session's peer takes no control messages: it is to begin again. `begun(slot)`: the lane has a new session there.
    """

    def __init__(
        self, lane: _core.ControlLane, workers: Sequence[WorkerHandle], ctl: Ctl, hellos: socket.socket,
        ports: tuple[int, int], *, changed: Callable[[], None], say: Callable[..., None],
        stuck: Callable[[int, int], None], begun: Callable[[int], None],
    ) -> None:  # fmt: skip
        self.sessions: set[int] = set()  # slots of those that the lane has
        self._lane = lane
        self._workers = workers
        self._ctl = ctl
        self._hellos = hellos
        self._ports = ports
        self._changed = changed
        self._say = say
        self._stuck = stuck
        self._begun = begun
        self._outbox = Outbox(lane)
        self._ingress_due: list[act.OpenIngress] = []

    def perform(self, action: act.Action, now: int) -> None:
        """One action; what goes into rings and conversations waits for `flush`, in order."""
        match action:
            case act.Command(worker, record):
                self._workers[worker].post(record)
            case act.SendControl(slot, payload):
                self._send(slot, payload, now)
            case act.SendDatagram(address, data):
                with contextlib.suppress(OSError):  # a hello that cannot leave is sent again
                    self._hellos.sendto(data, (address.ip, address.port))
            case act.SessionAdd():
                self._lane.session_add(
                    action.slot, action.index, action.peer_index, action.lanes, action.rate_mhz, action.mtu,
                    action.address.pack(), now, None if action.keys is None else action.keys.row(now),
                )  # fmt: skip
                self.sessions.add(action.slot)
                self._begun(action.slot)
            case act.SessionRekey(slot, index, peer_index, keys):
                self._lane.session_rekey(slot, index, peer_index, keys.row(now), now)
            case act.SessionPaths(slot, addresses):
                with contextlib.suppress(CoreError):  # it has just left the list with the address it sends to
                    self._lane.session_paths(slot, [address.pack() for address in addresses], now)
            case act.HeardElsewhere(slot, when):
                if slot in self.sessions:
                    self._lane.heard_elsewhere(slot, when, now)
            case act.SessionDrop(slot):
                self.sessions.discard(slot)
                self._outbox.drop(slot)
                self._lane.session_drop(slot)
            case act.OpenIngress():
                self._ingress_due.append(action)
            case act.CloseIngress(worker, slot):
                self._ctl.close_ingress(worker, slot)
            case act.StreamChanged():
                self._changed()
            case act.Refuse(word):
                self._lane.refuse(word)
            case act.Log(level, event, fields):
                self._say(level, event, **fields)

    def flush(self, now: int) -> None:
        """Everything that waits and now has room; the lane's datagrams are the caller's to flush."""
        for worker in self._workers:
            worker.flush()
        self._ask_for_ingress()
        self._outbox.flush(now)

    def _send(self, slot: int, payload: bytes, now: int) -> None:
        """A control message; a peer that takes none of them for too long gets a new session."""
        if slot not in self.sessions:
            return
        try:
            sent = self._outbox.send(slot, payload, now)
        except CoreError as error:  # too long, or a lane that lost the session: neither may happen
            log.error("control message not sent", slot=slot, bytes=len(payload), error=str(error), code="ZR1006")
            sent = False
        if not sent:
            self._stuck(slot, now)

    def _ask_for_ingress(self) -> None:
        """A slot's last socket is closed by a command: it must be in the ring before the next socket is asked for."""
        due, self._ingress_due = self._ingress_due, []
        for action in due:
            if self._workers[action.worker].waiting:
                self._ingress_due.append(action)
            else:
                self._ctl.open_ingress(action.worker, action.slot, action.ip, action.port, self._ports)
