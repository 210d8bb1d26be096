"""Our handshake machine, with WireGuard's labels, against wireguard-go: each side begins once, data crosses both ways.

    netns:  UDP socket 10.77.0.1 ── TUN ── wireguard-go 127.0.0.1 ══ handshake, transport data ══ this test 127.0.0.1

Everything happens in a network namespace of the test's own. Skipped without root, a TUN device, or Debian's
wireguard-go and wireguard-tools.
"""

from __future__ import annotations

import base64
import ctypes
import os
import shutil
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from relay.handshake import Handshakes
from relay.handshake_peer import Agreed
from relay.handshake_wire import WIREGUARD, Params
from relay.identity import Identity
from relay.noise import KeyPair
from relay.secret import Secret
from relay.stamp import Stamps
from relay.units import Address

PACKAGES = "apt-get install --no-install-recommends wireguard-go wireguard-tools iproute2"
CLONE_NEWNET = 0x40000000
THEIRS, OURS = Address("127.0.0.1", 51820), Address("127.0.0.1", 51821)
INNER_THEIRS, INNER_OURS = ("10.77.0.1", 7001), ("10.77.0.2", 7002)
TRANSPORT = 4
BOUND_S = 30

pytestmark = [pytest.mark.net, pytest.mark.timeout(120)]


def missing() -> str | None:
    """Why this cannot run here, and what would change that."""
    tools = [name for name in ("wireguard-go", "wg", "ip") if shutil.which(name) is None]
    if tools:
        return f"no {', '.join(tools)} here: {PACKAGES}"
    if os.geteuid() != 0:
        return "network namespaces and TUN want root"
    try:
        os.close(os.open("/dev/net/tun", os.O_RDWR))
    except OSError as error:
        return f"/dev/net/tun: {error.strerror}: a machine or container with TUN is needed"
    return None


def run(*command: str, **how: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, **how)  # type: ignore[call-overload]
    assert done.returncode == 0, (command, done.stderr)


