"""The agent's lane with keys: which handshake messages reach Python (cases U20 to U29, U38), and how many at a time."""

from __future__ import annotations

import contextlib
import itertools
import socket
import subprocess
from pathlib import Path

import pytest

from relay import _core
from relay.errors import CoreError
from relay.units import Address
from tests.prop.gate_model import Gate, message, open_reply
from tests.py.badinput import NOW, OTHER_PROTOCOLS, SECOND, moved

PUBLIC, MESH = bytes(range(32)), bytes(range(100, 132))
MODEL = Gate(PUBLIC, MESH, bytes(32))
SOURCE, NEIGHBOUR, ELSEWHERE = (Address(ip, 4000) for ip in ("192.0.2.1", "192.0.2.9", "198.51.100.1"))
HELLO, ANSWER, COOKIE = 0x08, 0x09, 0x0A


def keyed(*, busy: int = 0) -> _core.ControlLane:
    lane = _core.ControlLane(NOW)
    lane.gate_keys(PUBLIC, MESH)
    lane.busy(busy)
    return lane


def good(kind: int = HELLO, cookie: bytes | None = None) -> bytes:
    return message(kind, b"\7\0\0\0", MODEL.mac1_key, cookie)


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def settled(lane: _core.ControlLane) -> dict[str, int]:
    assert lane.ledgers()["link"] == 0
    assert lane.check()
    return moved({}, lane.drops())


@pytest.mark.parametrize(
    ("word", "data"),
    [
        pytest.param("length", [good()[:-1], good() + b"\0", good(ANSWER)[:-1], good(ANSWER) + b"\0"], id="U20"),
        pytest.param("length", [b"\x0a" + bytes(62), b"\x0a" + bytes(64), b"\x08" + bytes(31)], id="U20 others"),
        pytest.param("mac1", [flipped(good(), at) for at in (1, 4, 40, 147, 148, 163)], id="U21"),
        pytest.param("mac1", [flipped(good(ANSWER), at) for at in (1, 4, 40, 83, 84, 99)], id="U21 answers"),
        pytest.param("mac1", [message(HELLO, b"", Gate(PUBLIC, bytes(32), b"").mac1_key)], id="U21 other mesh"),
        pytest.param("mac1", [message(HELLO, b"", Gate(bytes(32), MESH, b"").mac1_key)], id="U21 other relay"),
        pytest.param("length", [b"\x08\0\0\0\x83\xa5relay\xa1x" + bytes(60)], id="plaintext hello"),
        pytest.param("type", list(OTHER_PROTOCOLS.values()), id="U38"),
    ],
)
@pytest.mark.parametrize("busy", [0, 1000], ids=["idle", "loaded"])
def test_each_message_is_dropped_for_exactly_this_reason_and_in_silence(
    busy: int, word: str, data: list[bytes]
) -> None:
    lane = keyed(busy=busy)
    for datagram in data:
        assert lane.input(datagram, SOURCE.pack(), NOW) == []
    assert lane.datagrams(NOW) == []
    assert settled(lane) == {word: len(data)}


@pytest.mark.parametrize("kind", [HELLO, ANSWER])
def test_a_message_with_the_right_macs_reaches_python_as_it_came(kind: int) -> None:
    lane = keyed()
    assert lane.input(good(kind), SOURCE.pack(), NOW) == [(good(kind), SOURCE.pack())]
    lane.refuse("unknown_peer")  # U22
    assert settled(lane) == {"unknown_peer": 1}
    assert lane.datagrams(NOW) == []


