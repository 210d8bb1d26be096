"""A stranger in a process of its own: floods UDP ports of this machine for a few seconds.

    python tests/net/flood.py SECONDS RATE KIND PORT...        prints how many datagrams it sent

KIND: what the datagrams are. `junk` of all first bytes, `hello` (180 bytes, of the right type), `data` for no session,
`empty`.
"""

from __future__ import annotations

import random
import socket
import struct
import sys
import time

RUN = 32  # datagrams per call: UDP_SEGMENT
UDP_SEGMENT = 103
CHUNK_S = 0.005


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


def flood(seconds: float, rate: int, kind: str, ports: list[int]) -> int:
    """Sends about `rate` datagrams a second, shared between the ports; how many it were."""
    rng = random.Random(1)
    runs = [datagrams(kind, rng) for _ in range(64)]
    size = struct.pack("=H", len(runs[0][0]))
    sent, began = 0, time.monotonic()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        while (past := time.monotonic() - began) < seconds:
            while sent < past * rate:
                run = runs[sent % len(runs)]
                to = ("127.0.0.1", ports[sent // len(run) % len(ports)])
                sock.sendmsg([b"".join(run)], [(socket.IPPROTO_UDP, UDP_SEGMENT, size)] if run[0] else [], 0, to)
                sent += len(run)
            time.sleep(CHUNK_S)
    return sent


if __name__ == "__main__":
    print(flood(float(sys.argv[1]), int(sys.argv[2]), sys.argv[3], [int(port) for port in sys.argv[4:]]))