def socket_in(namespace: str, address: tuple[str, int]) -> socket.socket:
    """A bound UDP socket that belongs to the namespace: made by a thread that goes there and ends."""
    made: list[socket.socket | OSError] = []

    def make() -> None:
        fd = os.open(f"/run/netns/{namespace}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            if ctypes.CDLL(None, use_errno=True).setns(fd, CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), "setns")
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.bind(address)
            sock.settimeout(0.05)
            made.append(sock)
        except OSError as error:
            made.append(error)
        finally:
            os.close(fd)

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    if isinstance(made[0], OSError):
        raise made[0]
    return made[0]


@dataclass
class Tunnel:
    """wireguard-go and what it needs; `app` sends and receives on its inner side."""

    namespace: str
    public: bytes
    app: socket.socket


@dataclass(frozen=True)
class Keys:
    ours: bytes
    theirs: bytes
    psk: bytes


@pytest.fixture(scope="module")
def keys() -> Keys:
    random = Random(7)
    return Keys(random.randbytes(32), random.randbytes(32), random.randbytes(32))


@pytest.fixture
def tunnel(keys: Keys, tmp_path: Path) -> Iterator[Tunnel]:
    """wireguard-go in a namespace, with us as its only peer."""
    reason = missing()
    if reason is not None:
        pytest.skip(reason)
    namespace = device = f"zrwg{os.getpid() % 100000}"
    inside = ("ip", "netns", "exec", namespace)
    run("ip", "netns", "add", namespace)
    try:
        run(*inside, "ip", "link", "set", "lo", "up")
        env = {**os.environ, "LOG_LEVEL": "error", "WG_PROCESS_FOREGROUND": "1"}
        with subprocess.Popen([*inside, "wireguard-go", "-f", device], env=env, stdout=-3, stderr=-3) as process:
            try:
                wait_for(lambda: Path(f"/var/run/wireguard/{device}.sock").exists())
                for name, key in (("private", keys.theirs), ("psk", keys.psk)):
                    file = tmp_path / name
                    file.touch(0o600)
                    file.write_bytes(base64.b64encode(key))
                public = base64.b64encode(KeyPair(keys.ours).public).decode()
                run(
                    *(*inside, "wg", "set", device, "listen-port", str(THEIRS.port)),
                    *("private-key", str(tmp_path / "private"), "peer", public),
                    *("preshared-key", str(tmp_path / "psk"), "endpoint", str(OURS)),
                    *("allowed-ips", f"{INNER_OURS[0]}/32"),
                )
                run(*inside, "ip", "address", "add", f"{INNER_THEIRS[0]}/24", "dev", device)
                run(*inside, "ip", "link", "set", device, "up")
                with socket_in(namespace, INNER_THEIRS) as app:
                    yield Tunnel(namespace, KeyPair(keys.theirs).public, app)
            finally:
                process.terminate()
                process.wait(timeout=30)
    finally:
        run("ip", "netns", "delete", namespace)


def wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + BOUND_S
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


class Ours:
    """The machine with WireGuard's labels on a socket beside wireguard-go, and transport data by hand."""

    def __init__(self, keys: Keys, tunnel: Tunnel) -> None:
        identity = Identity(Secret(keys.ours), Secret(keys.psk), {"wg": tunnel.public})
        stamps = Stamps(time.time_ns(), time.monotonic_ns())
        self.machine = Handshakes(identity, {"wg": [THEIRS]}, Params(), stamps, Random(8), labels=WIREGUARD)
        self.socket = socket_in(tunnel.namespace, tuple(OURS))
        self.inner: list[bytes] = []  # IP packets that came out of the tunnel
        self.counter = 0
        self.agreed: Agreed | None = None

    def turn(self) -> None:
        """Takes a datagram, if there is one, and sends what is due."""
        self.machine.on_timer(time.monotonic_ns())
        self.send_due()
        try:
            data, source = self.socket.recvfrom(2048)
        except TimeoutError:
            return
        if data[0] == TRANSPORT:
            self.take(data)
        else:
            assert self.machine.on_datagram(data, Address(*source), time.monotonic_ns()) is None
        self.send_due()
        self.agreed = self.machine.agreed[-1] if self.machine.agreed else None

    def send_due(self) -> None:
        for action in self.machine.out:
            self.socket.sendto(action.data, tuple(action.address))
        self.machine.out.clear()

    def take(self, data: bytes) -> None:
        assert self.agreed is not None
        _, receiver, counter = struct.unpack_from("<IIQ", data)
        assert receiver == self.agreed.index
        cipher = ChaCha20Poly1305(self.agreed.recv.reveal())
        packet = cipher.decrypt(struct.pack("<4xQ", counter), data[16:], b"")
        if packet:  # an empty one is a keep-alive
            self.inner.append(packet)

    def put(self, payload: bytes) -> None:
        """A UDP datagram from our inner address to the application, sealed as transport data."""
        assert self.agreed is not None
        packet = inner_packet(payload)
        packet += bytes(-len(packet) % 16)
        cipher = ChaCha20Poly1305(self.agreed.send.reveal())
        sealed = cipher.encrypt(struct.pack("<4xQ", self.counter), packet, b"")
        head = struct.pack("<IIQ", TRANSPORT, self.agreed.peer_index, self.counter)
        self.socket.sendto(head + sealed, tuple(THEIRS))
        self.counter += 1


def inner_packet(payload: bytes) -> bytes:
    """IPv4 and UDP around the payload; a UDP checksum of 0 is none."""
    udp = struct.pack(">HHHH", INNER_OURS[1], INNER_THEIRS[1], 8 + len(payload), 0) + payload
    addresses = socket.inet_aton(INNER_OURS[0]) + socket.inet_aton(INNER_THEIRS[0])
    head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0) + addresses
    total = sum(struct.unpack(">10H", head))
    total = (total & 0xFFFF) + (total >> 16)
    return head[:10] + struct.pack(">H", 0xFFFF - (total + (total >> 16)) & 0xFFFF) + head[12:] + udp


def cross(ours: Ours, tunnel: Tunnel, text: bytes) -> None:
    """A datagram through the tunnel each way."""
    ours.put(b"to " + text)
    assert receive(tunnel.app) == b"to " + text
    ours.inner.clear()
    tunnel.app.sendto(b"from " + text, INNER_OURS)
    until(ours, lambda: bool(ours.inner))
    assert b"from " + text in ours.inner[0]


def receive(app: socket.socket) -> bytes:
    for _ in range(BOUND_S * 20):
        try:
            return app.recv(2048)
        except TimeoutError:
            continue
    raise AssertionError("nothing came out of the tunnel")


def until(ours: Ours, condition: Callable[[], bool]) -> None:
    end = time.monotonic() + BOUND_S
    while not condition():
        assert time.monotonic() < end, ours.machine.counts
        ours.turn()


def test_wireguard_go_answers_our_initiation_and_data_crosses_both_ways(tunnel: Tunnel, keys: Keys) -> None:
    ours = Ours(keys, tunnel)
    with ours.socket:
        for number in range(2):  # the second is a rekey
            ours.agreed, ours.counter = None, 0
            ours.machine.agreed.clear()
            ours.machine.begin("wg", time.monotonic_ns())
            until(ours, lambda: ours.agreed is not None)
            assert ours.agreed is not None
            assert ours.agreed.initiator
            cross(ours, tunnel, b"%d" % number)


def test_wireguard_go_takes_our_answer_to_its_initiation_and_data_crosses_both_ways(tunnel: Tunnel, keys: Keys) -> None:
    ours = Ours(keys, tunnel)
    with ours.socket:
        tunnel.app.sendto(b"hello", INNER_OURS)  # makes it begin
        until(ours, lambda: bool(ours.inner))
        assert ours.agreed is not None
        assert not ours.agreed.initiator
        assert b"hello" in ours.inner[0]
        cross(ours, tunnel, b"back")
