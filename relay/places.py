"""A worker's place: what worker `index` has for all its lives, and how a prepared process takes it.

    death, as it begins (csrc/stat/zr_life.h)
          ─▶ spare takes the place (lane epoch + 1, journal, ingress sockets) ─▶ up ─▶ the agent is told "moved"
             5 deaths in 10 s, each within 100 ms of its start: told "lost"; back-off 10 ms to 1 s; the next one begins
             fresh and is told everything. Who lives longer does not die of what it took over, and is replaced at once

Ingress sockets are kept here in duplicate until the agent closes them, so that packets wait in them for the successor.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from relay import _core
from relay.processes import START_AGAIN_S, Backoff, Child
from relay.sockets import Sockets
from relay.units import Address

FDPASS = struct.Struct("<IHH")
ORDER = struct.Struct("<IHHHHHH")
MAGIC, OP_INGRESS = _core.FDPASS
CHAN_SLOTS = 4096
CRASHES, CRASHES_WITHIN_S = 5, 10.0
SHORT_LIFE_S = 0.1
UP_NS, UP_FROM_NOTHING_NS = 1_000_000_000, 10_000_000_000  # from the order to "up"; with an interpreter's start


@dataclass
class Place(Child):
    """`told`: the agent takes it for up, perhaps since an earlier life."""

    backoff: Backoff = field(default_factory=lambda: Backoff(0.01, 1.0))
    retry: Backoff = field(default_factory=lambda: Backoff(0.1, START_AGAIN_S, 0.1))  # when no process can be had
    index: int = 0
    cpu: int | None = None
    fds: dict[str, int] = field(default_factory=dict)
    page: _core.StatPage | None = None
    epoch: int = 0  # of its lane
    told: bool = False
    ingress: dict[int, int] = field(default_factory=dict)  # slot -> our duplicate
    deaths: deque[float] = field(default_factory=deque)
    anew: bool = False  # its channel is corrupt: the next one begins fresh, with a channel laid out anew
    ordered_ns: int = 0  # when its process got the order to be this worker, or the last of the sockets that followed
    waited: bool = False  # its process was not started for this: it was the spare
    _sending: deque[tuple[bytes, int]] = field(default_factory=deque)  # message, descriptor or -1
    _counted: set[int] = field(default_factory=set)  # descriptors in _sending that the order announced
    _orphans: set[int] = field(default_factory=set)  # of these, closed meanwhile: they are sent all the same

    @classmethod
    def open(
        cls,
        index: int,
        cpu: int | None,
        sockets: Sockets,
        link: Address,
        own: Callable[[int], int],
        *,
        workers: int,
        streams_max: int,
    ) -> Place:
        """Its sockets, pages and channel; `own` keeps each descriptor. OSError, StartError."""
        fds = {
            "link": own(sockets.open_link(link)),
            "egress": own(sockets.open_egress()),
            "chan": own(_core.shm_open(f"zr-chan-{index}", _core.Channel.bytes_for(CHAN_SLOTS))),
            "page": own(_core.shm_open(f"zr-stat-{index}", _core.StatPage.bytes_for(streams_max))),
            "inbox": own(_core.shm_open(f"zr-inbox-{index}", _core.Inbox.bytes_for(workers))),
            "wake": own(os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)),
            "journal": own(_core.journal_open(f"zr-journal-{index}", streams_max)),
        }
        _core.Channel(fds["chan"], slots=CHAN_SLOTS, create=True)
        _core.Inbox(workers, fd=fds["inbox"], create=True)
        page = _core.StatPage(fds["page"], streams_max=streams_max, create=True)
        return cls(f"zr-worker-{index}", index=index, cpu=cpu, fds=fds, page=page)

    def looping(self, lived_s: float, now: float) -> bool:
        """Looks at a death. True: it dies again and again, perhaps of what it remembers."""
        if lived_s < SHORT_LIFE_S:
            self.deaths.append(now)
        while self.deaths and now - self.deaths[0] > CRASHES_WITHIN_S:
            self.deaths.popleft()
        return len(self.deaths) >= CRASHES

    def alive_ns(self, now_ns: int) -> int:
        """When it last showed that it lives: its heartbeat, or its order when it should be up by now.

        Who was ordered while its interpreter was still starting has the longer time, as who was started for this.
        """
        if self.up and self.page is not None:
            return self.page.heartbeat_ns
        since_ns = now_ns - self.ordered_ns
        if self.process is None or since_ns < UP_NS:
            return now_ns
        late = since_ns >= UP_FROM_NOTHING_NS or (self.waited and self.named())
        return self.ordered_ns if late else now_ns

    def order(self, spare: Child, *, fresh: bool, waited: bool) -> None:
        """The spare's process becomes this worker: its order, then every ingress socket."""
        self.take_over(spare)
        self.ordered_ns, self.waited = _core.clock_now(), waited
        self.epoch = self.epoch % 0xFFFF + 1
        sockets = {} if fresh else self.ingress
        self._send_nothing()
        self._counted.update(sockets.values())
        words = (MAGIC, _core.FDPASS_BECOME, self.index, self.epoch, len(sockets), int(fresh), 0)
        self._sending.append((ORDER.pack(*words), -1))
        self._sending.extend((FDPASS.pack(MAGIC, OP_INGRESS, slot), fd) for slot, fd in sockets.items())
        self.flush()

    def give_ingress(self, slot: int, fd: int) -> bool:
        """A socket for the worker, and ours from now on too. False: it is not there to take it; `fd` is closed."""
        self.close_ingress(slot)
        if self.ours is None or not self.told:
            os.close(fd)
            return False
        self.ingress[slot] = fd
        self._sending.append((FDPASS.pack(MAGIC, OP_INGRESS, slot), fd))
        self.flush()
        return True

    def close_ingress(self, slot: int) -> None:
        """Our duplicate; the worker hears of it by a command.

        A successor waits for as many sockets as its order says before it reads any command: it gets them all.
        """
        fd = self.ingress.pop(slot, -1)
        if fd in self._counted:
            self._orphans.add(fd)
        elif fd >= 0:
            self._sending = deque(item for item in self._sending if item[1] != fd)
            os.close(fd)

    def close_all_ingress(self) -> None:
        for slot in list(self.ingress):
            self.close_ingress(slot)

    def flush(self) -> bool:
        """Sends what waits as far as there is room; True: something still waits."""
        while self._sending and self.ours is not None:
            message, fd = self._sending[0]
            try:
                socket.send_fds(self.ours, [message], [fd] if fd >= 0 else [])
            except BlockingIOError:
                return True
            except OSError:  # it is dying; its pidfd will say so
                self._send_nothing()
                return False
            self._sending.popleft()
            self._sent(fd)
        return bool(self._sending)

    def hand_over(self, now: float) -> Child:
        ending = super().hand_over(now)
        self._send_nothing()
        return ending

    def died(self, now: float) -> int:
        code = super().died(now)
        self._send_nothing()
        return code

    def _sent(self, fd: int) -> None:
        if fd in self._counted:
            self._counted.remove(fd)
            self.ordered_ns = _core.clock_now()
        if fd in self._orphans:
            self._orphans.remove(fd)
            os.close(fd)

    def _send_nothing(self) -> None:
        """What waits is for a process that is gone."""
        self._sending.clear()
        for fd in list(self._counted):
            self._sent(fd)

    def heard_up(self) -> bool:
        """Reads what it says: True when it is the worker now. EOF and nonsense: no more is read."""
        assert self.ours is not None
        data = b""
        with contextlib.suppress(OSError):
            data = self.ours.recv(64)
        return data == FDPASS.pack(MAGIC, _core.FDPASS_UP, self.index)
