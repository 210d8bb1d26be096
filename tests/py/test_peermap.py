"""The peer map: what is believed, what is refused, and that the last good one stays."""

from __future__ import annotations

import base64
import os
import random
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay import peermap
from relay.config import ConfigError
from relay.identity import encode_public
from relay.keys import Keyring, public_of
from relay.mapfile import MapFile
from relay.peermap import MAP_BYTES_MAX, MapError, PeerMap, sign, source_map, verify, version_of
from relay.peers import Peer, merged
from relay.secret import Secret
from relay.units import Address
from tests.py.badinput_cli import EX_CONFIG, refusal, zrelay

NOW = datetime(2026, 11, 21, tzinfo=UTC)
KEY, OTHER = Secret(bytes(range(32))), Secret(bytes(range(1, 33)))
PUBLIC = public_of("map", KEY)


def relay(number: int, **more: object) -> Peer:
    at = (Address("192.0.2.1", 1000 + number % 60000),)
    return Peer(**({"id": f"r{number}", "addresses": at, "public_key": (9000 + number).to_bytes(32, "little")} | more))  # type: ignore[arg-type]


def made(version: int = 5, *relays: Peer, expires: datetime | None = None, key: Secret = KEY) -> bytes:
    return sign(PeerMap(version, expires, relays or (relay(1), relay(2))), key)


def refused(data: bytes, word: str, least_version: int = 0) -> str:
    with pytest.raises(MapError) as error:
        verify(data, PUBLIC, NOW, least_version)
    assert error.value.word == word, error.value
    return str(error.value)


names = st.from_regex(r"[A-Za-z0-9._~-]{1,20}", fullmatch=True).filter(lambda text: text not in (".", ".."))
addresses = st.builds(Address, st.just("2001:db8::1"), st.integers(1, 65535))
prefixes = st.lists(st.text(max_size=20), max_size=4).map(tuple)
peers = st.builds(
    Peer,
    id=names,
    addresses=st.lists(addresses, min_size=1, max_size=8).map(tuple),
    pull=prefixes,
    publish=prefixes,
    public_key=st.binary(min_size=32, max_size=32).filter(any),
)  # fmt: skip
maps = st.builds(
    PeerMap,
    version=st.integers(1, 2**53),
    expires=st.none() | st.datetimes(min_value=datetime(2027, 1, 1), timezones=st.just(UTC)),
    relays=st.lists(
        peers, max_size=6, unique_by=(lambda peer: peer.id, lambda peer: peer.public_key)
    ).map(tuple),
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(maps)
def test_what_was_signed_is_what_is_read(peer_map: PeerMap) -> None:
    assert verify(sign(peer_map, KEY), PUBLIC, NOW) == peer_map


@cache
def one_map() -> bytes:
    return made()


def test_every_flipped_bit_is_refused() -> None:
    data = one_map()
    for bit in range(len(data) * 8):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(MapError) as error:
            verify(bytes(changed), PUBLIC, NOW)
        assert error.value.word in ("signature", "format")
        assert error.value.word == "signature" or bit // 8 < 102, "the text is not looked at before its signature"


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300), st.integers(0, 2**31))
def test_bytes_that_are_no_map_are_refused_in_words(data: bytes, seed: int) -> None:
    at = random.Random(seed).randrange(len(one_map()))
    for candidate in (
        data,
        one_map()[:at],
        one_map()[:at] + data + one_map()[at:] if data else b"",
        b"zrelay-map 1 " + data,
    ):
        with pytest.raises(MapError):
            verify(candidate, PUBLIC, NOW)


@pytest.mark.parametrize("case", ["C22 wrong key"])
def test_a_map_of_another_signer_is_refused(case: str) -> None:
    refused(made(key=OTHER), "signature")


@pytest.mark.parametrize("case", ["C22 unsigned"])
def test_a_map_without_a_signature_is_refused(case: str) -> None:
    head, _, text = made().partition(b"\n")
    refused(text, "format")
    refused(b"zrelay-map 1 \n" + text, "format")
    refused(b"zrelay-map 1 " + base64.b64encode(bytes(64)) + b"\n" + text, "signature")
    refused(head.replace(b"map 1", b"map 2") + b"\n" + text, "format")


@pytest.mark.parametrize("case", ["C22 older"])
def test_an_older_map_is_refused_although_it_is_signed(case: str) -> None:
    assert verify(made(5), PUBLIC, NOW, 5).version == 5
    assert refused(made(4), "version", 5) == "version 4 is older than 5, which is in use"


@pytest.mark.parametrize("case", ["C22 expired"])
def test_an_expired_map_is_refused(case: str) -> None:
    assert verify(made(expires=NOW + timedelta(seconds=1)), PUBLIC, NOW).version == 5
    refused(made(expires=NOW), "expired")


