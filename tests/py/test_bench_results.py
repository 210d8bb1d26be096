"""Result files: ours are pytest-benchmark's, theirs are read, and bad ones are refused with the reason."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from relay.bench import result
from relay.bench.compare import compare
from relay.bench.fingerprint import differences, fingerprint
from relay.bench.result import ResultError, load

RUN = {"subscribers": 50, "cpu_us_per_packet": 2.0, "ratio_to_bare": 1.1, "delivered_pct": 100.0, "peer": None}


def saved(path: Path, *cpu: float, **more: Any) -> str:
    result.save(str(path), "fanout", *({**RUN, "cpu_us_per_packet": value, **more} for value in cpu))
    return str(path)


def test_what_is_saved_is_loaded_again(tmp_path: Path) -> None:
    loaded = load(saved(tmp_path / "a.json", 2.0, 2.2, 2.1))
    cpu = next(m for m in loaded.measured if m.name == "fanout.cpu_us_per_packet")
    assert (cpu.samples, cpu.unit, cpu.better) == ((2.0, 2.2, 2.1), "µs", "lower")
    assert cpu.stats["median"] == 2.1
    assert cpu.params == {"subscribers": 50}
    assert cpu.extra["result"]["ratio_to_bare"] == 1.1
    delivered = next(m for m in loaded.measured if m.name == "fanout.delivered_pct")
    assert delivered.better == "higher"
    assert differences(loaded.machine, fingerprint()) == []


def test_pytest_benchmarks_own_tool_reads_our_file(tmp_path: Path) -> None:
    tool = shutil.which("pytest-benchmark", path=str(Path(sys.executable).parent))
    if tool is None:
        pytest.skip("needs pytest-benchmark: pip install pytest-benchmark")
    path = saved(tmp_path / "a.json", 2.0, 2.2, 2.1)
    done = subprocess.run([tool, "compare", path], capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "fanout.cpu_us_per_packet" in done.stdout


def theirs(tmp_path: Path, name: str, mean: float) -> str:
    """As pytest-benchmark writes it with --benchmark-json and no --benchmark-save-data."""
    stats = {"min": mean * 0.9, "max": mean * 1.2, "mean": mean, "stddev": mean * 0.01, "rounds": 100,
             "median": mean, "iqr": 0.1, "q1": mean, "q3": mean, "ops": 1 / mean, "total": 100 * mean,
             "iterations": 1, "ld15iqr": mean, "hd15iqr": mean, "outliers": "0;0", "iqr_outliers": 0,
             "stddev_outliers": 0}  # fmt: skip
    whole = {
        "machine_info": {"cpu": {"brand_raw": name, "count": 2}, "machine": "x86_64", "python_version": "3.11.2"},
        "commit_info": {"id": "abc"},
        "benchmarks": [
            {"group": None, "name": "test_x", "fullname": "t.py::test_x", "params": None, "param": None,
             "extra_info": {}, "stats": stats}
        ],
        "datetime": "2026-01-01T00:00:00+00:00",
        "version": "5.3.0",
    }  # fmt: skip
    path = tmp_path / f"{name}.json"
    path.write_text(json.dumps(whole))
    return str(path)


def test_files_of_pytest_benchmark_are_compared_and_other_machines_named(tmp_path: Path) -> None:
    old, new = theirs(tmp_path, "cpu-a", 1e-3), theirs(tmp_path, "cpu-b", 1.2e-3)
    done = CliRunner().invoke(compare, [old, new])
    assert done.exit_code == 3
    assert "REGRESSION" in done.output
    assert "cpu_model: cpu-a -> cpu-b" in done.stderr
    assert CliRunner().invoke(compare, [old, new, "--fail-above", "30%"]).exit_code == 0
    assert CliRunner().invoke(compare, [new, old]).exit_code == 0


def test_a_regression_is_beyond_the_threshold_and_beyond_the_noise(tmp_path: Path) -> None:
    rng = random.Random(11)

    def around(middle: float, noise: float) -> list[float]:
        return [rng.gauss(middle, noise * middle) for _ in range(20)]

    quiet = saved(tmp_path / "quiet.json", *around(2, 0.01))
    noisy = saved(tmp_path / "noisy.json", *around(2, 0.5))
    for name, old, cpu, code in (
        ("itself", quiet, around(2, 0.01), 0),
        ("three percent", quiet, around(2.06, 0.01), 0),
        ("a fifth", quiet, around(2.4, 0.01), 3),
        ("a fifth in noise", noisy, around(2.2, 0.5), 0),
        ("better", quiet, around(1.5, 0.01), 0),
    ):
        done = CliRunner().invoke(compare, [old, saved(tmp_path / "new.json", *cpu), "--json"])
        assert done.exit_code == code, name
        assert json.loads(done.stdout)["regressions"] == (code == 3)


def test_less_delivered_is_a_regression_and_more_is_not(tmp_path: Path) -> None:
    old = saved(tmp_path / "old.json", 2.0, 2.0, 2.0, 2.0, delivered_pct=99.0)
    new = saved(tmp_path / "new.json", 2.0, 2.0, 2.0, 2.0, delivered_pct=50.0)
    assert CliRunner().invoke(compare, [old, new]).exit_code == 3
    assert CliRunner().invoke(compare, [new, old]).exit_code == 0


def test_one_run_has_no_noise_to_know_and_the_threshold_decides(tmp_path: Path) -> None:
    old, new = saved(tmp_path / "old.json", 2.0), saved(tmp_path / "new.json", 2.2)
    done = CliRunner().invoke(compare, [old, new])
    assert done.exit_code == 3
    assert "not known" in done.output


def test_other_options_are_another_benchmark(tmp_path: Path) -> None:
    old, new = saved(tmp_path / "old.json", 2.0), saved(tmp_path / "new.json", 9.0, subscribers=500)
    done = CliRunner().invoke(compare, [old, new])
    assert done.exit_code == 1
    assert "no benchmark in common" in done.output


BAD = {
    "no JSON": "{",
    "an array": "[]",
    "no benchmarks": '{"benchmarks": 3}',
    "none in it": '{"benchmarks": []}',
    "no stats": '{"benchmarks": [{"name": "x"}]}',
    "no mean": '{"benchmarks": [{"name": "x", "stats": {"median": 1}}]}',
    "a text for a number": '{"benchmarks": [{"name": "x", "stats": {"mean": "1"}}]}',
    "not a number": '{"benchmarks": [{"name": "x", "stats": {"mean": NaN}}]}',
    "nested": "[" * 100_000,
}
GOOD_STATS = {"mean": 1, "stddev": 0, "median": 1, "rounds": 1, "min": 1, "max": 1}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_refused_by_name_and_reason(tmp_path: Path, name: str) -> None:
    path = tmp_path / "bad.json"
    path.write_text(BAD[name])
    with pytest.raises(ResultError, match=r"bad\.json: "):
        load(str(path))
    done = CliRunner().invoke(compare, [str(path), str(path)])
    assert done.exit_code == 1
    assert "bad.json" in done.stderr


def test_impossible_statistics_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "bad.json"
    for wrong in ({"rounds": 0}, {"stddev": -1}, {"data": [1, "x"]}, {"data": {"a": 1}}):
        path.write_text(json.dumps({"benchmarks": [{"name": "x", "stats": {**GOOD_STATS, **wrong}}]}))
        with pytest.raises(ResultError, match=r"benchmarks\[0\]"):
            load(str(path))


def test_a_missing_file_and_an_unwritable_one_say_so(tmp_path: Path) -> None:
    with pytest.raises(ResultError, match="No such file"):
        load(str(tmp_path / "none.json"))
    from click import ClickException

    with pytest.raises(ClickException, match="No such file"):
        result.save(str(tmp_path / "none" / "a.json"), "fanout", RUN)
