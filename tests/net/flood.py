"""A stranger in a process of its own: floods UDP ports of this machine for a few seconds, from many of its own.

    python tests/net/flood.py SECONDS RATE KIND PORT...        prints how many datagrams it sent, and how many it got

KIND: what the datagrams are. `junk` of all first bytes, `hello` (180 bytes, of the right type), `data` for no session,
`empty`; or SIZE:FILE, datagrams of one size that lie there one after the other (tests/net/stranger.py makes them). They
leave in runs of RUN, one to each port in turn.
"""

from __future__ import annotations

import random
import socket
import struct
import sys
import time
from pathlib import Path

RUN = 32  # datagrams per call: UDP_SEGMENT
RUNS = 64
SOURCES = 64  # sockets: to a gate each is somebody else
UDP_SEGMENT = 103
CHUNK_S = 0.005
QUIET_S = 0.3  # without an answer for so long, there are none to come


def datagrams(kind: str, rng: random.Random) -> list[bytes]:
    """One run of datagrams, all of one size."""
    if kind == "empty":
        return [b""]
    if kind == "hello":
        return [b"\x08\0\0\0" + rng.randbytes(176) for _ in range(RUN)]
    if kind == "data":
        heads = (struct.pack("<BBHIQ", 0x0B, 0, 0, rng.getrandbits(26) << 6, n) for n in range(RUN))
        return [head + rng.randbytes(1184) for head in heads]
    return [bytes([rng.randrange(256)]) + rng.randbytes(199) for _ in range(RUN)]


def all_runs(kind: str) -> list[list[bytes]]:
    size, colon, path = kind.partition(":")
    if not colon:
        rng = random.Random(1)
        return [datagrams(kind, rng) for _ in range(RUNS)]
    data, each = Path(path).read_bytes(), int(size)
    given = [data[at : at + each] for at in range(0, len(data), each)]
    return [given[at : at + RUN] for at in range(0, len(given), RUN)]


def answers(sockets: list[socket.socket]) -> int:
    """What came back to them; waits until nothing does any more."""
    heard, quiet_at = 0, time.monotonic() + QUIET_S
    for sock in sockets:
        sock.setblocking(False)
    while time.monotonic() < quiet_at:
        for sock in sockets:
            try:
                while sock.recv(2048):
                    heard += 1
                    quiet_at = time.monotonic() + QUIET_S
            except BlockingIOError:
                pass
        time.sleep(CHUNK_S)
    return heard


def flood(seconds: float, rate: int, kind: str, ports: list[int]) -> tuple[int, int]:
    """Sends about `rate` datagrams a second, shared between the ports: how many it were, and how many were answered."""
    runs = all_runs(kind)
    size = struct.pack("=H", len(runs[0][0]))
    sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(SOURCES)]
    sent, turn, began = 0, 0, time.monotonic()
    while (past := time.monotonic() - began) < seconds:
        while sent < past * rate:
            run, to = runs[turn % len(runs)], ("127.0.0.1", ports[turn % len(ports)])
            how = [(socket.IPPROTO_UDP, UDP_SEGMENT, size)] if run[0] else []
            sockets[turn // len(ports) % SOURCES].sendmsg([b"".join(run)], how, 0, to)
            sent, turn = sent + len(run), turn + 1
        time.sleep(CHUNK_S)
    return sent, answers(sockets)


if __name__ == "__main__":
    print(*flood(float(sys.argv[1]), int(sys.argv[2]), sys.argv[3], [int(port) for port in sys.argv[4:]]))
