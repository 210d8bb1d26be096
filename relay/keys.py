"""Keys in files: a keyring is a directory with one key a file, 32 bytes in base64 on one line.

    identity    X25519, this relay's own; its public half is what peers list as `public_key`
    mesh        32 random bytes, the same on every relay of the mesh: without it nobody gets an answer
    map         Ed25519, signs peer maps; only where maps are made

A key is made with 0600 and never overwritten; `rotate` keeps the one before as `NAME.old`. For OVERLAP_NS after that
`identity.old` is good, too: the peers learn the new public key one after the other. What others could have read
or put there is refused, and so is what is no key: KeyFileError says what to do.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import errno
import hashlib
import os
import stat
from collections.abc import Iterator

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from relay.identity import KEY_BYTES, Identity
from relay.secret import Secret

KINDS = {"identity": "X25519", "mesh": "shared", "map": "Ed25519"}
FORMER = "identity.old"
OVERLAP_NS = 900 * 10**9  # as long as a session lives without new keys
FILE_BYTES_MAX = 4096
EXIT_OS, EXIT_PERMISSION, EXIT_CONFIG = 71, 77, 78


class KeyFileError(Exception):
    """A key cannot be used or made; `exit_code` follows sysexits, the message is one line for the operator."""

    def __init__(self, exit_code: int, message: str) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class Keyring:
    """The keys under `path`. Every call looks at the directory anew; every method raises KeyFileError."""

    def __init__(self, path: str) -> None:
        self.path = path

    def open(self, name: str) -> int:
        """A descriptor of the key's file, after all checks but that of its contents."""
        with self._folder() as folder:
            path = self._file(name)
            try:
                # O_NONBLOCK: what stands there may be a pipe that nobody writes into.
                fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=folder)
            except FileNotFoundError:
                raise KeyFileError(EXIT_CONFIG, f"{path}: no such key: {_remedy(name, self.path)}") from None
            except OSError as error:
                if error.errno == errno.ELOOP:
                    raise KeyFileError(
                        EXIT_PERMISSION, f"{path} is a symbolic link: put the key itself there"
                    ) from None
                raise _from_os(path, error) from None
            try:
                _check_ours_alone(path, os.fstat(fd))
            except BaseException:
                os.close(fd)
                raise
            return fd

    def read(self, name: str) -> Secret:
        fd = self.open(name)
        try:
            data = os.read(fd, FILE_BYTES_MAX + 1)
        except OSError as error:
            raise _from_os(self._file(name), error) from None
        finally:
            os.close(fd)
        return decode(data, self._file(name))

    def make(self, name: str) -> Secret:
        """A new key; 71 when there is one already: whoever trusts its public half would be cut off."""
        with self._folder(make=True) as folder:
            key = Secret(os.urandom(KEY_BYTES))
            try:
                _write(folder, name, key)
            except FileExistsError:
                path = self._file(name)
                raise KeyFileError(EXIT_OS, f"{path} is there already: zrelay keys rotate {name} replaces it") from None
            except OSError as error:
                raise _from_os(self._file(name), error) from None
            return key

    def rotate(self, name: str) -> Secret:
        """A new key in the place of the one there is, which becomes NAME.old. At no time there is none."""
        self.read(name)
        with self._folder() as folder:
            key = Secret(os.urandom(KEY_BYTES))
            try:
                for left in (f"{name}.new", f"{name}.old"):  # .new: of a rotation that was interrupted
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(left, dir_fd=folder)
                _write(folder, f"{name}.new", key)
                os.link(name, f"{name}.old", src_dir_fd=folder, dst_dir_fd=folder)
                os.rename(f"{name}.new", name, src_dir_fd=folder, dst_dir_fd=folder)
                os.fsync(folder)
            except OSError as error:
                raise _from_os(self._file(name), error) from None
            return key

    def former(self, wall_ns: int) -> tuple[int, int] | None:
        """A descriptor of our key before the rotation, and when that was, ns of the wall clock; None when there is no
        such key or its time is over at `wall_ns`. The new key's file was written then, and it says so."""
        fd = self.open("identity")
        try:
            rotated_ns = os.fstat(fd).st_mtime_ns
        finally:
            os.close(fd)
        if wall_ns - rotated_ns >= OVERLAP_NS or not os.path.lexists(self._file(FORMER)):
            return None
        return self.open(FORMER), rotated_ns

    def names(self) -> list[str]:
        """The keys that are there."""
        with self._folder() as folder:
            there = set(os.listdir(folder))
        return [name for name in KINDS if name in there]

    def identity(self) -> Identity:
        """Who we are, without peers."""
        return identity_of(self.read("identity"), self.read("mesh"))

    def _file(self, name: str) -> str:
        return os.path.join(self.path, name)

    @contextlib.contextmanager
    def _folder(self, *, make: bool = False) -> Iterator[int]:
        try:
            if make:
                os.makedirs(self.path, mode=0o700, exist_ok=True)
            folder = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            raise KeyFileError(EXIT_CONFIG, f"{self.path}: no such keyring: {_remedy('identity', self.path)}") from None
        except NotADirectoryError:
            text = f"{self.path} is no directory, or a symbolic link: a keyring is a directory with one key a file"
            raise KeyFileError(EXIT_PERMISSION if os.path.islink(self.path) else EXIT_CONFIG, text) from None
        except OSError as error:
            raise _from_os(self.path, error) from None
        try:
            found = os.fstat(folder)
            if found.st_uid not in (os.geteuid(), 0):
                raise KeyFileError(EXIT_PERMISSION, f"{self.path} belongs to user {found.st_uid}: take one of your own")
            if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                mode = stat.S_IMODE(found.st_mode)
                text = f"{self.path} may be written by others (mode {mode:03o}): chmod 700 {self.path}"
                raise KeyFileError(EXIT_PERMISSION, text)
            yield folder
        finally:
            os.close(folder)


