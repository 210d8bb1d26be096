"""What a publisher or a subscriber may ask for; every refusal is a 422 that names the field."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import NoReturn

from relay.errors import Problem
from relay.names import name_error
from relay.requests import PublishRequest, SubscribeRequest
from relay.tracks import Track
from relay.units import Address

TRACKS_MAX = 16
SOURCES_MAX = 16
FMTP_BYTES_MAX = 1024  # a list of tracks travels in one control message
EPOCH_MAX = (1 << 63) - 1
RTCP_TYPES = range(72, 77)


def _refuse(code: str, title: str, detail: str, field: str) -> NoReturn:
    raise Problem(422, code, title, detail, field=field)


def tracks_error(tracks: Sequence[Track]) -> tuple[str, str] | None:
    """(field, why) of the first thing wrong with a track list, or None."""
    if not 1 <= len(tracks) <= TRACKS_MAX:
        return "tracks", f"{len(tracks)} tracks: a stream has 1 to {TRACKS_MAX}"
    for number, track in enumerate(tracks):
        where = f"tracks[{number}]"
        wrong = name_error(track.id)
        if wrong is not None:
            return f"{where}.id", wrong
        if any(other.id == track.id for other in tracks[:number]):
            return f"{where}.id", f"{track.id!r} is there twice"
        if not 0 <= track.payload_type <= 127 or track.payload_type in RTCP_TYPES:
            return f"{where}.payload_type", f"{track.payload_type}: 0 to 127 without 72-76, which are RTCP's"
        if any(other.payload_type == track.payload_type for other in tracks[:number]):
            return f"{where}.payload_type", f"{track.payload_type} is there twice: tracks are told apart by it"
        if not 1 <= track.clock_rate <= 0xFFFFFFFF:
            return f"{where}.clock_rate", f"{track.clock_rate} Hz"
        if track.ssrc is not None and not 0 <= track.ssrc <= 0xFFFFFFFF:
            return f"{where}.ssrc", f"{track.ssrc} is no 32-bit number"
        if track.channels is not None and not 1 <= track.channels <= 255:
            return f"{where}.channels", f"{track.channels} channels"
        if len((track.fmtp or "").encode()) > FMTP_BYTES_MAX:
            return f"{where}.fmtp", f"more than {FMTP_BYTES_MAX} bytes"
        if any(ord(char) < 32 for char in (track.fmtp or "") + track.codec) or len(track.codec) > 32:
            return f"{where}.codec", "control characters, or a codec of more than 32 characters"
    return None


def check_publish(body: PublishRequest, ingress_ip: str, ports: tuple[int, int]) -> tuple[Address, ...]:
    """The addresses that may send; empty for "learn". `ports`: first and last of [ingress] ports. Raises 422."""
    if not 0 <= body.epoch <= EPOCH_MAX:
        _refuse("range", "Epoch out of range", f"{body.epoch}", "epoch")
    wrong = tracks_error(body.tracks)
    if wrong is not None:
        _refuse("track", "Not a track list", wrong[1], wrong[0])
    port, (low, high) = body.ingress.port, ports
    if port != 0 and not low <= port <= high:
        _refuse("range", "Port out of range", f"{port}: [ingress] ports are {low}-{high}, 0 takes any", "ingress.port")
    source = body.ingress.source
    if source == "learn":
        if not ip_address(ingress_ip).is_loopback:
            _refuse("source", "A source is required", '"learn" works on a loopback ingress only', "ingress.source")
        return ()
    if not 1 <= len(source) <= SOURCES_MAX:
        _refuse("source", "Not a list of sources", f'1 to {SOURCES_MAX} addresses, or "learn"', "ingress.source")
    return tuple(_address(text, f"ingress.source[{number}]") for number, text in enumerate(source))


def check_subscribe(
    body: SubscribeRequest, tracks: Sequence[Track], allow: Sequence[IPv4Network | IPv6Network]
) -> tuple[Address | None, dict[str, Address]]:
    """The address for all tracks, and those by track id. `tracks` is empty while they are not known. Raises 422."""
    if (body.address is None) == (body.addresses is None):
        _refuse("address", "Where to?", "give either `address` or `addresses`", "address")
    if body.max_layer is not None and not 0 <= body.max_layer <= 15:
        _refuse("range", "Layer out of range", "0 to 15", "max_layer")
    known = {track.id for track in tracks}
    for field, named in (("tracks", body.tracks), ("addresses", body.addresses)):
        if named is not None and not named:
            _refuse("track", "No track is named", "an empty list sends nothing", field)
        for track_id in named or ():
            if known and track_id not in known:
                _refuse("track", "No such track", f"{track_id[:40]!r}; there are {', '.join(sorted(known))}", field)
    default = None if body.address is None else _allowed(body.address, "address", allow)
    by_track = {id: _allowed(text, f"addresses.{id}", allow) for id, text in (body.addresses or {}).items()}
    return default, by_track


def _address(text: str, field: str) -> Address:
    try:
        address = Address.parse(text)
    except ValueError as error:
        _refuse("address", "Not an address", str(error), field)
    ip = ip_address(address.ip)
    if ip.is_unspecified or ip.is_multicast or ip.is_link_local or address.ip == "255.255.255.255":
        _refuse("address", "Not an address to send to or from", text[:60], field)
    return address


def _allowed(text: str, field: str, allow: Sequence[IPv4Network | IPv6Network]) -> Address:
    address = _address(text, field)
    ip = ip_address(address.ip)
    if not any(ip.version == net.version and ip in net for net in allow):
        nets = ", ".join(str(net) for net in allow)
        _refuse("address", "This address may not subscribe", f"{address} is not in [egress] allow: {nets}", field)
    return address
