"""Bad input, L: the command line itself."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from relay import __version__
from relay.dev import DevMesh
from tests.py.badinput_cli import EX_OS, EX_USAGE, ROOT, refusal, zrelay


def usage_error(*args: str) -> str:
    """What a command that was not understood says: usage, where to find help, and the error as the last line."""
    done = zrelay(*args)
    assert (done.returncode, done.stdout) == (EX_USAGE, "")
    lines = done.stderr.splitlines()
    assert lines[0].startswith("Usage: zrelay")
    assert "--help" in lines[1]
    assert lines[-1].startswith("Error: ")
    return lines[-1].removeprefix("Error: ")


@pytest.mark.parametrize("case", ["L01"])
def test_no_arguments_are_answered_with_usage(case: str) -> None:
    assert usage_error() == "Missing command."


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["statu"], "No such command 'statu'. Did you mean 'status'?"),
        (["impai"], "No such command 'impai'. Did you mean 'impair'?"),
        (["chekc"], "No such command 'chekc'. Did you mean 'check'?"),
        (["frobnicate"], "No such command 'frobnicate'."),
        (["--versoin"], "No such option '--versoin'. Did you mean '--version'?"),
        (["run", "--confg", "x"], "No such option '--confg'. Did you mean '--config'?"),
        (["check", "extra"], "Got unexpected extra argument (extra)"),
    ],
    ids=["L02", "L02 impair", "L02 swapped", "L02 nothing near", "L02 option", "L02 a verb's option", "L02 argument"],
)
def test_what_is_not_known_is_named_with_what_was_meant(args: list[str], said: str) -> None:
    assert usage_error(*args) == said


@pytest.mark.parametrize(
    ("args", "option"),
    [
        (["impair", "--ports", "abc"], "--ports"),
        (["impair", "--ports", "0"], "--ports"),
        (["dev", "--relays", "abc"], "--relays"),
        (["dev", "--relays", "9"], "--relays"),
        (["impair", "--a", "127.0.0.1:port,127.0.0.1:1", "--b", "x"], "--a"),
    ],
    ids=["L03", "L03 range", "L03 count", "L03 too many", "L03 address"],
)
def test_a_value_that_is_no_number_is_named_with_its_option(args: list[str], option: str) -> None:
    assert usage_error(*args).startswith(f"Invalid value for '{option}': ")


@pytest.mark.net
@pytest.mark.parametrize("case", ["L04"])
def test_a_second_instance_is_told_who_runs_and_the_first_goes_on(tmp_path: Path, case: str) -> None:
    async def scenario() -> None:
        async with DevMesh(1) as mesh, mesh.client("bj-1") as client:
            first = mesh.relays[0]
            second = DevMesh(1).relays[0]  # for its free ports
            path = tmp_path / "second.toml"
            text = first.toml().replace(str(first.data), str(second.data)).replace(str(first.api), str(second.api))
            path.write_text(text)
            assert first.process is not None
            done = await asyncio.to_thread(zrelay, "run", "-c", str(path))
            line = refusal(done, EX_OS)
            assert line.startswith(f"already running, pid {first.process.pid}")
            assert str(first.folder / first.name) in line
            assert (await client.get("/v1/status"))["state"] == "ready"

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "args",
    [["version"], ["version", "--json"], ["doctor", "--json"], ["ports"]],
    ids=["L05", "L05 json", "L05 long", "L05 table"],
)
def test_a_reader_that_has_gone_ends_a_command_without_a_word(args: list[str]) -> None:
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "relay.cli", *args]
    try:
        done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, cwd=ROOT, timeout=60, check=False)
    finally:
        os.close(write)
    assert (done.returncode, done.stderr) == (141, b"")


def test_l05_a_closed_stdout_is_no_error_and_a_full_one_is_one_line() -> None:
    def run(redirection: str) -> tuple[int, str]:
        words = ["sh", "-c", f'exec "$0" -m relay.cli version {redirection}', sys.executable]
        done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT, timeout=60, check=False)
        return done.returncode, done.stderr

    assert run(">&-") == (0, "")
    assert run(">/dev/full") == (EX_OS, "zrelay: No space left on device\n")


@pytest.mark.parametrize(
    "args",
    [["--help"], ["--version"], ["version"], ["run", "-c", "{path}", "--help"], ["check", "-c", "{path}", "--help"]],
    ids=["L11 help", "L11 version", "L11 version verb", "L11 run help", "L11 check help"],
)
def test_help_and_version_need_no_configuration(tmp_path: Path, args: list[str]) -> None:
    path = tmp_path / "broken.toml"
    path.write_text("= [")
    done = zrelay(*(arg.format(path=path) for arg in args), env={"ZRELAY_NODE__IDD": "broken"})
    assert (done.returncode, done.stderr) == (0, "")
    assert (__version__ if "ersion" in args[0] else "Usage: zrelay") in done.stdout
