"""`zrelay plan`: what a configuration needs is known before anything starts, and too much does not start."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from relay import _core, plan
from relay.cli import main
from relay.config import load
from relay.errors import CoreError


def config(tmp_path: Path, text: str) -> str:
    path = tmp_path / "relay.toml"
    path.write_text(text)
    return str(path)


def figures(*words: str) -> tuple[int, dict[str, object]]:
    done = CliRunner().invoke(main, ["plan", "--json", *words])
    return done.exit_code, json.loads(done.stdout)


def test_the_parts_of_a_worker_are_all_it_reserves() -> None:
    parts = _core.worker_parts(streams_max=1024)
    for name in ("packet pool", "streams", "subscribers", "conversations", "KCP windows", "replay caches", "rings"):
        assert parts[name] > 0, name
    assert 0 <= parts["rest"] < 64 << 10
    assert _core.worker_parts(streams_max=4096)["streams"] == pytest.approx(4 * parts["streams"], rel=0.01)
    with pytest.raises(CoreError):
        _core.worker_parts(streams_max=0)


def test_a_worker_never_touches_more_than_its_plan(tmp_path: Path) -> None:
    """What the planned parts sum up to is the size of the mapping that a real worker makes."""
    parts = _core.worker_parts(streams_max=512, sessions_max=1024)
    planned = sum(bytes_ for name, bytes_ in parts.items() if name not in ("counters", "rings"))

    def mapped() -> int:
        return int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")

    chan = _core.shm_open("plan-chan", _core.Channel.bytes_for(4096))
    page = _core.shm_open("plan-page", _core.StatPage.bytes_for(512))
    keep = (_core.Channel(chan, slots=4096, create=True), _core.StatPage(page, streams_max=512, create=True))
    before = mapped()
    worker = _core.Worker(lane=0, chan_fd=chan, page_fd=page, streams_max=512)
    shared = parts["counters"] + parts["rings"]
    heap = parts["cipher contexts"]  # some of it may have been mapped before
    assert planned + shared - heap <= mapped() - before <= planned + shared + (1 << 20)
    del worker, keep
    os.close(chan)
    os.close(page)


def test_a_small_relay_fits_and_a_large_one_in_little_memory_does_not(tmp_path: Path) -> None:
    code, made = figures(
        config(tmp_path, "[workers]\ncount = 2\noversubscribe = true\n[limits]\nmax_streams = 64\nmemory = '2GiB'\n")
    )
    assert (code, made["fits"], made["advice"], made["workers"]) == (0, True, None, 2)
    assert made["memory_bytes"] == 2 << 30
    large = "[workers]\ncount = 8\noversubscribe = true\n[limits]\nmax_streams = 4096\nmemory = '1536MiB'\n"
    code, made = figures(config(tmp_path, large))
    assert (code, made["fits"]) == (1, False)
    assert "workers.count = 2" in str(made["advice"])


def test_the_advice_is_right(tmp_path: Path) -> None:
    text = "[workers]\ncount = {count}\noversubscribe = true\n[limits]\nmax_streams = 4096\nmemory = '1536MiB'\n"
    assert figures(config(tmp_path, text.format(count=2)))[0] == 0
    assert figures(config(tmp_path, text.format(count=3)))[0] == 1


def test_run_refuses_what_does_not_fit_with_one_line(tmp_path: Path) -> None:
    path = config(tmp_path, f"[node]\nruntime_dir = '{tmp_path}'\n[limits]\nmemory = '100MiB'\n")
    done = CliRunner().invoke(main, ["run", "-c", path])
    assert done.exit_code == 78
    assert len(done.stderr.splitlines()) == 1
    assert "[limits] memory is 100.0 MiB" in done.stderr
    assert "set limits.max_streams below" in done.stderr


def test_the_table_names_what_takes_most_first(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["plan"])
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert lines[1].split()[:2] == ["KCP", "windows"]
    assert "fits" in done.stdout
    assert "UDP ports" in done.stdout


def test_a_bad_file_is_a_bad_configuration(tmp_path: Path) -> None:
    assert CliRunner().invoke(main, ["plan", config(tmp_path, "[workers]\ncuont = 1\n")]).exit_code == 78
    assert CliRunner().invoke(main, ["plan", str(tmp_path / "none.toml")]).exit_code == 78


def test_the_tightest_cgroup_around_us_counts(tmp_path: Path) -> None:
    root, own = tmp_path / "fs", tmp_path / "cgroup"
    (root / "a" / "b").mkdir(parents=True)
    (root / "a" / "memory.max").write_text("1000000\n")
    (root / "a" / "b" / "memory.max").write_text("max\n")
    own.write_text("0::/a/b\n")
    assert plan._cgroup_limits(own, root) == [1000000]
    (root / "memory" / "c").mkdir(parents=True)
    (root / "memory" / "c" / "memory.limit_in_bytes").write_text("2000000\n")
    (root / "memory" / "memory.limit_in_bytes").write_text(f"{(1 << 63) - 4096}\n")
    own.write_text("5:cpu,cpuacct:/x\n4:memory:/c\n")
    assert plan._cgroup_limits(own, root) == [2000000]
    assert plan._cgroup_limits(tmp_path / "none", root) == []


def test_the_plan_is_of_the_file_that_run_would_take(tmp_path: Path) -> None:
    made = plan.Plan.of(load(config(tmp_path, "[links]\nwindow = 64\n[ingress]\nports = '30000-30009'\n")))
    assert made.ports["ingress"] == 10
    assert made.files == made.streams_max + 1024
