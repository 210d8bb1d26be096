"""One step of a relay's control plane: what its lane and its workers have to say, in the order that matters."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

from relay import actions
from relay.commands import decode_event
from relay.control import Control


class Lane(Protocol):
    """relay._core.ControlLane, as far as `step` needs it."""

    def messages(self) -> list[tuple[int, bytes]]: ...
    def refuse(self, drop: str) -> None: ...
    def heard(self, slot: int) -> int: ...
    def index(self, slot: int) -> int: ...
    def rtt_us(self, slot: int) -> int: ...
    def rekeys(self) -> list[tuple[int, int]]: ...
    def violations(self) -> list[tuple[int, int]]: ...
    def probed(self) -> list[int]: ...
    def probe(self, slot: int, now: int) -> dict[str, Any] | None: ...
    def session_active(self, slot: int, active: bool, now: int) -> None: ...


def step(
    control: Control,
    lane: Lane,
    events: Iterable[tuple[int, bytes]],
    sessions: Iterable[int],
    perform: Callable[[actions.Action], None],
    now: int,
) -> bool:
    """What waits for the control plane now, in its order; True: something moved, so there may be more.

    `events`: (worker, record), taken after the messages; `sessions`: slots to be looked at for signs of life.
    """
    moved = False
    for slot, payload in lane.messages():
        moved = True
        word = control.on_message(slot, payload, now)
        if word is not None:
            lane.refuse(word)
    for worker, record in events:
        moved = True
        control.on_event(worker, decode_event(record), now)
    for slot in lane.probed():
        moved = True
        view = lane.probe(slot, now)
        if view is not None:
            control.on_link(slot, view, now)
    carrying = control.carrying() if sessions else ()
    for slot in sessions:
        lane.session_active(slot, slot in carrying, now)
        heard = lane.heard(slot)
        if heard:
            control.on_heard(slot, heard)
            control.on_confirmed(slot, lane.index(slot), heard)
            control.on_rtt(slot, lane.rtt_us(slot))
    for slot, count in lane.violations():
        control.on_violations(slot, count, now)
    for slot, why in lane.rekeys():
        control.on_rekey(slot, why, now)
    control.on_timer(now)
    for action in control.drain():
        moved = True
        perform(action)
    return moved
