"""How keys reach the agent: in a sealed memory file that it inherits, and nobody else does.

    key files ── sendfile, inside the kernel ──▶ memfd, sealed ── inherited ──▶ agent: Identity

The supervisor keeps the descriptor, so that an agent that takes the place of another finds the same keys; it never
reads them. Its mapping keeps the pages out of swap, of core dumps and of what it forks.
"""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import resource
from dataclasses import replace

from relay.identity import Identity
from relay.keys import FILE_BYTES_MAX, FORMER, OVERLAP_NS, KeyFileError, Keyring, decode, identity_of
from relay.sockets import EXIT_OS, StartError

NAMES = ("identity", "mesh", FORMER)  # the last one while a rotation lasts, else zeros
SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
_PR_SET_DUMPABLE = 4
BYTES = (len(NAMES) + 1) * FILE_BYTES_MAX  # then when the rotation was: 8 bytes, ns of the wall clock
_libc = ctypes.CDLL(None)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long)
_libc.mlock.argtypes = _libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
_libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
_MAP_FAILED = ctypes.c_void_p(-1).value


class KeyMemory:
    """The keys of a relay as its supervisor holds them; none while `keyring` is empty."""

    def __init__(self, keyring: str) -> None:
        self._keyring = keyring
        self._address = _MAP_FAILED
        self.fd = -1

    def take(self, wall_ns: int) -> None:
        """What the files hold at `wall_ns`, now. StartError when one is missing or others could use it: then all stays
        as it was."""
        if not self._keyring:
            return
        try:
            fd = pack(Keyring(self._keyring), wall_ns)
        except KeyFileError as error:
            raise StartError(error.exit_code, str(error)) from None
        self.close()
        self.fd = fd
        self._address = _libc.mmap(None, BYTES, mmap.PROT_READ, mmap.MAP_SHARED, fd, 0)
        if self._address != _MAP_FAILED:  # what follows is best effort: a small RLIMIT_MEMLOCK ends no relay
            _libc.mlock(self._address, BYTES)
            for advice in (mmap.MADV_DONTDUMP, mmap.MADV_DONTFORK):
                _libc.madvise(self._address, BYTES, advice)

    def inherited(self) -> list[int]:
        """The descriptors that the agent gets."""
        return [self.fd] if self.fd >= 0 else []

    def close(self) -> None:
        if self._address != _MAP_FAILED:
            _libc.munmap(self._address, BYTES)
        if self.fd >= 0:
            os.close(self.fd)
        self._address, self.fd = _MAP_FAILED, -1


def pack(ring: Keyring, wall_ns: int) -> int:
    """A sealed memory file with the bytes of the key files, each in its own 4 KiB; `wall_ns`: now. KeyFileError."""
    fd = os.memfd_create("zr-keys", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(fd, BYTES)
        former = ring.former(wall_ns)
        if former is not None:
            source, rotated_ns = former
            _copy(fd, NAMES.index(FORMER), source)
            os.pwrite(fd, rotated_ns.to_bytes(8, "little"), len(NAMES) * FILE_BYTES_MAX)
        for number, name in enumerate(("identity", "mesh")):
            _copy(fd, number, ring.open(name))
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, SEALS)
    except OSError as error:
        os.close(fd)
        raise KeyFileError(EXIT_OS, f"{ring.path}: {error.strerror}: keys cannot be held in memory") from None
    except BaseException:
        os.close(fd)
        raise
    return fd


def _copy(fd: int, number: int, source: int) -> None:
    try:
        os.lseek(fd, number * FILE_BYTES_MAX, os.SEEK_SET)
        os.sendfile(fd, source, 0, FILE_BYTES_MAX)
    finally:
        os.close(source)


def unpack(fd: int, path: str, wall_ns: int, now: int) -> Identity:
    """Who we are, without peers; the descriptor is closed. `path`: the keyring, for messages. `wall_ns`, `now`: the
    wall clock and the agent's. StartError."""
    try:
        if fcntl.fcntl(fd, fcntl.F_GET_SEALS) & SEALS != SEALS:
            raise StartError(EXIT_OS, "the memory with the keys is not sealed: restart the relay")
        files = [os.pread(fd, FILE_BYTES_MAX, number * FILE_BYTES_MAX) for number in range(len(NAMES))]
        rotated_ns = int.from_bytes(os.pread(fd, 8, len(NAMES) * FILE_BYTES_MAX), "little")
    finally:
        os.close(fd)
    left_ns = min(rotated_ns + OVERLAP_NS - wall_ns, OVERLAP_NS)  # a wall clock that went back makes it no longer
    if left_ns <= 0:
        files.pop()
    try:
        private, mesh, *former = (
            decode(data.rstrip(b"\0"), os.path.join(path, name)) for data, name in zip(files, NAMES, strict=False)
        )
    except KeyFileError as error:
        raise StartError(error.exit_code, str(error)) from None
    identity = identity_of(private, mesh)
    return replace(identity, former=former[0], former_until=now + left_ns) if former else identity


def keep_to_ourselves() -> None:
    """From now on this process leaves no core, and other processes of our user may neither trace it nor read it."""
    _libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
