"""The yardstick: a process that forwards what comes to one UDP socket, and does nothing else.

    python -m relay.bench.bare LISTEN runs|singles TARGET...     addresses as ip:port

prints the port it listens on and forwards until it is killed. `runs`: GRO and UDP_SEGMENT; `singles`: a datagram each.
"""

from __future__ import annotations

import socket
import sys

from relay._core import udp_open
from relay._load import forward
from relay.units import Address

_BUFFER = 4 << 20


def main(argv: list[str]) -> None:
    listen, how, targets = Address.parse(argv[1], port_min=0), argv[2], [Address.parse(word) for word in argv[3:]]
    if how not in ("runs", "singles"):
        raise SystemExit(f"{how!r}: not runs or singles")
    segment = how == "runs"
    fd = udp_open(listen.pack(), rcvbuf=_BUFFER, sndbuf=_BUFFER, gro=segment)
    with socket.socket(fileno=fd) as sock:
        print(sock.getsockname()[1], flush=True)
        forward(fd, b"".join(target.pack() for target in targets), segment=segment)


if __name__ == "__main__":
    main(sys.argv)
