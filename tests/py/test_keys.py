"""Keys: files that nobody else can read, what is refused, and where the bytes of a key never show up."""

from __future__ import annotations

import base64
import copy
import json
import os
import pickle
import stat
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import msgpack
import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from relay import keymemory
from relay.identity import KEY_BYTES, encode_public, parse_public
from relay.keys import KeyFileError, Keyring, decode, public_of
from relay.secret import Secret
from relay.sockets import StartError
from tests.py.badinput_cli import EX_CONFIG, EX_OS, EX_PERMISSION, EX_USAGE, refusal, zrelay

NOBODY = 65534
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="another user's file is made by root: run as root")


@pytest.fixture
def ring(tmp_path: Path) -> Keyring:
    found = Keyring(str(tmp_path / "keyring"))
    found.make("identity")
    found.make("mesh")
    return found


def refused(call: Callable[[], object], code: int) -> str:
    with pytest.raises(KeyFileError) as error:
        call()
    assert error.value.exit_code == code
    return str(error.value)


def file(ring: Keyring, name: str = "identity") -> Path:
    return Path(ring.path) / name


# -- secrets -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("show", [repr, str, "{}".format, "%s".__mod__, lambda secret: f"{[secret]!r} {secret!s}"])
def test_a_secret_shows_stars(show: Callable[[Secret], str]) -> None:
    shown = show(Secret(b"canary-canary-canary"))
    assert "canary" not in shown
    assert "***" in shown


@pytest.mark.parametrize(
    "encode", [pickle.dumps, copy.copy, copy.deepcopy, json.dumps, msgpack.packb, msgspec.json.encode, bytes, hash]
)
def test_a_secret_is_not_copied_and_not_encoded(encode: Callable[[object], object]) -> None:
    with pytest.raises(TypeError):
        encode(Secret(b"canary"))


def test_secrets_are_equal_by_their_bytes() -> None:
    assert Secret(b"a" * 32) == Secret(b"a" * 32)
    assert Secret(b"a" * 32) != Secret(b"a" * 31 + b"b")
    assert Secret(b"a") != b"a"
    assert Secret(b"a").reveal() == b"a"


# -- keyrings ------------------------------------------------------------------------------------------------------


def test_a_key_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    umask = os.umask(0)
    try:
        ring = Keyring(str(tmp_path / "new" / "keyring"))
        key = ring.make("identity")
    finally:
        os.umask(umask)
    assert len(key.reveal()) == KEY_BYTES
    assert ring.read("identity") == key
    assert stat.S_IMODE(file(ring).stat().st_mode) == 0o600
    assert stat.S_IMODE(Path(ring.path).stat().st_mode) == 0o700
    before = file(ring).read_bytes()
    assert "is there already" in refused(lambda: ring.make("identity"), EX_OS)
    assert file(ring).read_bytes() == before
    assert os.listdir(ring.path) == ["identity"]


def test_every_key_is_another_one(tmp_path: Path) -> None:
    made = {Keyring(str(tmp_path / str(number))).make("identity").reveal() for number in range(50)}
    assert len(made) == 50


def test_a_rotated_key_leaves_the_one_before_beside_it(ring: Keyring) -> None:
    first = ring.read("identity")
    second = ring.rotate("identity")
    third = ring.rotate("identity")
    assert first != second != third
    assert ring.read("identity") == third
    assert decode(file(ring, "identity.old").read_bytes(), "") == second
    assert stat.S_IMODE(file(ring, "identity.old").stat().st_mode) == 0o600
    assert sorted(os.listdir(ring.path)) == ["identity", "identity.old", "mesh"]
    assert ring.names() == ["identity", "mesh"]


def test_a_rotation_that_was_interrupted_is_done_again(ring: Keyring) -> None:
    file(ring, "identity.new").write_text("half of a ke")
    rotated = ring.rotate("identity")
    assert ring.read("identity") == rotated


def test_a_key_that_is_not_there_is_not_rotated(tmp_path: Path) -> None:
    ring = Keyring(str(tmp_path))
    os.chmod(tmp_path, 0o700)
    assert "zrelay keys gen map" in refused(lambda: ring.rotate("map"), EX_CONFIG)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660, 0o601, 0o777], ids=lambda mode: f"C10 {mode:03o}")
def test_a_key_that_others_may_use_is_refused(ring: Keyring, mode: int) -> None:
    os.chmod(file(ring), mode)
    assert f"mode {mode:03o}): chmod 600 " in refused(lambda: ring.read("identity"), EX_PERMISSION)


@needs_root
@pytest.mark.parametrize("case", ["C10 owner"])
def test_a_key_of_another_user_is_refused(ring: Keyring, case: str) -> None:
    os.chown(file(ring), NOBODY, -1)
    assert f"belongs to user {NOBODY}" in refused(lambda: ring.read("identity"), EX_PERMISSION)


@pytest.mark.parametrize("case", ["C10 symlink"])
def test_a_symbolic_link_to_a_key_is_refused(ring: Keyring, case: str) -> None:
    file(ring).rename(file(ring, "elsewhere"))
    file(ring).symlink_to("elsewhere")
    assert "symbolic link" in refused(lambda: ring.read("identity"), EX_PERMISSION)