@pytest.mark.parametrize("case", ["C22 1 MiB", "T29 10 MiB"])
def test_a_map_longer_than_a_mebibyte_is_refused_before_anything_else(case: str) -> None:
    refused(made() + bytes(MAP_BYTES_MAX if case.startswith("C22") else 10 << 20), "limit")


def test_a_thousand_relays_fit_and_the_limits_hold_for_signer_and_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(verify(made(1, *(relay(n) for n in range(1, 1025))), PUBLIC, NOW).relays) == 1024
    beyond = [
        [relay(n) for n in range(1, 1026)],
        [relay(1, addresses=())],
        [relay(1, addresses=(Address("192.0.2.1", 1),) * 9)],
        [relay(1, pull=("p",) * 65)],
        [relay(1, publish=("p" * 129,))],
    ]
    for relays in beyond:
        with pytest.raises(MapError) as error:
            made(1, *relays)
        assert error.value.word == "limit"
        with monkeypatch.context() as patch:  # a signer that knows no limits
            patch.setattr(peermap, "_checked", lambda peer_map: peer_map)
            data = made(1, *relays)
        refused(data, "limit")


def test_a_relay_or_a_key_is_listed_once() -> None:
    for twice in ([relay(1), relay(1)], [relay(1), relay(2, public_key=relay(1).public_key)]):
        with pytest.raises(MapError, match=r"listed twice|public key of another"):
            made(1, *twice)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"id"', b'"if"'),
        (b'"version": 5', b'"version": -5'),
        (b'"version": 5', b'"version": 1e999'),
        (b'"version": 5', b'"version": "5"'),
        (b"192.0.2.1", b"localhost"),
        (b'"r1"', b'"r\\n1"'),
        (b'"r1"', b'"../r1"'),
        (b'"pull"', b'"rate": 5, "pull"'),
        (b'"relays": [', b'"relays": [' + b"[" * 5000),
    ],
)
def test_signed_nonsense_is_refused_all_the_same(old: bytes, new: bytes) -> None:
    text = made().partition(b"\n")[2]
    assert old in text
    text = text.replace(old, new, 1)
    key = peermap.Ed25519PrivateKey.from_private_bytes(KEY.reveal())
    refused(b"zrelay-map 1 " + base64.b64encode(key.sign(b"zrelay peer map 1\n" + text)) + b"\n" + text, "format")


# -- the file -----------------------------------------------------------------------------------------------------


class Said(list[tuple[str, str, dict[str, object]]]):
    def __call__(self, level: str, event: str, **fields: object) -> None:
        self.append((level, event, fields))

    def errors(self) -> list[object]:
        found = [fields.get("reason") for level, _, fields in self if level == "error"]
        self.clear()
        return found


@pytest.fixture
def said() -> Said:
    return Said()


def watch(folder: Path, said: Said) -> MapFile:
    return MapFile(str(folder / "peers.map"), PUBLIC, str(folder / "kept.map"), said)


def put(folder: Path, data: bytes) -> None:
    (folder / "new").write_bytes(data)
    os.replace(folder / "new", folder / "peers.map")


def version(watched: MapFile) -> int:
    return watched.current.version if watched.current is not None else 0


def test_a_newer_map_is_taken_and_whatever_else_comes_the_last_good_one_stays(tmp_path: Path, said: Said) -> None:
    put(tmp_path, made(5))
    watched = watch(tmp_path, said)
    watched.start(NOW)
    assert (version(watched), said.errors()) == (5, [])
    assert not watched.look(NOW)
    put(tmp_path, made(6))
    assert watched.look(NOW)
    for number, (data, word) in enumerate([
        (made(5), "version"),
        (made(6, relay(3)), "version"),
        (made(7, key=OTHER), "signature"),
        (made(7)[:-2] + b"!\n", "signature"),
        (made(7, expires=NOW - timedelta(1)), "expired"),
        (bytes(MAP_BYTES_MAX + 1), "limit"),
        (b"", "format"),
    ], 1):  # fmt: skip
        put(tmp_path, data)
        assert not watched.look(NOW)
        assert not watched.look(NOW)  # said once, not once a second
        assert (version(watched), said.errors(), watched.refused) == (6, [word], number)
    (tmp_path / "peers.map").unlink()
    assert not watched.look(NOW)
    assert not watched.look(NOW)
    assert (version(watched), said.errors()) == (6, ["missing"])
    put(tmp_path, made(7))
    assert watched.look(NOW)
    assert (version(watched), said.errors()) == (7, [])


