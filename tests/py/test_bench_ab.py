"""`zrelay bench ab`: two checkouts by turns, one of them slower or not."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from relay.bench.ab import ab, alternate, order


def checkout(tmp_path: Path, name: str, cost: float) -> str:
    """A directory that looks built, whose benchmark prints `cost`, a little more each time."""
    folder = tmp_path / name
    (folder / "relay").mkdir(parents=True)
    (folder / "relay" / "__init__.py").write_text("")
    (folder / "relay" / "_core.fake.so").write_text("")
    (folder / "relay" / "cli.py").write_text(
        "import json, pathlib\n"
        "seen = pathlib.Path('runs'); runs = len(seen.read_text()) if seen.exists() else 0\n"
        "seen.write_text('x' * (runs + 1))\n"
        f"print(json.dumps({{'ns_per_record': {cost} * (1 + runs % 3 / 100)}}))\n"
    )
    return str(folder)


def test_the_sides_alternate_and_neither_always_comes_first() -> None:
    assert list(order(4)) == [0, 1, 1, 0, 0, 1, 1, 0]
    ran: list[int] = []

    def side(number: int) -> Callable[[], float]:
        def run() -> float:
            ran.append(number)
            return float(len(ran))

        return run

    old, new = alternate((side(0), side(1)), 2)
    assert ran == [0, 1, 0, 1, 1, 0]  # the first of each warms up
    assert (old, new) == ([3.0, 6.0], [4.0, 5.0])


@pytest.mark.parametrize(("cost", "word"), [(100, "no difference shown"), (120, "slower"), (80, "faster")])
def test_the_verdict_is_that_of_the_runs(tmp_path: Path, cost: float, word: str) -> None:
    old, new = checkout(tmp_path, "old", 100), checkout(tmp_path, "new", cost)
    kept = tmp_path / "ab.json"
    done = CliRunner().invoke(ab, [old, new, "--rounds", "8", "--json", "--save", str(kept)])
    assert done.exit_code == 0, done.output
    made = json.loads(done.stdout)
    assert made["verdict"] == word
    assert made["pairs"] == 8
    assert len((Path(old) / "runs").read_text()) == 9
    assert json.loads(kept.read_text())["benchmarks"][0]["name"] == "ab.ratio"


def test_a_command_is_judged_by_its_cpu_time(tmp_path: Path) -> None:
    old, new = checkout(tmp_path, "old", 1), checkout(tmp_path, "new", 1)
    (Path(old) / "count").write_text("1000")
    (Path(new) / "count").write_text("12000000")
    busy = f"{sys.executable} -c 'sum(range(int(open(\"count\").read())))'"
    done = CliRunner().invoke(ab, [old, new, "--rounds", "8", "--json", "--cmd", busy])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["verdict"] == "slower"


def test_what_cannot_be_compared_is_said(tmp_path: Path) -> None:
    good, empty = checkout(tmp_path, "good", 1), tmp_path / "empty"
    empty.mkdir()
    broken = checkout(tmp_path, "broken", 1)
    (Path(broken) / "relay" / "cli.py").write_text("raise SystemExit('kaputt')\n")
    unbuilt = checkout(tmp_path, "unbuilt", 1)
    (Path(unbuilt) / "relay" / "_core.fake.so").unlink()
    for side, why in (
        (str(empty), "no checkout of zrelay"),
        (broken, "kaputt"),
        (unbuilt, "not built"),
        ("no-such-revision", "neither a directory nor a revision"),
    ):
        done = CliRunner().invoke(ab, [good, side, "--rounds", "8"])
        assert done.exit_code == 1
        assert why in done.output
    done = CliRunner().invoke(ab, [good, good, "--figure", "nothing"])
    assert done.exit_code == 1
    assert "'nothing'" in done.output
    for words in (["--rounds", "7"], ["--cmd", ""], ["--cmd", "'"], ["--options", "'"]):
        assert CliRunner().invoke(ab, [good, good, *words]).exit_code == 2, words


def test_a_revision_is_built_in_a_worktree_that_goes_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = checkout(tmp_path, "good", 100)
    repository = tmp_path / "repository"
    checkout(tmp_path, "repository", 150)
    (repository / "relay" / "_core.fake.so").unlink()
    (repository / "setup.py").write_text("open('relay/_core.fake.so', 'w').close()\n")

    def git(*words: str) -> str:
        identity = ["-c", "user.name=t", "-c", "user.email=t@example.net"]
        done = subprocess.run(["git", *identity, *words], cwd=repository, capture_output=True, text=True, check=True)
        return done.stdout

    git("init", "-q", "-b", "main")
    git("add", ".")
    git("commit", "-q", "-m", "one")
    monkeypatch.chdir(repository)
    done = CliRunner().invoke(ab, [good, "main", "--rounds", "8", "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["verdict"] == "slower"
    assert "main: building" in done.stderr
    assert len(git("worktree", "list").splitlines()) == 1
