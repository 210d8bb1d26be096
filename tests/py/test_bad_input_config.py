"""Bad input, C: configuration files that cannot be used, through the real command line."""

from __future__ import annotations

import asyncio
import ctypes
import os
import socket
import subprocess
from pathlib import Path

import pytest

from relay.config import loads
from relay.dev import DevMesh, DevRelay
from relay.settings import Config
from relay.units import Address
from tests.py.badinput_cli import EX_CONFIG, EX_OS, EX_PERMISSION, refusal, zrelay

PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 24, 1, 2


def write(folder: Path, text: str) -> str:
    path = folder / "relay.toml"
    path.write_text(text)
    return str(path)


def like_anybody() -> None:
    """Takes root's right to read everything away from the program that starts next."""
    if os.geteuid() == 0:
        libc = ctypes.CDLL(None)
        for capability in (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH):
            assert libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) == 0


@pytest.mark.parametrize("verb", ["check", "run", "ports", "status"], ids=lambda verb: f"C01 missing, {verb}")
def test_a_missing_file_is_named_by_every_verb(tmp_path: Path, verb: str) -> None:
    path = str(tmp_path / "none.toml")
    assert refusal(zrelay(verb, "-c", path), EX_CONFIG) == f"{path}: no such file or directory (give the file with -c)"


@pytest.mark.parametrize("case", ["C01 directory"])
def test_a_directory_is_no_file(tmp_path: Path, case: str) -> None:
    line = refusal(zrelay("check", "-c", str(tmp_path)), EX_CONFIG)
    assert line == f"{tmp_path}: is a directory (give the file with -c)"


@pytest.mark.parametrize("case", ["C01 unreadable"])
def test_a_file_that_may_not_be_read_is_a_matter_of_permission(tmp_path: Path, case: str) -> None:
    path = write(tmp_path, "")
    os.chmod(path, 0)
    line = refusal(zrelay("check", "-c", path, before=like_anybody), EX_PERMISSION)
    assert line == f"{path}: may not be read (Permission denied)"


@pytest.mark.parametrize("text", ["", "\n", "# nothing\n"], ids=["C02", "C02 a blank line", "C02 a comment"])
def test_an_empty_file_is_the_defaults_on_loopback(tmp_path: Path, text: str) -> None:
    done = zrelay("check", "-c", write(tmp_path, text))
    assert (done.returncode, done.stderr) == (0, "")
    config = loads(text, environ={})
    assert config == Config()
    assert config.listen.data.is_loopback
    assert config.listen.api.is_loopback
    assert config.ingress.address == "127.0.0.1"
    assert config.peers == []


@pytest.mark.net
@pytest.mark.parametrize("case", ["C02"])
def test_a_relay_with_an_empty_file_runs_and_says_where(monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    """Ports and folders come from the environment, so that a relay of the host's own is left alone."""

    async def scenario() -> None:
        mesh = DevMesh(1)
        relay = mesh.relays[0]
        monkeypatch.setattr(DevRelay, "toml", lambda self: "")
        for name, value in {
            "NODE__RUNTIME_DIR": mesh.folder / "run", "LISTEN__SOCKET": mesh.folder / "api.sock",
            "LISTEN__DATA": relay.data, "LISTEN__API": relay.api, "WORKERS__COUNT": 1,
        }.items():  # fmt: skip
            monkeypatch.setenv(f"ZRELAY_{name}", str(value))
        async with mesh:
            pass
            said = relay.log_path.read_text()
        ready = [line for line in said.splitlines() if "agent ready" in line]
        assert len(ready) == 1
        assert "info" in ready[0].lower()
        assert str(relay.data) in ready[0]

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("[listen]\ndata = = 3\n", "2:8"),
        ('[node]\nid = "a\n', "2:8"),
        ("[listen\n", "1:8"),
        ("[node]\nid = 1\nid = 2\n", "3:7"),
        ("\n\nx y\n", "3:3"),
        ('[node]\nid = "a"\n[node]\n', "3:6"),
        ("\nx = [1, 2", "2:1"),  # where the file ends: its last line
    ],
    ids=lambda value: f"C03 {value}" if ":" in value else "",
)
def test_a_syntax_error_is_named_with_line_and_column(tmp_path: Path, text: str, place: str) -> None:
    path = write(tmp_path, text)
    line = refusal(zrelay("check", "-c", path), EX_CONFIG)
    assert line.startswith(f"{path}:{place}: "), line
    assert len(line) > len(f"{path}:{place}: ")