def test_the_next_agent_begins_with_the_kept_map_and_refuses_an_older_file(tmp_path: Path, said: Said) -> None:
    put(tmp_path, made(6, expires=NOW + timedelta(1)))
    watch(tmp_path, said).start(NOW)
    put(tmp_path, made(5))
    later = watch(tmp_path, said)
    later.start(NOW + timedelta(2))  # the kept map does not expire; that it would have is said
    assert version(later) == 6
    later.look(NOW + timedelta(2))
    assert [event for level, event, _ in said if level == "error"] == ["peer map expired", "peer map refused"]
    assert (tmp_path / "kept.map").stat().st_mode & 0o777 == 0o600


def test_a_damaged_kept_map_is_ignored(tmp_path: Path, said: Said) -> None:
    put(tmp_path, made(5))
    (tmp_path / "kept.map").write_bytes(made(9)[:-1])
    watched = watch(tmp_path, said)
    watched.start(NOW)
    assert version(watched) == 5
    assert [event for _, event, _ in said] == ["kept peer map ignored", "peer map"]


def test_a_map_that_was_never_there_is_said_once(tmp_path: Path, said: Said) -> None:
    watched = watch(tmp_path, said)
    watched.start(NOW)
    watched.look(NOW)
    assert (version(watched), said.errors()) == (0, ["missing"])
    assert not watched.look(NOW, again=True)  # asked for by SIGHUP: said again
    assert said.errors() == ["missing"]


# -- the file and the configuration together ------------------------------------------------------------------------


def test_the_configuration_file_wins_over_the_map() -> None:
    listed = [relay(1, pull=("live/",))]
    found, odd = merged(
        listed,
        [relay(1), relay(2), relay(9, id="us"), relay(3, public_key=relay(1).public_key)],
        "us",
        relay(9).public_key,
    )
    assert found == [*listed, relay(2)]
    assert len(odd) == 2
    _, odd = merged([], [relay(9, id="us")], "us", relay(8).public_key)
    assert "another public key for this relay" in odd[0]


# -- the command ----------------------------------------------------------------------------------------------------

SOURCE = """
expires = 2036-01-01T00:00:00Z
[[relays]]
id = "gz-1"
addresses = ["192.0.2.20:29900", "[2001:db8::1]:29900"]
public_key = "{key}"
rights = {{ publish = ["live/"], pull = [] }}
"""


def test_a_map_is_signed_by_the_command_and_its_version_rises(tmp_path: Path) -> None:
    ring = Keyring(str(tmp_path / "ring"))
    public = public_of("map", ring.make("map"))
    source, out = tmp_path / "peers.toml", tmp_path / "peers.map"
    source.write_text(SOURCE.format(key=encode_public(b"k" * 32)))
    sign_it = ("keys", "sign-map", str(source), "-o", str(out), "-k", ring.path)
    assert zrelay(*sign_it).returncode == 0
    first = verify(out.read_bytes(), public, NOW)
    assert first.relays == (
        Peer("gz-1", (Address("192.0.2.20", 29900), Address("2001:db8::1", 29900)), (), ("live/",), b"k" * 32),
    )
    assert first.expires == datetime(2036, 1, 1, tzinfo=UTC)
    assert zrelay(*sign_it, "--map-version", str(first.version + 100)).returncode == 0
    assert zrelay(*sign_it).returncode == 0
    assert version_of(str(out)) == first.version + 101


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("public_key", "pubilc_key"), "unknown key 'pubilc_key' in [[relays]] (did you mean 'public_key'?)"),
        (("public_key", "#"), "relay 'gz-1' has no public_key: `zrelay keys show` there prints it"),
        (("192.0.2.20", "gz-1.example"), "host names are not looked up"),
        (('"gz-1"', '"g z"'), "id: "),
    ],
)
def test_a_source_that_is_wrong_is_refused_and_the_map_stays(
    tmp_path: Path, change: tuple[str, str], said: str
) -> None:
    ring = Keyring(str(tmp_path / "ring"))
    ring.make("map")
    source, out = tmp_path / "peers.toml", tmp_path / "peers.map"
    source.write_text(SOURCE.format(key=encode_public(b"k" * 32)).replace(*change))
    out.write_bytes(made())
    line = refusal(zrelay("keys", "sign-map", str(source), "-o", str(out), "-k", ring.path), EX_CONFIG)
    assert line.startswith(str(source))
    assert said in line
    assert out.read_bytes() == made()


def test_a_source_is_as_strict_as_a_configuration_file(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text("[[relays]]\nid = 'a'\n")
    with pytest.raises(ConfigError, match="needs 'addresses'"):
        source_map(str(tmp_path / "x.toml"), 1)
