"""The SDP file (RFC 8866) with which ffmpeg, VLC or GStreamer open one subscriber's tracks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from relay.tracks import CODECS, Track
from relay.units import Address

# What a player needs when the publisher gave no fmtp. H.264: FFmpeg and GStreamer fragment and aggregate, and mode 0,
# the default of RFC 6184, forbids both.
_FMTP_DEFAULT = {"h264": "packetization-mode=1"}
_MEDIA = {"audio": "audio", "video": "video", "data": "application"}


def sdp(stream_id: str, tracks: Sequence[Track], addresses: Mapping[str, Address] | Address, origin_ip: str) -> str:
    """The description of `tracks` as they arrive at a subscriber, lines ended by CRLF.

    `addresses` is where each track id is sent, or one address for all of them: then all share one port, which players
    tell apart by payload type. A track without an address is left out. `origin_ip` is the relay's; `stream_id` becomes
    the session's name. Values with line breaks raise ValueError: they would add lines of their own.
    """
    lines = [
        "v=0",
        f"o=- 0 0 IN {_family(origin_ip)} {origin_ip}",
        f"s={stream_id}",
        "t=0 0",
    ]
    for track in tracks:
        address = addresses if isinstance(addresses, Address) else addresses.get(track.id)
        if address is not None:
            lines += _media(track, address)
    for line in lines:
        if "\r" in line or "\n" in line or "\0" in line:
            raise ValueError(f"{line!r} has a line break")
    return "".join(f"{line}\r\n" for line in lines)


def _media(track: Track, address: Address) -> list[str]:
    payload_type = track.payload_type
    name = CODECS.get(track.codec, track.codec)
    channels = track.channels
    if track.codec == "opus":
        channels = 2  # RFC 7587 7: always 48000/2 here, whatever the stream holds
    rtpmap = f"{name}/{track.clock_rate}"
    if track.kind == "audio" and channels is not None and channels > 1:
        rtpmap += f"/{channels}"

    lines = [
        f"m={_MEDIA[track.kind]} {address.port} RTP/AVP {payload_type}",
        f"c=IN {_family(address.ip)} {address.ip}",
        f"a=rtpmap:{payload_type} {rtpmap}",
    ]
    fmtp = track.fmtp or _FMTP_DEFAULT.get(track.codec)
    if fmtp:
        lines.append(f"a=fmtp:{payload_type} {fmtp}")
    if track.ssrc is not None:
        lines.append(f"a=ssrc:{track.ssrc} cname:{track.id}")
    return [*lines, "a=rtcp-mux", "a=recvonly"]


def _family(ip: str) -> str:
    return "IP6" if ":" in ip else "IP4"
