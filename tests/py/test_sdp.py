"""What a player reads in the SDP file."""

import pytest

from relay.sdp import sdp
from relay.tracks import Track
from relay.units import Address

VIDEO = Track(id="v0", kind="video", codec="h264", payload_type=96, clock_rate=90000)
AUDIO = Track(id="a0", kind="audio", codec="opus", payload_type=97, clock_rate=48000, channels=1)


def test_each_track_is_described_at_its_own_address() -> None:
    text = sdp("room/1", [VIDEO, AUDIO], {"v0": Address("127.0.0.1", 5000), "a0": Address("::1", 5002)}, "127.0.0.1")
    assert text == (
        "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=room/1\r\nt=0 0\r\n"
        "m=video 5000 RTP/AVP 96\r\nc=IN IP4 127.0.0.1\r\na=rtpmap:96 H264/90000\r\n"
        "a=fmtp:96 packetization-mode=1\r\na=rtcp-mux\r\na=recvonly\r\n"
        "m=audio 5002 RTP/AVP 97\r\nc=IN IP6 ::1\r\na=rtpmap:97 opus/48000/2\r\na=rtcp-mux\r\na=recvonly\r\n"
    )


def test_one_address_serves_every_track() -> None:
    text = sdp("s", [VIDEO, AUDIO], Address("127.0.0.1", 5000), "127.0.0.1")
    assert text.count(" 5000 RTP/AVP ") == 2


def test_a_track_without_an_address_is_left_out() -> None:
    assert "m=audio" not in sdp("s", [VIDEO, AUDIO], {"v0": Address("127.0.0.1", 5000)}, "127.0.0.1")


def test_the_publishers_fmtp_goes_before_the_default() -> None:
    track = Track(id="v0", kind="video", codec="h264", payload_type=96, clock_rate=90000, fmtp="packetization-mode=0")
    text = sdp("s", [track], Address("127.0.0.1", 5000), "127.0.0.1")
    assert "a=fmtp:96 packetization-mode=0\r\n" in text
    assert "packetization-mode=1" not in text


def test_a_line_break_in_a_value_is_refused() -> None:
    track = Track(id="v0", kind="video", codec="h264", payload_type=96, clock_rate=90000, fmtp="x\r\na=tool:evil")
    with pytest.raises(ValueError, match="line break"):
        sdp("s", [track], Address("127.0.0.1", 5000), "127.0.0.1")
