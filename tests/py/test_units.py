"""Quantities and addresses as people write them, and as they must not be written."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay import units
from relay.units import Address


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("15s", 15 * 10**9),
        ("20ms", 20 * 10**6),
        ("50us", 50_000),
        ("2m", 120 * 10**9),
        ("1.5h", 5400 * 10**9),
        ("0", 0),
    ],
)
def test_durations_are_read(text, ns):
    assert units.parse_duration_ns(text) == ns


@pytest.mark.parametrize(
    "text", ["5", "5 m", "-1s", "1e9s", "", "s", "1.s", "٣s", "1S", "0.5ns", "9" * 30 + "s", "1s\n"]
)
def test_a_duration_that_leaves_room_for_doubt_is_refused(text):
    with pytest.raises(ValueError):
        units.parse_duration_ns(text)


@pytest.mark.parametrize(("text", "size"), [("16MiB", 16 << 20), ("64KiB", 65536), ("2048B", 2048), ("0", 0)])
def test_sizes_are_read(text, size):
    assert units.parse_size_bytes(text) == size


@pytest.mark.parametrize(("text", "rate"), [("9Gbit/s", 9 * 10**9), ("2.6Mbit/s", 2_600_000), ("800kbit/s", 800_000)])
def test_rates_are_read(text, rate):
    assert units.parse_rate_bps(text) == rate


@pytest.mark.parametrize(("text", "share"), [("5%", 0.05), ("0.05", 0.05), ("0", 0.0), ("100%", 1.0), ("0.1%", 0.001)])
def test_fractions_are_read(text, share):
    assert units.parse_fraction(text) == share


@pytest.mark.parametrize("text", ["5", "101%", "-1%", "1.01", "", "%", "5 %"])
def test_what_is_no_fraction_is_refused(text):
    with pytest.raises(ValueError):
        units.parse_fraction(text)


@given(st.integers(0, 10**15))
def test_what_is_written_is_read_back(value):
    assert units.parse_duration_ns(units.format_duration_ns(value)) == value
    assert units.parse_size_bytes(units.format_size_bytes(value)) == value
    assert units.parse_rate_bps(units.format_rate_bps(value)) == value


@given(st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)), st.integers(1, 65535))
def test_an_address_survives_text_and_bytes(ip, port):
    if ip.version == 6 and ip.ipv4_mapped is not None:
        return
    address = Address(str(ip), port)
    assert Address.parse(str(address)) == address
    assert len(address.pack()) == 20
    assert Address.unpack(address.pack()) == address


def test_an_address_is_packed_as_the_core_reads_it():
    assert Address("127.0.0.1", 0x1234).pack() == b"\x7f\0\0\x01" + bytes(12) + b"\x34\x12\x04\x00"
    assert Address.unpack(bytes(20)) is None


@pytest.mark.parametrize(
    "text",
    ["::1:29900", "2001:db8::1", "[::1]", "[fe80::1%eth0]:1", "localhost:1", "127.0.0.1", "127.0.0.1:0",
     "127.0.0.1:65536", "127.0.0.1:-1",
     "127.1:1", "[127.0.0.1]:1", "[::ffff:127.0.0.1]:1", ":1", "", "127.0.0.1: 1", "127.0.0.1:٣"],
)  # fmt: skip
def test_what_is_no_address_is_refused(text):
    with pytest.raises(ValueError):
        Address.parse(text)


def test_lanes_are_shifted_ports():
    assert Address("::1", 29900).shifted(1) == Address("::1", 29901)
    with pytest.raises(ValueError):
        Address("::1", 65535).shifted(1)