@pytest.mark.parametrize(
    ("text", "place", "said"),
    [
        ("[sockets]\nrecieve_buffer = 1\n", "2:1", "'recieve_buffer' in [sockets] (did you mean 'receive_buffer'?)"),
        ("[socket]\n", "1:1", "'socket' (did you mean 'sockets'?)"),
        ('[[peers]]\nid = "a"\nadresses = []\n', "3:1", "'adresses' in [[peers]] (did you mean 'addresses'?)"),
        ("[node]\nid = 'a'\n  regoin = 'x'\n", "3:3", "'regoin' in [node] (did you mean 'region'?)"),
        ("zzz = 1\n", "1:1", "'zzz'"),
    ],
    ids=["C04", "C04 section", "C04 in a list", "C04 indented", "C04 nothing near"],
)
def test_an_unknown_key_is_named_with_what_was_meant(tmp_path: Path, text: str, place: str, said: str) -> None:
    path = write(tmp_path, text)
    assert refusal(zrelay("check", "-c", path), EX_CONFIG) == f"{path}:{place}: unknown key {said}"


@pytest.mark.parametrize("case", ["C04 environment"])
def test_an_unknown_key_in_the_environment_is_named_too(tmp_path: Path, case: str) -> None:
    line = refusal(zrelay("check", "-c", write(tmp_path, ""), env={"ZRELAY_NODE__IDD": "x"}), EX_CONFIG)
    assert line.startswith("$ZRELAY_NODE__IDD: unknown key 'idd' in [node]")


@pytest.mark.parametrize(
    ("text", "place", "key"),
    [
        ('[workers]\nbatch = "4"\n', "2:1", "batch"),
        ('[workers]\ncount = "4"\n', "2:1", "count"),
        ("[workers]\ncount = true\n", "2:1", "count"),
        ("[workers]\nbatch = 4.0\n", "2:1", "batch"),
        ("[workers]\ngso = 1\n", "2:1", "gso"),
        ("[node]\nid = 4\n", "2:1", "id"),
        ("[links]\nlinger = 5\n", "2:1", "linger"),
        ("[sockets]\n\nreceive_buffer = 1048576\n", "3:1", "receive_buffer"),
        ('[[peers]]\nid = "a"\naddresses = "127.0.0.1:1"\n', "3:1", "addresses"),
        ("node = 3\n", "1:1", "node"),
        ('peers = "a"\n', "1:1", "peers"),
    ],
    ids=["C05"] + [f"C05 {number}" for number in range(2, 12)],
)
def test_a_wrong_type_is_named_with_its_key(tmp_path: Path, text: str, place: str, key: str) -> None:
    path = write(tmp_path, text)
    line = refusal(zrelay("check", "-c", path), EX_CONFIG)
    assert line.startswith(f"{path}:{place}: "), line
    assert key in line.removeprefix(path)


def run_beside(kind: socket.SocketKind, address: Address, relay: DevRelay) -> subprocess.CompletedProcess[str]:
    """Starts a relay while this process holds one of its ports."""
    relay.config_path.write_text(relay.toml())
    with socket.socket(socket.AF_INET, kind) as holder:
        holder.bind((address.ip, address.port))
        if kind == socket.SOCK_STREAM:
            holder.listen()
        return zrelay("run", "-c", str(relay.config_path))


@pytest.fixture
def relay(tmp_path: Path) -> DevRelay:
    """Never started by a mesh: a file with ports that are free."""
    found = DevMesh(1).relays[0]
    return DevRelay("busy", tmp_path, found.data, found.api, found.ingress_ports)


@pytest.mark.net
@pytest.mark.parametrize("lane", [0, 1], ids=["C08 agent", "C08 worker"])
def test_a_data_port_in_use_is_named_with_its_holder(relay: DevRelay, lane: int) -> None:
    address = relay.data.shifted(lane)
    line = refusal(run_beside(socket.SOCK_DGRAM, address, relay), EX_OS)
    assert line.startswith(f"UDP {address} is in use by pid {os.getpid()} (")
    assert line.endswith("set listen.data to a free port")


@pytest.mark.net
@pytest.mark.parametrize("case", ["C08 api"])
def test_an_api_port_in_use_is_named_with_its_holder(relay: DevRelay, case: str) -> None:
    done = run_beside(socket.SOCK_STREAM, relay.api, relay)
    assert done.returncode == EX_OS
    assert "Traceback" not in done.stderr
    about = [line for line in done.stderr.splitlines() if str(relay.api) in line]
    assert len(about) == 1
    assert f"pid {os.getpid()} " in about[0]
    assert "listen.api" in about[0]
