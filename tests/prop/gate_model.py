"""The gate once more, from PROTOCOL.md §3, in Python: slow, without a fixed table, and with nothing of the core's.

Also the other end of it: handshake messages as a peer would make them, and cookie replies as a peer would open them.
"""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass, field
from hashlib import blake2s

from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

MS, SECOND = 10**6, 10**9
LENGTHS = {0x08: 180, 0x09: 116, 0x0A: 64}
QUEUED_MAX, BUSY_MAX = 128, 300
Source = tuple[bytes, int]  # IP address packed, port


def mac(key: bytes, data: bytes) -> bytes:
    return blake2s(data, key=key, digest_size=16).digest()


def mac_key(label: bytes, public: bytes, mesh: bytes) -> bytes:
    return blake2s(label + public + mesh).digest()


def message(kind: int, body: bytes, mac1_key: bytes, cookie: bytes | None = None) -> bytes:
    """A handshake message of type `kind` whose rest is `body`, cut or filled up, with its MACs."""
    head = (bytes([kind, 0, 0, 0]) + body).ljust(LENGTHS[kind], b"\5")[: LENGTHS[kind] - 32]
    first = head + mac(mac1_key, head)
    return first + (mac(cookie, first) if cookie else bytes(16))


def _rotl(word: int, by: int) -> int:
    return (word << by | word >> 32 - by) & 0xFFFFFFFF


def hchacha20(key: bytes, nonce: bytes) -> bytes:
    """draft-irtf-cfrg-xchacha-03 §2.2."""
    s = list(struct.unpack("<16I", b"expand 32-byte k" + key + nonce))
    columns = [(i, 4 + i, 8 + i, 12 + i) for i in range(4)]
    diagonals = [(i, 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4) for i in range(4)]
    for a, b, c, d in (columns + diagonals) * 10:
        for x, y, z, by in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
            s[x] = s[x] + s[y] & 0xFFFFFFFF
            s[z] = _rotl(s[z] ^ s[x], by)
    return struct.pack("<8I", *s[:4], *s[12:])


def open_reply(reply: bytes, answered: bytes, cookie_key: bytes) -> bytes:
    """The cookie in a reply to the message `answered`; InvalidTag when it is none."""
    nonce, sealed = reply[8:32], reply[32:]
    subkey = hchacha20(cookie_key, nonce[:16])
    return ChaCha20Poly1305(subkey).decrypt(bytes(4) + nonce[16:], sealed, answered[-32:-16])


@dataclass
class Bucket:
    """At most `burst` tokens, one more every `every` ns; counted in ns."""

    every: int
    burst: int
    level: int = field(init=False)
    then: int = 0

    def __post_init__(self) -> None:
        self.level = self.burst * self.every

    def filled(self, now: int) -> int:
        return min(self.burst * self.every, self.level + now - self.then)

    def take(self, now: int) -> bool:
        level = self.filled(now)
        if level < self.every:
            return False
        self.level, self.then = level - self.every, now
        return True


class Gate:
    """What zr_gate_input must answer: None (it passes) or the drop, and whether there is a reply."""

    def __init__(
        self, public: bytes, mesh: bytes, seed: bytes, former: bytes = bytes(32), former_until: int = 0
    ) -> None:
        self.mac1_key = mac_key(b"mac1----", public, mesh)
        self.cookie_key = mac_key(b"cookie--", public, mesh)
        self.former_mac1_key = mac_key(b"mac1----", former, mesh)
        self.former_cookie_key = mac_key(b"cookie--", former, mesh)
        self.former_until = former_until
        self.seed = seed
        self.queued = self.busy = self.loaded_until = 0
        self.everybody = {"hello": Bucket(MS, 64), "reply": Bucket(MS // 10, 64), "cookie": Bucket(MS, 64)}
        self.credit = 0  # hundredths of bytes
        self.unproven = Bucket(MS, 64)
        self.sources: dict[tuple[str, bytes], Bucket] = {}

    def cookie(self, source: Source, now: int, back: int = 0) -> bytes:
        ip, port = source
        secret = mac(self.seed, b"secret--" + struct.pack("<q", now // (120 * SECOND) - back))
        return mac(secret, ip.ljust(16, b"\0") + struct.pack("<HB", port, 4 if len(ip) == 4 else 6))

    def input(self, data: bytes, source: Source, now: int) -> tuple[str | None, bool]:
        kind = data[0]
        if len(data) != LENGTHS[kind]:
            return "length", False
        if kind == 0x0A:
            return (None if self._take("cookie", source, now) else "ratelimit"), False
        keys = [self.mac1_key, self.former_mac1_key][: 1 + (now < self.former_until)]
        if data[-32:-16] not in [mac(key, data[:-32]) for key in keys]:
            return "mac1", False
        if self.queued > QUEUED_MAX or self.busy > BUSY_MAX:
            self.loaded_until = now + SECOND
        if now < self.loaded_until:
            good = {mac(self.cookie(source, now, back), data[:-16]) for back in (0, 1)}
            if data[-16:] not in good:
                if not self.unproven.take(now):
                    self.loaded_until = now + SECOND
                return "mac2", self._reply(len(data), source, now)
        if self._take("hello", source, now):
            return None, False
        return "ratelimit", False

    def _reply(self, size: int, source: Source, now: int) -> bool:
        self.credit = min(self.credit + 45 * size, 2 * 6400)
        if self.credit < 6400 or not self._take("reply", source, now):
            return False
        self.credit -= 6400
        return True

    def _take(self, what: str, source: Source, now: int) -> bool:
        bucket = self.sources.setdefault((what, network(source)), Bucket(50 * MS, 5))
        if bucket.filled(now) < bucket.every:
            return False
        if not self.everybody[what].take(now):
            if what == "hello":
                self.loaded_until = now + SECOND
            return False
        return bucket.take(now)


def network(source: Source) -> bytes:
    """Who shares a bucket with this source."""
    ip, port = source
    if ipaddress.ip_address(ip).is_loopback:
        return ip + struct.pack("<H", port)
    return ip[:3] if len(ip) == 4 else ip[:8]
