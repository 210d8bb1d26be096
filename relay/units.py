"""Times, sizes, rates, fractions and addresses as people write them.

    "20ms" -> 20_000_000 ns     "16MiB" -> 16_777_216 bytes     "9Gbit/s" -> 9_000_000_000 bit/s     "5%" -> 0.05

A number without its unit is refused (except "0"), so that nobody has to guess. Every parser raises ValueError with a
sentence that shows a right example.
"""

from __future__ import annotations

import re
import struct
from decimal import Decimal
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import NamedTuple

NS_PER_S = 1_000_000_000
_DURATION_NS = {"ns": 1, "us": 1_000, "ms": 1_000_000, "s": NS_PER_S, "m": 60 * NS_PER_S, "h": 3600 * NS_PER_S}
_DURATION_NS_MAX = 366 * 24 * 3600 * NS_PER_S
_SIZE_BYTES = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
_RATE_BPS = {"bit/s": 1, "kbit/s": 10**3, "Mbit/s": 10**6, "Gbit/s": 10**9, "Tbit/s": 10**12}
_UINT64_MAX = (1 << 64) - 1

# ASCII digits on purpose: \d would take any script's. No sign, no exponent, no blank.
_QUANTITY = re.compile(r"([0-9]{1,20}(?:\.[0-9]{1,12})?)([A-Za-z/]*)")


def _parse(text: str, units: dict[str, int], what: str, example: str, most: int) -> int:
    match = _QUANTITY.fullmatch(text)
    known = ", ".join(units)
    if match is None:
        raise ValueError(f"{text!r} is not {what}: write a number and its unit without a blank, like {example!r}")
    number, unit = match.groups()
    if unit == "" and Decimal(number) == 0:
        return 0
    if unit == "":
        raise ValueError(f"{text!r} has no unit: write {example!r} (units: {known})")
    if unit not in units:
        raise ValueError(f"{text!r} has an unknown unit {unit!r} (units: {known})")
    value = Decimal(number) * units[unit]
    if value > most:
        raise ValueError(f"{text!r} is too large for {what}")
    if value != value.to_integral_value():
        raise ValueError(f"{text!r} is finer than {what} can be")
    return int(value)


def _format(value: int, units: dict[str, int]) -> str:
    """The largest unit in which `value` is whole."""
    if value < 0:
        raise ValueError(f"{value} is negative")
    best = next(iter(units))
    for unit, size in units.items():
        if value and value % size == 0:
            best = unit
    return f"{value // units[best]}{best}"


def parse_duration_ns(text: str) -> int:
    """ "15s", "20ms", "50us", "2m", "1.5h" or "0" in ns; at most 366 days."""
    return _parse(text, _DURATION_NS, "a duration", "20ms", _DURATION_NS_MAX)


def format_duration_ns(value: int) -> str:
    """20_000_000 -> "20ms": what `parse_duration_ns` reads back as the same value."""
    return _format(value, _DURATION_NS)


def parse_size_bytes(text: str) -> int:
    """ "16MiB", "64KiB", "2048B" or "0" in bytes."""
    return _parse(text, _SIZE_BYTES, "a size", "16MiB", _UINT64_MAX)


def format_size_bytes(value: int) -> str:
    """16_777_216 -> "16MiB"."""
    return _format(value, _SIZE_BYTES)


def parse_rate_bps(text: str) -> int:
    """ "9Gbit/s", "2.6Mbit/s", "800kbit/s" or "0" in bits per second."""
    return _parse(text, _RATE_BPS, "a rate", "9Gbit/s", _UINT64_MAX)


def format_rate_bps(value: int) -> str:
    """9_000_000_000 -> "9Gbit/s"."""
    return _format(value, _RATE_BPS)


def parse_fraction(text: str) -> float:
    """ "5%" or "0.05": a share between 0 and 1."""
    match = re.fullmatch(r"([0-9]{1,3}(?:\.[0-9]{1,12})?)(%?)", text)
    if match is None:
        raise ValueError(f"{text!r} is not a fraction: write '5%' or '0.05'")
    value = Decimal(match[1]) / (100 if match[2] else 1)
    if value > 1:
        raise ValueError(f"{text!r} is more than the whole: fractions are 0 to 1, or 0% to 100%")
    return float(value)


def format_fraction(value: float) -> str:
    """0.05 -> "5%"."""
    return f"{(Decimal(repr(value)) * 100).normalize():f}%"


_ADDR = struct.Struct("<16sHBB")  # struct zr_addr of csrc/base/zr_addr.h


class Address(NamedTuple):
    """An IP address and a UDP port, in the one spelling of its kind: "127.0.0.1:29900", "[::1]:29900"."""

    ip: str
    port: int

    @classmethod
    def parse(cls, text: str, *, port_min: int = 1) -> Address:
        """No host names (nothing on the data path asks DNS), no zone ids, IPv6 in brackets; else ValueError."""
        if text.startswith("["):
            host, found, port = text[1:].partition("]:")
            if not found:
                raise ValueError(f"{text!r} is not an address: write IPv6 as '[2001:db8::1]:29900'")
            version = 6
        else:
            host, found, port = text.rpartition(":")
            if ":" in host:
                raise ValueError(f"{text!r} is not an address: write IPv6 in brackets, as '[2001:db8::1]:29900'")
            if not found:
                raise ValueError(f"{text!r} has no port: write '127.0.0.1:29900'")
            version = 4
        ip = parse_ip(host)
        if (":" in ip) != (version == 6):
            raise ValueError(f"{text!r}: only IPv6 stands in brackets")
        if re.fullmatch(r"[0-9]{1,5}", port) is None or not port_min <= int(port) <= 65535:
            raise ValueError(f"{text!r}: port {port!r} is not a number from {port_min} to 65535")
        return cls(ip, int(port))

    @classmethod
    def unpack(cls, data: bytes) -> Address | None:
        """From struct zr_addr (20 bytes); None when its family says "none"."""
        ip, port, family, _ = _ADDR.unpack(data)
        if family == 0:
            return None
        if family == 4:
            return cls(str(IPv4Address(ip[:4])), port)
        if family == 6:
            return cls(str(IPv6Address(ip)), port)
        raise ValueError(f"address family {family}")

    def pack(self) -> bytes:
        """struct zr_addr, 20 bytes."""
        ip = ip_address(self.ip)
        return _ADDR.pack(ip.packed, self.port, ip.version, 0)

    def shifted(self, by: int) -> Address:
        """The same IP with the port moved: worker i of a relay is its agent's address shifted by 1 + i."""
        port = self.port + by
        if not 0 < port <= 65535:
            raise ValueError(f"{self} moved by {by} leaves the port range")
        return Address(self.ip, port)

    @property
    def is_loopback(self) -> bool:
        return ip_address(self.ip).is_loopback

    def __str__(self) -> str:
        return f"[{self.ip}]:{self.port}" if ":" in self.ip else f"{self.ip}:{self.port}"


def parse_ip(text: str) -> str:
    """An IPv4 or IPv6 address in its canonical spelling. No names, no zone ids, no IPv4 inside IPv6."""
    if "%" in text:
        raise ValueError(f"{text!r} has a zone id: link-local addresses are not taken")
    try:
        ip = ip_address(text)
    except ValueError:
        raise ValueError(f"{text!r} is not an IP address: host names are not looked up") from None
    if isinstance(ip, IPv6Address) and ip.ipv4_mapped is not None:
        raise ValueError(f"{text!r}: write the IPv4 address itself, '{ip.ipv4_mapped}'")
    return str(ip)
