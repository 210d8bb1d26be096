"""The agent's conversation with the supervisor, over a socket pair of msgpack maps.

    agent ─▶ ready · open_ingress {r, worker, slot, address, port, ports} · close_ingress {worker, slot}
             close_all_ingress {worker}
    agent ◀─ worker_up {worker} · worker_moved {worker} · worker_lost {worker} · ingress {r, address, port | error}
             stop

Whatever does not fit into the socket waits and leaves when it can be written: an ingress asked for is never forgotten.
"""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import msgpack

from relay.units import Address

MESSAGES_PER_READ = 256


class Ctl:
    """`on_room(wanted)` is told when the socket must be watched for room to write, and when no longer."""

    def __init__(self, fd: int, on_room: Callable[[bool], None]) -> None:
        self._socket = socket.socket(fileno=fd)
        self._socket.setblocking(False)
        self._on_room = on_room
        self._out: deque[bytes] = deque()
        self._asked: dict[int, tuple[int, int]] = {}  # request -> (worker, slot)
        self._next_request = 1
        self._watching = False
        self.gone = False

    def fileno(self) -> int:
        return self._socket.fileno()

    def ready(self) -> None:
        self._say({"t": "ready"})

    def open_ingress(self, worker: int, slot: int, address: str, port: int, ports: tuple[int, int]) -> None:
        """Answered by an "ingress" message; see `answered`."""
        request, self._next_request = self._next_request, self._next_request + 1
        self._asked[request] = (worker, slot)
        self._say({
            "t": "open_ingress", "r": request, "worker": worker, "slot": slot, "address": address, "port": port,
            "ports": ports,
        })  # fmt: skip

    def close_ingress(self, worker: int, slot: int) -> None:
        """The supervisor keeps this socket no longer."""
        self._say({"t": "close_ingress", "worker": worker, "slot": slot})

    def close_all_ingress(self, worker: int) -> None:
        """None of this worker's: it is told everything anew."""
        self._say({"t": "close_all_ingress", "worker": worker})

    def replace_worker(self, worker: int) -> None:
        """Its channel is corrupt: another process in its place, and the channel laid out anew between the two."""
        self._say({"t": "replace_worker", "worker": worker})

    def answered(self, message: dict[str, Any]) -> tuple[int, int, Address | None, str | None]:
        """Of an "ingress" message: (worker, slot, address, error)."""
        worker, slot = self._asked.pop(message["r"])
        error = message.get("error")
        return worker, slot, None if error else Address(message["address"], message["port"]), error

    def messages(self) -> Iterator[dict[str, Any]]:
        """What it said; `gone` is set when it has died."""
        for _ in range(MESSAGES_PER_READ):
            try:
                data = self._socket.recv(65536)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self.gone = True
                return
            yield msgpack.unpackb(data)

    def flush(self) -> None:
        """Writes what waits, as far as there is room."""
        try:
            while self._out:
                self._socket.send(self._out[0])
                self._out.popleft()
        except BlockingIOError:
            pass
        except OSError:  # it is gone; reading says so
            self._out.clear()
        if bool(self._out) != self._watching:
            self._watching = bool(self._out)
            self._on_room(self._watching)

    def _say(self, message: dict[str, Any]) -> None:
        self._out.append(msgpack.packb(message))
        if len(self._out) == 1:
            self.flush()
