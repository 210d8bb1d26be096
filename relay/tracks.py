"""What a stream is made of: its tracks, in the words of the API and of SDP."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

Kind = Literal["audio", "video", "data"]

CODECS: Final[dict[str, str]] = {
    "h264": "H264",
    "h265": "H265",
    "vp8": "VP8",
    "vp9": "VP9",
    "av1": "AV1",
    "opus": "opus",
    "aac": "MPEG4-GENERIC",
    "pcmu": "PCMU",
    "pcma": "PCMA",
}
"""Codec word -> encoding name of ``a=rtpmap`` (RFC 6184, 7798, 7741, 7587, 3640, 3551 ...). Any other word is legal
as a codec: the stream crosses the mesh untouched, but without key-frame detection, and SDP says the word itself."""


class Track(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One audio, video or data component of a stream, matched on the wire by its payload type.

    ``id`` is unique in the stream; ``payload_type`` is 0-127 without 72-76, which RFC 5761 leaves to RTCP;
    ``clock_rate`` is in Hz; ``fmtp`` is the text behind ``a=fmtp:PT ``; ``ssrc`` is known only to whoever says it.
    """

    id: str
    kind: Kind
    codec: str
    payload_type: int
    clock_rate: int
    channels: int | None = None
    fmtp: str | None = None
    ssrc: int | None = None