@pytest.mark.parametrize("case", ["U26"])
def test_a_thousand_in_a_second_from_one_network_are_five_and_twenty_a_second(case: str) -> None:
    lane = keyed()
    sources = itertools.cycle((SOURCE, NEIGHBOUR))
    passed = sum(len(lane.input(good(), next(sources).pack(), NOW + n * SECOND // 1000)) for n in range(1000))
    assert passed == 5 + 19
    assert len(lane.input(good(), ELSEWHERE.pack(), NOW + SECOND)) == 1
    assert settled(lane) == {"ratelimit": 1000 - passed}


@pytest.mark.parametrize("case", ["U27, U28"])
def test_under_load_only_who_hears_us_is_let_in(case: str) -> None:
    lane = keyed(busy=301)
    assert lane.input(good(), SOURCE.pack(), NOW) == []
    ((to, reply),) = lane.datagrams(NOW)
    assert (to, len(reply), reply[:8]) == (SOURCE.pack(), 64, b"\x0a\0\0\0\7\0\0\0")
    cookie = open_reply(reply, good(), MODEL.cookie_key)
    answered = good(HELLO, cookie)
    moved_on = Address(SOURCE.ip, SOURCE.port + 1)
    for source in (NEIGHBOUR, moved_on):  # U28
        assert lane.input(answered, source.pack(), NOW) == []
        assert len(lane.datagrams(NOW)) == 1
    assert lane.input(answered, SOURCE.pack(), NOW + 110 * SECOND) == [(answered, SOURCE.pack())]
    assert lane.datagrams(NOW + 110 * SECOND) == []
    assert (lane.stats()["gate_replies"], lane.stats()["gate_loaded"], lane.stats()["gate_loads"]) == (3, 1, 2)
    lane.gate_keys(PUBLIC, MESH)
    lane.datagrams(NOW + 110 * SECOND)
    assert lane.stats()["gate_loads"] == 2, "other keys take no count back"
    assert settled(lane) == {"mac2": 3}


@pytest.mark.parametrize("case", ["U29"])
def test_cookie_replies_reach_python_at_a_limited_rate(case: str) -> None:
    lane = keyed()
    taken = sum(len(lane.input(b"\x0a" + bytes(63), SOURCE.pack(), NOW)) for _ in range(100))
    assert taken == 5
    for _ in range(taken):
        lane.refuse("cookie")
    assert settled(lane) == {"ratelimit": 95, "cookie": 5}


def test_what_passes_at_once_reaches_python_sixteen_at_a_time() -> None:
    """Sources on loopback are ports: thirty of them, three messages each; all together may say 64 at once."""
    lane = keyed()
    with contextlib.ExitStack() as stack:
        receiver = stack.enter_context(socket.socket(fileno=_core.udp_open(Address("127.0.0.1", 0).pack())))
        for _ in range(30):
            sender = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            for _ in range(3):
                sender.sendto(good(), receiver.getsockname())
        taken = []
        while not taken or lane.hellos_waiting():
            taken.append(len(lane.receive(receiver.fileno(), NOW)))
        lane.datagrams(NOW)
    assert taken == [16, 16, 16, 16]
    assert (lane.stats()["hello_queued"], lane.stats()["gate_loaded"]) == (0, 1)
    replies = lane.stats()["gate_replies"]
    assert replies == 25, "the 65th is one too many; the others are asked to prove their address"
    assert settled(lane) == {"ratelimit": 1, "mac2": 25}


def test_other_keys_take_the_place_of_those_before() -> None:
    lane = keyed()
    other = bytes(32)
    lane.gate_keys(PUBLIC, other)
    assert lane.input(good(), SOURCE.pack(), NOW) == []
    new = message(HELLO, b"", Gate(PUBLIC, other, b"").mac1_key)
    assert lane.input(new, SOURCE.pack(), NOW) == [(new, SOURCE.pack())]
    assert settled(lane) == {"mac1": 1}


def test_in_a_rotation_the_key_before_is_taken_too_and_both_are_counted() -> None:
    lane, former = keyed(), bytes(range(1, 33))
    end = NOW + 900 * SECOND
    lane.gate_keys(PUBLIC, MESH, former=former, former_until=end)
    old = message(HELLO, b"", Gate(former, MESH, b"").mac1_key)
    for data in (good(), old):
        assert lane.input(data, SOURCE.pack(), NOW) == [(data, SOURCE.pack())]
    lane.datagrams(NOW)
    assert (lane.stats()["gate_overlap"], lane.stats()["gate_former"]) == (1, 1)
    assert lane.input(old, SOURCE.pack(), end) == []
    assert lane.input(good(), SOURCE.pack(), end) != []
    lane.datagrams(end)
    assert (lane.stats()["gate_overlap"], lane.stats()["gate_former"]) == (0, 1)
    assert settled(lane) == {"mac1": 1}
    with pytest.raises(CoreError, match="32 bytes"):
        lane.gate_keys(PUBLIC, MESH, former=b"short")


@pytest.mark.parametrize(
    ("public", "mesh", "seed"), [(b"", MESH, None), (PUBLIC, MESH[:31], None), (PUBLIC, MESH, b"x")]
)
def test_keys_and_seed_have_32_bytes(public: bytes, mesh: bytes, seed: bytes | None) -> None:
    lane = _core.ControlLane(NOW)
    with pytest.raises(CoreError, match="inval"):
        lane.gate_keys(public, mesh, seed)
    hello = b"\x08\0\0\0\x80" + bytes(20)
    assert len(lane.input(hello, SOURCE.pack(), NOW)) == 1, "still in plaintext"


def test_macs_are_compared_in_constant_time() -> None:
    """By libcrypto's function, which the linker did not replace; and zr_gate.c compares no MAC by memcmp."""
    undefined = subprocess.run(["nm", "-D", "-u", _core.__file__], capture_output=True, text=True, check=True).stdout
    assert " CRYPTO_memcmp" in undefined
    source = (Path(_core.__file__).parents[1] / "csrc/gate/zr_gate.c").read_text()
    assert source.count("memcmp(") == 1, "one: has it a MAC2 at all?"
    assert source.count("zr_mac_eq(") == 2
