"""The process between the two ends of a run over real sockets: `zrelay impair`, with a link of its own for each way.

    python -m relay.bench.between FD        FD: a stream socket; its end is the end of this process

reads one JSON line: a, b (the ends' addresses), delay_ns, losses (a to b, b to a; 0 to 1), burst, rate_bps and
queue_bytes (a to b), packets_max, seeds. Answers one: a, b, where each end finds the other; or error.
"""

from __future__ import annotations

import json
import signal
import socket
import sys
import time
from typing import Any

from relay._core import SimLink
from relay.impair import Impairer, Side
from relay.units import Address

_TRIES = 20


def main(argv: list[str]) -> int:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started us ends, and then we do
    with socket.socket(fileno=int(argv[1])) as stop, stop.makefile("rw") as lines:
        asked = json.loads(lines.readline())
        try:
            impairer, sides = _impairer(asked)
        except OSError as error:
            print(json.dumps({"error": str(error)}), file=lines, flush=True)
            return 1
        with impairer:
            print(json.dumps({"a": str(sides[0]), "b": str(sides[1])}), file=lines, flush=True)
            impairer.run(stop)
    return 0


def _impairer(asked: dict[str, Any]) -> tuple[Impairer, list[Address]]:
    rates = [(asked["rate_bps"], asked["queue_bytes"]), (0, 0)]
    links = [
        SimLink(
            delay_ns=asked["delay_ns"],
            loss=loss,
            burst=asked["burst"],
            rate_bps=rate,
            queue_bytes=queue,
            packets_max=asked["packets_max"],
            seed=seed,
        )
        for loss, seed, (rate, queue) in zip(asked["losses"], asked["seeds"], rates, strict=True)
    ]
    peers = [Address.parse(asked["a"]), Address.parse(asked["b"])]
    for tries in range(_TRIES):
        listen = _free(2)  # somebody else may take them before we do
        try:
            sides = [Side(at, peer) for at, peer in zip(listen, peers, strict=True)]
            return Impairer(sides[0], sides[1], 1, links[0], links[1], time.monotonic_ns), listen
        except OSError:
            if tries == _TRIES - 1:
                raise
    raise AssertionError("unreachable")


def _free(count: int) -> list[Address]:
    """Loopback ports nobody has at this moment."""
    sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(count)]
    for sock in sockets:
        sock.bind(("127.0.0.1", 0))
    found = [Address(*sock.getsockname()) for sock in sockets]
    for sock in sockets:
        sock.close()
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv))
