"""A veth pair to a network namespace of the benchmark's own, without UDP segmentation offload: what a subscriber behind
a plain network card costs. Needs root.

    here  10.231.77.1  zrb<pid>a ======== zrb<pid>b  10.231.77.2  there: the sinks' sockets
"""

from __future__ import annotations

import array
import ctypes
import fcntl
import os
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

HERE, THERE = "10.231.77.1", "10.231.77.2"
OFF = ("tx-udp-segmentation", "rx-gro", "rx-udp-gro-forwarding")
_CLONE_NEWNET = 0x40000000
_SIOCETHTOOL = 0x8946
_GSTRINGS, _GSSET_INFO, _SFEATURES, _GFEATURES = 0x1B, 0x37, 0x3B, 0x3A
_SS_FEATURES, _NAME_BYTES = 4, 32


class VethMissingError(RuntimeError):
    """This host does not let us make one."""


class Veth:
    """The far end; `inside` runs something there."""

    def __init__(self, namespace: str) -> None:
        self._path = Path("/var/run/netns") / namespace

    def inside(self, work: Callable[[], T]) -> T:
        """`work` in a thread of the namespace: sockets it opens stay there."""
        made: list[T] = []
        failed: list[BaseException] = []

        def run() -> None:
            try:
                with self._path.open() as file:
                    if ctypes.CDLL(None, use_errno=True).setns(file.fileno(), _CLONE_NEWNET) != 0:
                        raise OSError(ctypes.get_errno(), "setns")
                made.append(work())
            except BaseException as error:  # handed to whoever waits
                failed.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        if failed:
            raise failed[0]
        return made[0]


@contextmanager
def veth() -> Iterator[Veth]:
    """For as long as the block lasts. VethMissingError says what is missing."""
    if os.geteuid() != 0:
        raise VethMissingError("a veth pair needs root")
    name = f"zrb{os.getpid()}"
    near, far = f"{name}a", f"{name}b"
    try:
        _ip("netns", "add", name)
    except (OSError, subprocess.CalledProcessError) as error:
        raise VethMissingError(f"no network namespace: {_why(error)}") from None
    try:
        _ip("link", "add", near, "type", "veth", "peer", "name", far, "netns", name)
        _ip("address", "add", f"{HERE}/24", "dev", near)
        _ip("-n", name, "address", "add", f"{THERE}/24", "dev", far)
        _ip("link", "set", near, "up")
        _ip("-n", name, "link", "set", "lo", "up")
        _ip("-n", name, "link", "set", far, "up")
        switch_off(near, OFF)
        yield Veth(name)
    except subprocess.CalledProcessError as error:
        raise VethMissingError(f"no veth pair: {_why(error)}") from None
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)
        subprocess.run(["ip", "link", "delete", near], check=False, capture_output=True)  # if the far end never left


def switch_off(device: str, names: tuple[str, ...]) -> list[str]:
    """Turns features of a device off (`ethtool -K`); those it has of them and that are off afterwards."""
    known = _feature_names(device)
    wanted = [known.index(name) for name in names if name in known]
    blocks = (len(known) + 31) // 32
    words = [0] * (2 * blocks)  # valid, requested, for each 32 features
    for bit in wanted:
        words[2 * (bit // 32)] |= 1 << bit % 32
    _ethtool(device, struct.pack(f"=II{2 * blocks}I", _SFEATURES, blocks, *words))
    answer = _ethtool(device, struct.pack("=II", _GFEATURES, blocks) + bytes(16 * blocks))
    active = [struct.unpack_from("=I", answer, 8 + 16 * block + 8)[0] for block in range(blocks)]
    return [known[bit] for bit in wanted if not active[bit // 32] >> bit % 32 & 1]


def _feature_names(device: str) -> list[str]:
    answer = _ethtool(device, struct.pack("=IIQI", _GSSET_INFO, 0, 1 << _SS_FEATURES, 0))
    count = struct.unpack_from("=I", answer, 16)[0]
    answer = _ethtool(device, struct.pack("=III", _GSTRINGS, _SS_FEATURES, count) + bytes(count * _NAME_BYTES))
    names = [answer[12 + at * _NAME_BYTES : 12 + (at + 1) * _NAME_BYTES] for at in range(count)]
    return [name.split(b"\0")[0].decode() for name in names]


def _ethtool(device: str, request: bytes) -> bytes:
    data = array.array("B", request)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        fcntl.ioctl(sock, _SIOCETHTOOL, struct.pack("16sP", device.encode(), data.buffer_info()[0]))
    return data.tobytes()


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


def _why(error: OSError | subprocess.CalledProcessError) -> str:
    if isinstance(error, subprocess.CalledProcessError):
        said: bytes = error.stderr or b""
        return said.decode(errors="replace").strip() or str(error)
    return str(error)
