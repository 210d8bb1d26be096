"""The samplers: what is said when they are missing or refused, and a real run on a busy child where they are there."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from relay.flame import record
from relay.flame.command import flame
from relay.flame.record import FlameError, Target
from tests.flame_perf import needs_perf

BUSY_C = """
volatile double sink;
#define APART __attribute__((noinline))
APART static double busy_inner(int n) { double a = 0; for (int i = 0; i < n; i++) a += sink; return a; }
static inline __attribute__((always_inline)) void busy_inlined(void) { sink += busy_inner(10000) + 1; }
APART static void busy_outer(void) { busy_inlined(); sink += 1; }
int main(void) { for (;;) busy_outer(); }
"""
BUSY_PYTHON = "def busy():\n    return sum(i * i for i in range(10000))\nwhile True:\n    busy()\n"
MINE = Target(pid=1, title="it")


def test_missing_perf_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(FlameError, match="apt install linux-perf"):
        record.record_perf(MINE, 1)


def test_missing_py_spy_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    with pytest.raises(FlameError, match="pip install py-spy"):
        record.record_python(MINE, 1)


def test_a_paranoid_kernel_is_named_with_its_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record, "perf_path", lambda: "/bin/false")
    monkeypatch.setattr(record.os, "geteuid", lambda: 1000)
    monkeypatch.setattr(record, "_sysctl", lambda name: 3)
    with pytest.raises(FlameError, match=r"sysctl -w kernel\.perf_event_paranoid=1"):
        record.record_perf(MINE, 1)


def test_a_refusal_by_the_sampler_says_what_to_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    perf = tmp_path / "perf"
    perf.write_text("#!/bin/sh\necho 'Error: Permission denied' >&2\nexit 255\n")
    perf.chmod(0o755)
    monkeypatch.setattr(record, "perf_path", lambda: str(perf))
    with pytest.raises(FlameError, match="run as root"):
        record.record_perf(MINE, 0.1)


def test_without_the_processors_counters_there_is_the_timer(tmp_path: Path) -> None:
    for name in ("breakpoint", "software", "msr"):
        (tmp_path / name).mkdir()
    assert not record.has_hardware_counters(str(tmp_path))
    (tmp_path / "cpu").mkdir()
    assert record.has_hardware_counters(str(tmp_path))


@pytest.fixture
def busy(tmp_path: Path) -> Path:
    """A C program that is busy in a function with a name."""
    compiler = shutil.which("gcc")
    if compiler is None:
        pytest.skip("needs gcc: apt install gcc")
    source, program = tmp_path / "busy.c", tmp_path / "busy"
    source.write_text(BUSY_C)
    words = [compiler, "-O1", "-g", "-fno-omit-frame-pointer", "-fno-optimize-sibling-calls"]
    subprocess.run([*words, str(source), "-o", str(program)], check=True)
    return program


@needs_perf
@pytest.mark.parametrize("unwind", ["fp", "dwarf"])
def test_a_busy_program_is_named_down_to_its_functions(busy: Path, tmp_path: Path, unwind: str) -> None:
    out = str(tmp_path / "out")
    words = ["--cmd", str(busy), "--seconds", "1", "--hz", "997", "--unwind", unwind, "--out", out, "--json"]
    done = CliRunner().invoke(flame, words)
    assert done.exit_code == 0, done.output
    figures = json.loads(done.stdout)
    assert figures["event"] in ("cycles", "cpu-clock")
    if figures["event"] == "cpu-clock":
        assert any("no hardware counters" in note for note in figures["notes"])
    assert figures["samples"] >= 20
    assert figures["resolved_pct"] >= 95
    assert figures["top"][0]["function"] == "busy_inner"
    assert {line.split(";")[0] for line in Path(out + ".folded").read_text().splitlines()} == {"busy"}
    # gcc gives a function that calls nobody no frame of its own: by frame pointers its caller is not to be seen
    between = ";busy_outer" if unwind == "dwarf" else ""
    assert f";main{between};busy_inner " in Path(out + ".folded").read_text()


@needs_perf
@pytest.mark.skipif(shutil.which("addr2line") is None, reason="needs addr2line: apt install binutils")
def test_an_inlined_function_is_named_where_that_is_asked_for(busy: Path, tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    words = ["--cmd", str(busy), "--seconds", "1", "--hz", "997", "--unwind", "dwarf", "--inline", "--out", out]
    done = CliRunner().invoke(flame, words)
    assert done.exit_code == 0, done.output
    assert ";main;busy_outer;busy_inlined_[i];busy_inner " in Path(out + ".folded").read_text()


@needs_perf
def test_a_process_that_does_nothing_is_no_empty_picture(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with subprocess.Popen(["sleep", "30"]) as child:
        try:
            done = CliRunner().invoke(flame, ["--pid", str(child.pid), "--seconds", "0.3", "--out", str(out)])
        finally:
            child.kill()
    assert done.exit_code == 1
    assert "used no CPU" in done.output
    assert not list(tmp_path.glob("out*"))


def test_python_frames_come_from_py_spy(tmp_path: Path) -> None:
    try:
        record.py_spy_path()
    except FlameError as error:
        pytest.skip(str(error))
    script, out = tmp_path / "busy.py", str(tmp_path / "out")
    script.write_text(BUSY_PYTHON)
    with subprocess.Popen([sys.executable, str(script)]) as child:
        try:
            words = ["--pid", str(child.pid), "--python", "--seconds", "1", "--out", out, "--json"]
            done = CliRunner().invoke(flame, words)
        finally:
            child.kill()
    if "not permitted" in done.output:
        pytest.skip("py-spy may not look into other processes: run as root, or sysctl -w kernel.yama.ptrace_scope=0")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["event"] == "py-spy"
    assert "busy (busy.py:" in Path(out + ".folded").read_text()