def decode(data: bytes, path: str) -> Secret:
    """The key in a file's bytes. KeyFileError 78 when they are none."""
    try:
        value = base64.b64decode(data.strip(b" \r\n"), validate=True)
    except (binascii.Error, ValueError):
        raise KeyFileError(EXIT_CONFIG, f"{path} is not base64: a key is one line of {KEY_BYTES} bytes") from None
    if len(value) != KEY_BYTES:
        raise KeyFileError(EXIT_CONFIG, f"{path} holds {len(value)} bytes: a key has {KEY_BYTES}")
    if not any(value):
        raise KeyFileError(EXIT_CONFIG, f"{path} holds zeros only: that is no key")
    return Secret(value)


def identity_of(private: Secret, mesh: Secret) -> Identity:
    return Identity(private, mesh, {})


def public_of(name: str, key: Secret) -> bytes:
    """The public half; of the mesh key, which has none, a fingerprint: equal where the keys are."""
    if name == "identity":
        return X25519PrivateKey.from_private_bytes(key.reveal()).public_key().public_bytes_raw()
    if name == "map":
        return Ed25519PrivateKey.from_private_bytes(key.reveal()).public_key().public_bytes_raw()
    return hashlib.blake2s(key.reveal(), digest_size=8, person=b"zr-mesh").digest()


def _write(folder: int, name: str, key: Secret) -> None:
    fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=folder)
    with os.fdopen(fd, "wb") as file:
        os.fchmod(fd, 0o600)  # whatever the umask
        file.write(base64.b64encode(key.reveal()) + b"\n")
        file.flush()
        os.fsync(fd)
    os.fsync(folder)


def _check_ours_alone(path: str, found: os.stat_result) -> None:
    mode = stat.S_IMODE(found.st_mode)
    if not stat.S_ISREG(found.st_mode):
        raise KeyFileError(EXIT_PERMISSION, f"{path} is no regular file")
    if found.st_uid != os.geteuid():
        text = f"{path} belongs to user {found.st_uid}, not to {os.geteuid()}: chown it"
        raise KeyFileError(EXIT_PERMISSION, text)
    if mode & 0o077:
        raise KeyFileError(EXIT_PERMISSION, f"{path} may be read by others (mode {mode:03o}): chmod 600 {path}")
    if found.st_size > FILE_BYTES_MAX:
        raise KeyFileError(EXIT_PERMISSION, f"{path} has {found.st_size} bytes, at most {FILE_BYTES_MAX}: no key")


def _remedy(name: str, path: str) -> str:
    if name == "mesh":
        return f"zrelay keys gen mesh --keyring {path} on one relay, and copy the file to the others"
    return f"zrelay keys gen {name} --keyring {path}"


def _from_os(path: str, error: OSError) -> KeyFileError:
    code = EXIT_PERMISSION if error.errno in (errno.EACCES, errno.EPERM) else EXIT_OS
    return KeyFileError(code, f"{path}: {error.strerror or error}")
