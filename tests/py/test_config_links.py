"""[security] and [[peers]]: links are sealed, or plaintext on loopback because the file says so."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from relay.config import ConfigError, check, effective, loads
from relay.identity import encode_public
from relay.keys import Keyring, public_of
from relay.peermap import PeerMap, sign
from relay.peers import Peer
from relay.roster import examine
from relay.sockets import StartError
from relay.units import Address
from tests.py.badinput_cli import EX_CONFIG, EX_PERMISSION, refusal, zrelay

A, B = encode_public(b"a" * 32), encode_public(b"b" * 32)
SECURITY = '[security]\nkeyring = "{ring}"\n'
RING = SECURITY.format(ring="/k")
PEER = '[[peers]]\nid = "{id}"\naddresses = ["192.0.2.1:29900"]\npublic_key = "{key}"\n'
FAR = PEER.format(id="x", key=A)
NO_KEY = PEER.format(id="x", key="")
NOW = datetime(2026, 11, 21, tzinfo=UTC)


def refused(text: str) -> str:
    with pytest.raises(ConfigError) as error:
        loads(text, "f.toml", {})
    assert error.value.exit_code == EX_CONFIG
    return str(error.value)


def test_peers_anywhere_need_keys_and_nothing_else() -> None:
    text = RING + '[listen]\ndata = "0.0.0.0:29900"\n' + FAR
    config = loads(text, "f.toml", {})
    assert config.peers[0].key == b"a" * 32
    assert check(config) == []
    assert effective(config)["peers"][0]["public_key"] == A


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (FAR, "f.toml:3:1: 192.0.2.1:29900 is not loopback: links there are sealed: `zrelay keys"),
        (FAR.replace("192.0.2.1", "127.0.0.1"), "f.toml:2:1: peers need keys: `zrelay keys gen`"),
        (RING + NO_KEY, "f.toml:4:1: peer 'x' has no public_key: `zrelay keys show`"),
        (PEER.format(id="x", key="AAAA"), "f.toml:4:1: public_key: 'AAAA' holds 3 bytes"),
        (PEER.format(id="x", key="?" * 44), "is not base64"),
        (PEER.format(id="x", key=encode_public(bytes(32))), "a point of low order is no public key"),
        (RING + FAR + PEER.format(id="y", key=A), "two peers with one public key"),
        (RING + 2 * FAR, "peer 'x' is listed twice"),
        ('[security]\npeer_map = "/m"\n', "a peer map needs keys"),
        (RING + 'peer_map = "/m"\n', "f.toml:3:1: peer_map needs peer_map_key"),
        ('[security]\npeer_map = "/m"\ninsecure_plaintext = true\n', "insecure_plaintext excludes it"),
        ('[listen]\ndata = "0.0.0.0:29900"\n', "0.0.0.0:29900 is not loopback"),
    ],
    ids=[
        "far", "near", "no key", "C11 short", "C11 no base64", "C11 zeros", "C12 key", "C12 id", "map", "map key",
        "map plain", "data",
    ],
)  # fmt: skip
def test_what_is_missing_is_said_with_the_command_that_makes_it(text: str, said: str) -> None:
    assert said in refused(text)


@pytest.mark.parametrize("place", ["listen", "peers"], ids=lambda place: f"C18 T50 {place}")
@pytest.mark.parametrize("keys", ["", 'keyring = "/k"\n'], ids=["", "with keys"])
def test_plaintext_is_refused_off_loopback_whatever_else_is_set(place: str, keys: str) -> None:
    text = f"[security]\ninsecure_plaintext = true\n{keys}"
    text += '[listen]\ndata = "192.0.2.1:29900"\n' if place == "listen" else FAR
    assert "is not loopback" in refused(text)


def test_plaintext_on_loopback_is_a_warning() -> None:
    text = "[security]\ninsecure_plaintext = true\n" + NO_KEY.replace("192.0.2.1", "127.0.0.1")
    assert [finding.level for finding in check(loads(text, "f.toml", {}))] == ["warning"]


def test_an_upstream_may_come_with_the_peer_map() -> None:
    text = RING + f'peer_map = "/m"\npeer_map_key = "{B}"\n[[upstreams]]\npeer = "gz-1"\n'
    assert loads(text, "f.toml", {}).security.map_key == b"b" * 32


# -- check and run, with the files ----------------------------------------------------------------------------------


@pytest.fixture
def ring(tmp_path: Path) -> Keyring:
    found = Keyring(str(tmp_path / "keyring"))
    found.make("identity")
    found.make("mesh")
    return found


def write(folder: Path, text: str) -> str:
    (folder / "relay.toml").write_text(f'[node]\nruntime_dir = "{folder / "run"}"\nstate_dir = "{folder}"\n' + text)
    return str(folder / "relay.toml")


@pytest.mark.parametrize("verb", ["check", "run"])
@pytest.mark.parametrize(
    ("spoil", "code", "said"),
    [
        (lambda ring: os.chmod(f"{ring}/identity", 0o644), EX_PERMISSION, "by others (mode 644): chmod 600 "),
        (lambda ring: os.chmod(ring, 0o777), EX_PERMISSION, "may be written by others (mode 777): chmod 700 "),
        (lambda ring: os.unlink(f"{ring}/mesh"), EX_CONFIG, "zrelay keys gen mesh --keyring "),
        (lambda ring: os.rename(ring, f"{ring}2"), EX_CONFIG, "no such keyring: zrelay keys gen identity --keyring "),
        (lambda ring: os.truncate(f"{ring}/identity", 20), EX_CONFIG, "identity "),
    ],
    ids=["C10 mode", "C10 folder", "no mesh key", "no keyring", "C11 short"],
)  # fmt: skip
def test_a_relay_does_not_start_with_keys_that_are_no_good(tmp_path, ring, verb, spoil, code, said):  # type: ignore[no-untyped-def]
    path = write(tmp_path, SECURITY.format(ring=ring.path))
    spoil(ring.path)
    done = zrelay(verb, "-c", path)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert [line for line in done.stderr.splitlines() if said in line and line.startswith("zrelay: ")]


def test_check_says_our_public_key(tmp_path: Path, ring: Keyring) -> None:
    done = zrelay("check", "-c", write(tmp_path, SECURITY.format(ring=ring.path)), "--strict")
    assert done.returncode == 0
    assert done.stderr == f"info: public key {encode_public(public_of('identity', ring.read('identity')))}\n"


@pytest.mark.parametrize("case", ["C12 own key"])
def test_a_peer_with_our_own_key_is_refused(tmp_path: Path, ring: Keyring, case: str) -> None:
    own = encode_public(public_of("identity", ring.read("identity")))
    config = loads(SECURITY.format(ring=ring.path) + PEER.format(id="x", key=own), "f.toml", {})
    with pytest.raises(StartError, match="this relay's own public key") as error:
        examine(config, NOW)
    assert error.value.exit_code == EX_CONFIG


def test_check_says_whether_the_peer_map_can_be_used(tmp_path: Path, ring: Keyring) -> None:
    public, map_key, peers = public_of("identity", ring.read("identity")), ring.make("map"), tmp_path / "peers.map"
    signer = encode_public(public_of("map", map_key))
    text = SECURITY.format(ring=ring.path) + f'peer_map = "{peers}"\npeer_map_key = "{signer}"\n'
    config = loads(text, "f.toml", {})
    said = [str(finding) for finding in examine(config, NOW)][1:]
    assert said == [f"warning: peer map {peers}: No such file or directory"]
    here, there = (Address("192.0.2.1", 1),), (Address("192.0.2.2", 1),)
    relays = (Peer("relay", here, public_key=public), Peer("x", there, public_key=b"x" * 32))
    peers.write_bytes(sign(PeerMap(7, None, relays), map_key))
    assert [str(finding) for finding in examine(config, NOW)][1:] == ["info: peer map version 7, 2 relays"]
    peers.write_bytes(sign(PeerMap(7, None, (replace(relays[0], public_key=b"y" * 32),)), map_key))
    assert "another public key for this relay" in [str(finding) for finding in examine(config, NOW)][1]


def test_no_key_is_taken_from_the_environment_or_the_command_line(tmp_path: Path) -> None:
    """T45: a setting that is called like a key names a file."""
    environ = {"ZRELAY_SECURITY__KEYRING": str(tmp_path / "none")}
    line = refusal(zrelay("check", "-c", write(tmp_path, ""), env=environ), EX_CONFIG)
    assert line.startswith(f"{tmp_path / 'none'}: no such keyring")
    for name in ("PRIVATE_KEY", "MESH_KEY", "KEY"):
        line = refusal(zrelay("check", "-c", write(tmp_path, ""), env={f"ZRELAY_SECURITY__{name}": A}), EX_CONFIG)
        assert f"unknown key '{name.lower()}' in [security]" in line
