"""The bytes on the wire are those of golden.txt: a change of format must change that file too."""

from __future__ import annotations

from pathlib import Path

from tests.whitebox import ffi, lib

GOLDEN = {
    name: bytes.fromhex(text)
    for name, text in (
        line.split(": ", 1)
        for line in Path(__file__).with_name("golden.txt").read_text().splitlines()
        if not line.startswith("#")
    )
}


def _classify(name: str) -> tuple[int, int, int]:
    kind, drop = ffi.new("int *"), ffi.new("int *")
    rc = lib.wb_env_classify(GOLDEN[name], len(GOLDEN[name]), kind, drop)
    return rc, kind[0], drop[0]


def test_a_data_header_is_read_and_written() -> None:
    env, out = ffi.new("zr_env *"), ffi.new("uint8_t[16]")
    assert _classify("data")[:2] == (0, 0x0B)
    lib.zr_env_parse(env, GOLDEN["data"])
    assert (env.lane, env.epoch, env.receiver, env.counter) == (5, 2, 0x12345681, 0x0102030405060708)
    lib.zr_env_put(out, env)
    assert bytes(out) == GOLDEN["data"][:16]


def test_the_other_datagrams_are_told_apart() -> None:
    assert _classify("hello")[:2] == (0, 0x08)
    assert _classify("version2")[2] == lib.ZR_DROP_version
    assert _classify("short")[2] == lib.ZR_DROP_short


def test_a_media_header_is_read_and_written() -> None:
    media, out = ffi.new("zr_media *"), ffi.new("uint8_t[16]")
    assert lib.zr_media_parse(media, GOLDEN["media"], 16) == 0
    assert (media.flags, media.track, media.hops, media.cls, media.spatial, media.temporal) == (7, 1, 3, 1, 1, 2)
    assert (media.number, media.hop_us, media.age_us) == (0xFFFF0000, 0x01020304, 16)
    lib.zr_media_put(out, media)
    assert bytes(out) == GOLDEN["media"]


def test_rtp_and_rtcp_are_read() -> None:
    rtp, drop = ffi.new("zr_rtp *"), ffi.new("int *")
    for name, offset in (("rtp", 12), ("rtp_ext", 20)):
        assert lib.wb_rtp_parse(rtp, GOLDEN[name], len(GOLDEN[name]), drop) == 0
        assert (rtp.payload_type, rtp.seq, rtp.timestamp, rtp.ssrc) == (96, 0x1234, 1, 0x0A0B0C0D)
        assert (rtp.payload_off, rtp.payload_len) == (offset, 2)
    assert lib.wb_rtp_parse(rtp, GOLDEN["rtp_pad"], len(GOLDEN["rtp_pad"]), drop) < 0
    assert drop[0] == lib.ZR_DROP_rtp_pad
    assert lib.zr_rtcp_check(GOLDEN["rr_pli"], len(GOLDEN["rr_pli"])) == 0
