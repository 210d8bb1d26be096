"""The RTP and media parsers against a few lines of Python that know the formats."""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from tests.whitebox import ffi, lib


def _rtp_verdict(data: bytes) -> tuple[int, int] | int:
    """(payload offset, length), or the drop it must get."""
    if len(data) < 12:
        return int(lib.ZR_DROP_rtp_short)
    if data[0] >> 6 != 2:
        return int(lib.ZR_DROP_rtp_version)
    start, end = 12 + 4 * (data[0] & 15), len(data)
    if start > end:
        return int(lib.ZR_DROP_rtp_csrc)
    if data[0] & 16:
        extension = data[start : start + 4]
        if len(extension) < 4:
            return int(lib.ZR_DROP_rtp_ext)
        start += 4 + 4 * int.from_bytes(extension[2:], "big")
        if start > end:
            return int(lib.ZR_DROP_rtp_ext)
    if data[0] & 32:
        end -= data[-1]
        if data[-1] == 0 or end < start:
            return int(lib.ZR_DROP_rtp_pad)
    return start, end - start


# Mostly version 2, short extensions and small paddings: else almost everything would fail at its first check.
_packets = st.builds(
    lambda first, rest, ext: bytes([first]) + rest[:14] + bytes([ext]) + rest[14:],
    st.integers(0x80, 0xBF) | st.integers(0, 255),
    st.binary(max_size=80),
    st.integers(0, 8),
)


@given(_packets)
def test_rtp_is_measured_as_the_rfc_says(data: bytes) -> None:
    rtp, drop = ffi.new("zr_rtp *"), ffi.new("int *")
    rc = lib.wb_rtp_parse(rtp, data, len(data), drop)
    verdict = _rtp_verdict(data)
    assert ((rtp.payload_off, rtp.payload_len) if rc == 0 else drop[0]) == verdict


@given(st.binary(min_size=16, max_size=16))
def test_a_media_header_survives_but_for_its_class(data: bytes) -> None:
    media, out = ffi.new("zr_media *"), ffi.new("uint8_t[16]")
    assert lib.zr_media_parse(media, data, 16) == 0
    lib.zr_media_put(out, media)
    want = bytearray(data)
    want[2] = data[2] & 0xF0 | min(data[2] & 15, 6)
    assert bytes(out) == bytes(want)
    assert struct.unpack("<III", data[4:]) == (media.number, media.hop_us, media.age_us)
