"""What strangers who know something throw at a relay: files for tests/net/flood.py.

proven    initiations with a right MAC1: who knows the relay's public key and the mesh key, but hears no answers
tagged    data for receive indices that are in use, with a wrong tag: who reads the wire, and has no key
"""

from __future__ import annotations

import random
import socket
import struct
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest

from relay.dev import DevRelay
from relay.handshake_wire import ZRELAY, Macs
from relay.keys import Keyring, public_of
from tests.net.flood import RUN, RUNS

HEAD_BYTES, TAGGED_BYTES = 16, 1200
DATA = 0x0B
_ETH_P_IP = 0x0800
_UDP = 17


def proven(relay: DevRelay, folder: Path) -> str:
    """A KIND of flood.py: each from another sender, random behind what the gate looks at."""
    ring, rng = Keyring(str(relay.keyring)), random.Random(2)
    macs = Macs(ZRELAY, public_of("identity", ring.read("identity")), ring.read("mesh").reveal())
    body = ZRELAY.initiation_bytes - 4 - 32
    initiations = (macs.finish(b"\x08\0\0\0" + rng.randbytes(body), None) for _ in range(RUN * RUNS))
    return _kind(folder / "proven", ZRELAY.initiation_bytes, initiations)


def tagged(heads: Sequence[bytes], folder: Path) -> str:
    """A KIND of flood.py: a run for each head in turn, with numbers that did not come yet."""
    rng = random.Random(3)
    forged = (
        heads[turn % len(heads)][:8] + struct.pack("<Q", (1 << 32) + turn * RUN + n) + rng.randbytes(TAGGED_BYTES - 16)
        for turn in range(RUNS)
        for n in range(RUN)
    )
    return _kind(folder / "tagged", TAGGED_BYTES, forged)


def _kind(path: Path, size: int, datagrams: Iterable[bytes]) -> str:
    path.write_bytes(b"".join(datagrams))
    return f"{size}:{path}"


def heads_on_the_wire(ports: Sequence[int], timeout_s: float = 5.0) -> list[bytes]:
    """The clear header of a data datagram to each of these ports of 127.0.0.1; skips the test where nobody may look."""
    found: dict[int, bytes] = {}
    try:
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ETH_P_IP))
    except PermissionError:
        pytest.skip("reading loopback needs CAP_NET_RAW: run as root")
    with sock:
        sock.bind(("lo", _ETH_P_IP))
        until = time.monotonic() + timeout_s
        while len(found) < len(ports):
            sock.settimeout(max(0.001, until - time.monotonic()))
            packet = sock.recv(65535)  # TimeoutError: nothing of that kind came
            udp = packet[(packet[0] & 15) * 4 :]
            port, payload = int.from_bytes(udp[2:4], "big"), udp[8:]
            if packet[9] == _UDP and port in ports and len(payload) >= HEAD_BYTES and payload[0] == DATA:
                found.setdefault(port, payload[:HEAD_BYTES])
    return [found[port] for port in ports]