def test_a_link_to_a_keyring_is_refused(ring: Keyring, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(ring.path)
    assert "symbolic link" in refused(lambda: Keyring(str(tmp_path / "link")).read("mesh"), EX_PERMISSION)


@pytest.mark.parametrize("kind", ["fifo", "directory"])
def test_what_is_no_file_is_no_key_and_is_not_waited_for(ring: Keyring, kind: str) -> None:
    file(ring).unlink()
    if kind == "fifo":
        os.mkfifo(file(ring), 0o600)
    else:
        file(ring).mkdir(0o700)
    assert "no regular file" in refused(lambda: ring.read("identity"), EX_PERMISSION)


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702, 0o1777], ids=lambda mode: f"T44 {mode:o}")
def test_a_keyring_that_others_may_write_is_refused(ring: Keyring, mode: int) -> None:
    os.chmod(ring.path, mode)
    assert f"chmod 700 {ring.path}" in refused(lambda: ring.read("identity"), EX_PERMISSION)
    assert "chmod 700" in refused(lambda: ring.make("map"), EX_PERMISSION)
    assert not file(ring, "map").exists()


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (base64.b64encode(b"k" * 31), "holds 31 bytes"),
        (base64.b64encode(b"k" * 33), "holds 33 bytes"),
        (b"", "holds 0 bytes"),
        (b"not base64 at all!", "is not base64"),
        (base64.b64encode(b"k" * 32) + b"\n" + base64.b64encode(b"k" * 32), "is not base64"),
        (base64.b64encode(bytes(32)) + b"\n", "zeros"),
        (b"\xff" * 44, "is not base64"),
    ],
    ids=["C11 short", "C11 long", "C11 empty", "C11 no base64", "C11 two keys", "C11 zeros", "C11 bytes"],
)
def test_what_is_no_key_is_refused(ring: Keyring, data: bytes, said: str) -> None:
    file(ring).write_bytes(data)
    text = refused(lambda: ring.read("identity"), EX_CONFIG)
    assert said in text
    assert data.decode("latin-1").strip() not in text or not data


@pytest.mark.parametrize("case", ["T44 size"])
def test_a_key_file_longer_than_4_kib_is_refused(ring: Keyring, case: str) -> None:
    file(ring).write_bytes(base64.b64encode(b"k" * 32) + b"\n" * 4096)
    assert "at most 4096" in refused(lambda: ring.read("identity"), EX_PERMISSION)


def test_a_public_key_is_32_bytes_in_base64() -> None:
    key = bytes(range(32))
    assert parse_public(encode_public(key)) == key
    for text in ("", "AAAA", encode_public(bytes(32)), encode_public(bytes(33)), "ä" * 44, "x" * 10_000):
        with pytest.raises(ValueError):
            parse_public(text)


LOW_ORDER = [
    0, 1, 2**255 - 20, 2**255 - 19, 2**255 - 18, 2**256 - 1,  # the last: as 2^255 - 1 + the bit that is not looked at
    325606250916557431795983626356110631294008115727848805560023387167927233504,
    39382357235489614581723060781553021112529911719440698176882885853963445705823,
]  # fmt: skip


@pytest.mark.parametrize("number", LOW_ORDER, ids=range(len(LOW_ORDER)))
def test_a_point_of_low_order_is_no_public_key(number: int) -> None:
    for key in (number, number ^ 1 << 255):
        value = key.to_bytes(32, "little")
        try:
            X25519PrivateKey.generate().exchange(X25519PublicKey.from_public_bytes(value))
        except ValueError:  # the agreed secret would be zero
            with pytest.raises(ValueError, match="low order"):
                parse_public(encode_public(value))
        else:
            assert parse_public(encode_public(value)) == value


def test_a_mesh_keys_fingerprint_does_not_show_the_key(ring: Keyring) -> None:
    key = ring.read("mesh")
    assert len(public_of("mesh", key)) == 8
    assert public_of("mesh", key) == public_of("mesh", Secret(key.reveal()))
    assert public_of("mesh", key) not in key.reveal()


# -- the command ---------------------------------------------------------------------------------------------------


def keys(*args: str) -> subprocess.CompletedProcess[str]:
    return zrelay("keys", *args)


def test_gen_show_list_and_rotate_print_public_halves_only(tmp_path: Path) -> None:
    path = str(tmp_path / "keyring")
    made = {name: keys("gen", name, "-k", path) for name in ("identity", "mesh", "map")}
    said = "".join(done.stdout + done.stderr for done in made.values())
    for name, done in made.items():
        assert done.returncode == 0
        assert "Next: " in done.stderr
        shown = keys("show", name, "--keyring", path)
        assert shown.stdout == done.stdout
        assert done.stdout.strip() == encode_public(public_of(name, Keyring(path).read(name)))
        said += shown.stdout
    listed = json.loads(keys("list", "-k", path, "--json").stdout)
    assert {row["name"]: row["public"] for row in listed} == {n: done.stdout.strip() for n, done in made.items()}
    again = keys("gen", "-k", path)
    assert refusal(again, EX_OS).endswith("zrelay keys rotate identity replaces it")
    rotated = keys("rotate", "-k", path)
    assert rotated.stdout != made["identity"].stdout
    assert keys("show", "-k", path).stdout == rotated.stdout
    said += rotated.stdout + rotated.stderr + keys("list", "-k", path).stdout
    for found in Path(path).iterdir():
        assert found.read_text().strip() not in said


