"""RTP from and to plain sockets, for tests that need to know every packet."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import defaultdict

PAYLOAD_TYPE = 97
TRACK = {"id": "a0", "kind": "audio", "codec": "opus", "payload_type": PAYLOAD_TYPE, "clock_rate": 48000, "channels": 2}


def packet(ssrc: int, seq: int, *, payload_type: int = PAYLOAD_TYPE, payload: bytes = b"x" * 100) -> bytes:
    """One RTP packet; the payload begins with the 32-bit number ``seq`` so that wraps stay visible."""
    head = struct.pack(">BBHII", 0x80, payload_type, seq & 0xFFFF, seq * 960 & 0xFFFFFFFF, ssrc)
    return head + struct.pack(">I", seq) + payload


def publish_body(epoch: int = 1) -> dict[str, object]:
    return {"epoch": epoch, "tracks": [TRACK], "ingress": {"kind": "rtp", "source": "learn"}}


class Sender:
    """Sends RTP from one socket."""

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))

    def send(self, port: int, ssrc: int, seq: int) -> None:
        self.socket.sendto(packet(ssrc, seq), ("127.0.0.1", port))

    def close(self) -> None:
        self.socket.close()


class Sink(asyncio.DatagramProtocol):
    """Keeps the numbers that came, per SSRC, in order of arrival; and RTCP packets whole."""

    def __init__(self) -> None:
        self.numbers: dict[int, list[int]] = defaultdict(list)
        self.rtcp: list[bytes] = []
        self.source: tuple[str, int] | None = None
        self.port = 0
        self.transport: asyncio.DatagramTransport | None = None

    @classmethod
    async def open(cls) -> Sink:
        loop = asyncio.get_running_loop()
        transport, sink = await loop.create_datagram_endpoint(cls, local_addr=("127.0.0.1", 0))
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        sink.transport, sink.port = transport, transport.get_extra_info("sockname")[1]
        return sink

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.source = addr
        if len(data) > 1 and 192 <= data[1] <= 223:
            self.rtcp.append(data)
            return
        (ssrc, number) = struct.unpack_from(">II", data, 8)
        self.numbers[ssrc].append(number)

    def close(self) -> None:
        if self.transport is not None:
            self.transport.close()
