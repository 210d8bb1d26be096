"""One conversation of ours, driven from Python on a virtual clock in milliseconds; shared by the KCP properties."""

from __future__ import annotations

from typing import Any

from tests.whitebox import ffi, lib

MS = 1_000_000


class End:
    """A conversation with its own pool of packets and blocks. Times are in ms."""

    def __init__(self, conf: Any, now: int, packets: int = 4096, blocks: int = 300, datagrams: int = 64) -> None:
        self.raw = lib.wb_kcp_new(ffi.new("zr_kcp_conf *", conf), packets, blocks, datagrams, now * MS)
        self.drop = ffi.new("int *")
        self.buffer = bytearray(256 * 1500)

    def close(self) -> int:
        """0 when every packet and block came back."""
        raw, self.raw = self.raw, None
        return int(lib.wb_kcp_free(raw))

    def send(self, data: bytes, now: int) -> int:
        return int(lib.wb_kcp_send(self.raw, data, len(data), now * MS))

    def send_view(self, head: bytes, body: bytes, now: int) -> int:
        return int(lib.wb_kcp_send_view(self.raw, head, len(head), body, len(body), now * MS))

    def input(self, data: bytes, now: int) -> int:
        return int(lib.wb_kcp_input(self.raw, data, len(data), now * MS, self.drop))

    def input_stock(self, data: bytes, now: int) -> int:
        """As the original does it: what comes before a bad segment stays applied."""
        return int(lib.wb_kcp_input_stock(self.raw, data, len(data), now * MS))

    def recv(self) -> bytes | None:
        n = lib.wb_kcp_recv(self.raw, ffi.from_buffer(self.buffer), len(self.buffer))
        return bytes(self.buffer[:n]) if n >= 0 else None

    def recv_code(self, size: int) -> int:
        """Takes the next message into a buffer of `size` bytes and throws it away: its length, or the error."""
        return int(lib.wb_kcp_recv(self.raw, ffi.new("uint8_t[]", size + 1), size))

    def on_deadline(self, now: int) -> None:
        lib.wb_kcp_on_deadline(self.raw, now * MS)

    def flush(self) -> None:
        lib.wb_kcp_flush(self.raw)

    def output(self, now: int, runs: bool = False) -> list[bytes]:
        """All that is due, batch after batch."""
        out: list[bytes] = []
        size = ffi.new("size_t *")
        for _ in range(10_000):
            rc = lib.wb_kcp_output(self.raw, runs, now * MS)
            for i in range(lib.wb_kcp_datagrams(self.raw)):
                data = lib.wb_kcp_datagram(self.raw, i, size)
                out.append(bytes(ffi.buffer(data, size[0])))
            if rc != lib.ZR_E_full:
                return out
        raise AssertionError("output never ends")

    def due(self, now: int) -> bool:
        return bool(lib.wb_kcp_due(self.raw, now * MS))

    def deadline(self) -> int | None:
        """In ms, or None for never. Always a whole millisecond: the engine wakes at the tick, not before."""
        at = int(lib.wb_kcp_deadline(self.raw))
        return None if at == 2**63 - 1 else at // MS

    def waiting(self) -> int:
        return int(lib.wb_kcp_waiting(self.raw))

    def check(self) -> bool:
        return bool(lib.wb_kcp_check(self.raw))

    def words(self) -> Any:
        return lib.wb_kcp_state(self.raw)

    def counts(self) -> Any:
        return lib.wb_kcp_counted(self.raw)