def test_refusals_of_the_command_are_one_line_with_their_exit_code(ring: Keyring, tmp_path: Path) -> None:
    os.chmod(file(ring), 0o644)
    assert "chmod 600" in refusal(keys("show", "-k", ring.path), EX_PERMISSION)
    assert "zrelay keys gen" in refusal(keys("show", "-k", str(tmp_path / "none")), EX_CONFIG)
    assert keys("gen", "identiy", "-k", ring.path).returncode == EX_USAGE


# -- from the files to the agent -----------------------------------------------------------------------------------


def test_the_agent_gets_the_keys_in_memory_that_nobody_can_change(ring: Keyring) -> None:
    fd = keymemory.pack(ring, time.time_ns())
    with pytest.raises(OSError):
        os.pwrite(fd, b"x", 0)
    with pytest.raises(OSError):
        os.ftruncate(fd, 0)
    assert not os.get_inheritable(fd)
    identity = keymemory.unpack(fd, ring.path, time.time_ns(), 0)
    assert identity == ring.identity()
    with pytest.raises(OSError):
        os.fstat(fd)  # it is closed
    assert ring.read("identity").reveal().hex() not in repr(identity)
    assert repr(ring.read("identity").reveal()) not in repr(identity)


def test_memory_that_is_not_sealed_is_refused() -> None:
    fd = os.memfd_create("unsealed", os.MFD_ALLOW_SEALING)
    with pytest.raises(StartError, match="not sealed"):
        keymemory.unpack(fd, "keyring", 0, 0)


@pytest.mark.parametrize(
    ("since_s", "left_s"), [(0, 900), (10, 890), (899, 1), (900, None), (10**6, None), (-3600, 900)]
)
def test_the_key_before_a_rotation_is_good_for_fifteen_minutes(ring: Keyring, since_s: int, left_s: int | None) -> None:
    before = ring.read("identity")
    ring.rotate("identity")
    rotated_ns = os.stat(file(ring)).st_mtime_ns
    identity = keymemory.unpack(keymemory.pack(ring, rotated_ns), ring.path, rotated_ns + since_s * 10**9, 5000)
    assert (identity.private, identity.mesh_key) == (ring.read("identity"), ring.read("mesh"))
    assert identity.former == (None if left_s is None else before)
    assert identity.former_until == (0 if left_s is None else 5000 + left_s * 10**9)
    assert repr(before.reveal()) not in repr(identity)


@pytest.mark.parametrize("how", ["taken away", "long ago"])
def test_a_key_before_that_is_gone_or_too_old_is_not_even_held(ring: Keyring, how: str) -> None:
    before = ring.read("identity")
    ring.rotate("identity")
    if how == "taken away":
        os.unlink(file(ring, "identity.old"))
    else:
        os.utime(file(ring), (time.time() - 901,) * 2)
    fd = keymemory.pack(ring, time.time_ns())
    assert base64.b64encode(before.reveal()) not in os.pread(fd, keymemory.BYTES, 0)
    assert keymemory.unpack(fd, ring.path, time.time_ns(), 0).former is None


def test_a_key_before_that_others_could_read_is_refused_as_any_key(ring: Keyring) -> None:
    ring.rotate("identity")
    os.chmod(file(ring, "identity.old"), 0o644)
    with pytest.raises(KeyFileError, match="chmod 600") as error:
        keymemory.pack(ring, time.time_ns())
    assert error.value.exit_code == EX_PERMISSION


def test_the_supervisor_keeps_the_keys_it_has_when_the_files_are_no_good(ring: Keyring) -> None:
    memory = keymemory.KeyMemory(ring.path)
    assert memory.inherited() == []
    memory.take(time.time_ns())
    held = os.pread(memory.fd, 8192, 0)
    assert base64.b64encode(ring.read("mesh").reveal()) in held
    os.chmod(file(ring, "mesh"), 0o640)
    with pytest.raises(StartError) as error:
        memory.take(time.time_ns())
    assert error.value.exit_code == EX_PERMISSION
    assert os.pread(memory.fd, 8192, 0) == held
    os.chmod(file(ring, "mesh"), 0o600)
    ring.rotate("mesh")
    memory.take(time.time_ns())
    assert os.pread(memory.fd, 8192, 0) != held
    memory.close()
    assert memory.inherited() == []


def test_without_a_keyring_there_is_nothing_to_inherit() -> None:
    memory = keymemory.KeyMemory("")
    memory.take(time.time_ns())
    assert memory.inherited() == []
    memory.close()
