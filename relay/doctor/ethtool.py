"""What `ethtool` shows of a card, asked of the kernel itself: no program to install, no rights needed to read.

Structures and numbers: linux/ethtool.h. A question that the driver does not answer is None.
"""

from __future__ import annotations

import array
import fcntl
import socket
import struct
from types import TracebackType

_SIOCETHTOOL = 0x8946
_GRINGPARAM, _GSTRINGS, _GRXFH, _GRXCLSRULE, _GRXCLSRLALL = 0x10, 0x1B, 0x29, 0x2F, 0x30
_GRXCLSRLCNT, _GSSET_INFO, _GFEATURES, _GCHANNELS = 0x2E, 0x37, 0x3A, 0x3C
_SS_FEATURES, _STRING_BYTES = 4, 32
_UDP_V4_FLOW, _HASH_PORTS = 0x02, 0xC0  # RXH_L4_B_0_1 | RXH_L4_B_2_3
_RULES_MAX = 4096
# struct ethtool_rxnfc: cmd, flow_type, data; then the rule (flow_type, h_u, h_ext, m_u, m_ext, cookie, location), count
_RXNFC_BYTES, _RULE_AT, _COUNT_AT, _LOCATIONS_AT = 192, 16, 184, 188
_PORT_AT, _COOKIE_AT = _RULE_AT + 4 + 10, _RULE_AT + 152  # h_u.udp_ip4_spec.pdst; ring_cookie


class Ethtool:
    """Use as ``with Ethtool() as ethtool``; every question names the card."""

    def __enter__(self) -> Ethtool:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def features(self, name: str) -> dict[str, tuple[bool, bool]] | None:
        """(on, may be switched) by the kernel's names: {"rx-gro": (True, True), ...}."""
        info = self._ask(name, struct.pack("=IIQI", _GSSET_INFO, 0, 1 << _SS_FEATURES, 0))
        count = struct.unpack_from("=I", info, 16)[0] if info else 0
        if not 0 < count <= 1024:
            return None
        strings = self._ask(name, struct.pack("=III", _GSTRINGS, _SS_FEATURES, count) + bytes(count * _STRING_BYTES))
        blocks = -(-count // 32)
        bits = self._ask(name, struct.pack("=II", _GFEATURES, blocks) + bytes(blocks * 16))
        if strings is None or bits is None:
            return None
        found = {}
        for number in range(count):
            at = 12 + number * _STRING_BYTES
            word = strings[at : at + _STRING_BYTES].split(b"\0")[0].decode(errors="replace")
            available, _, active, never = struct.unpack_from("=4I", bits, 8 + number // 32 * 16)
            bit = 1 << number % 32
            if word:
                found[word] = bool(active & bit), bool(available & bit and not never & bit)
        return found

    def queues(self, name: str) -> tuple[int, int] | None:
        """(in use, most) of combined queues, or of receive queues where the card keeps them apart."""
        answer = self._ask(name, struct.pack("=I", _GCHANNELS) + bytes(32))
        if answer is None:
            return None
        _, rx_most, _, _, both_most, rx, _, _, both = struct.unpack("=9I", answer)
        return (both, both_most) if both_most else (rx, rx_most) if rx_most else None

    def rings(self, name: str) -> tuple[tuple[int, int], tuple[int, int]] | None:
        """Descriptors (now, most), receive and send."""
        answer = self._ask(name, struct.pack("=I", _GRINGPARAM) + bytes(32))
        if answer is None:
            return None
        _, rx_most, _, _, tx_most, rx, _, _, tx = struct.unpack("=9I", answer)
        return (rx, rx_most), (tx, tx_most)

    def hashes_ports(self, name: str) -> bool | None:
        """Whether UDP's ports choose the queue, over IPv4."""
        answer = self._ask(name, struct.pack("=II", _GRXFH, _UDP_V4_FLOW) + bytes(_RXNFC_BYTES - 8))
        return None if answer is None else struct.unpack_from("=Q", answer, 8)[0] & _HASH_PORTS == _HASH_PORTS

    def rules(self, name: str) -> list[tuple[int, int]] | None:
        """(destination port, queue) of each rule for UDP over IPv4."""
        answer = self._ask(name, struct.pack("=I", _GRXCLSRLCNT) + bytes(_RXNFC_BYTES - 4))
        if answer is None:
            return None
        count = min(struct.unpack_from("=I", answer, _COUNT_AT)[0], _RULES_MAX)
        request = bytearray(_RXNFC_BYTES + 4 * count)
        struct.pack_into("=I", request, 0, _GRXCLSRLALL)
        struct.pack_into("=I", request, _COUNT_AT, count)
        answer = self._ask(name, bytes(request))
        if answer is None:
            return None
        found = []
        for location in struct.unpack_from(f"={count}I", answer, _LOCATIONS_AT):
            request = bytearray(_RXNFC_BYTES)
            struct.pack_into("=I", request, 0, _GRXCLSRULE)
            struct.pack_into("=I", request, _RULE_AT + 160, location)
            rule = self._ask(name, bytes(request))
            if rule is not None and struct.unpack_from("=I", rule, _RULE_AT)[0] == _UDP_V4_FLOW:
                port, queue = struct.unpack_from(">H", rule, _PORT_AT)[0], struct.unpack_from("=Q", rule, _COOKIE_AT)[0]
                found.append((port, queue & 0xFFFFFFFF))
        return found

    def _ask(self, name: str, request: bytes) -> bytes | None:
        data = array.array("B", request)
        ifreq = struct.pack("16sP16x", name.encode()[:15], data.buffer_info()[0])
        try:
            fcntl.ioctl(self._socket, _SIOCETHTOOL, ifreq)
        except OSError:
            return None
        return data.tobytes()
