"""tools/steps.py: what a step's exit status and output add up to."""

from __future__ import annotations

import importlib.util
import sys
import time
from pathlib import Path

import pytest

PATH = Path(__file__).resolve().parents[2] / "tools" / "steps.py"
_spec = importlib.util.spec_from_file_location("steps", PATH)
assert _spec is not None
assert _spec.loader is not None
steps = importlib.util.module_from_spec(_spec)
sys.modules["steps"] = steps
_spec.loader.exec_module(steps)

GATE = steps.Step("gate", "gate", ("true",))
CTEST = steps.Step("c", "ctest", ("true",))
PYTEST = steps.Step("py", "pytest", ("true",))


def test_a_gate_counts_one() -> None:
    assert str(steps.counted(GATE, 0, "")) == "1 passed, 0 failed, 0 skipped"
    assert str(steps.counted(GATE, 1, "")) == "0 passed, 1 failed, 0 skipped"
    assert str(steps.counted(GATE, 77, "")) == "0 passed, 0 failed, 1 skipped"


@pytest.mark.parametrize(
    ("line", "count"),
    [
        ("3 passed in 0.12s", (3, 0, 0)),
        ("1 failed, 2 passed, 4 skipped, 1 warning in 61.02s (0:01:01)", (2, 1, 4)),
        ("===== 5 passed, 1 xfailed, 7 deselected in 1.00s =====", (5, 0, 1)),
        ("1 passed, 2 errors in 0.50s", (1, 2, 0)),
    ],
)
def test_a_pytest_summary_is_added_up(line: str, count: tuple[int, int, int]) -> None:
    status = 1 if count[1] else 0
    assert steps.counted(PYTEST, status, f"...\n99 passed in 1.00s\n{line}\n") == steps.Count(*count)


def test_a_c_runner_counts_its_tests() -> None:
    assert steps.counted(CTEST, 0, "asan: C tests: 12 passed, 0 failed\n") == steps.Count(passed=12)


def test_a_runner_that_dies_is_a_failure() -> None:
    assert steps.counted(CTEST, 134, "asan: ").failed == 1
    assert steps.counted(CTEST, 1, "C tests: 12 passed, 0 failed\n==1==ERROR: LeakSanitizer").failed == 1
    assert steps.counted(PYTEST, 139, "....").failed == 1


def test_green_without_a_test_is_a_failure() -> None:
    assert steps.counted(PYTEST, 5, "no tests ran in 0.01s").failed == 1
    assert steps.counted(PYTEST, 0, "").failed == 1


def test_a_filter_may_leave_a_step_empty() -> None:
    assert steps.counted(PYTEST, 5, "3 deselected in 0.01s", filtered=True) == steps.Count()


def test_what_a_step_leaves_running_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "LOGS", tmp_path)
    monkeypatch.setattr(steps, "ORPHAN_SECONDS", 0.3)
    leaving = steps.Step("leaving", "gate", ("sh", "-c", "sleep 2 & exit 0"))
    assert steps.run(leaving, 10, None).count.failed == 1
    clean = steps.Step("clean", "gate", ("true",))
    assert steps.run(clean, 10, None).count == steps.Count(passed=1)


def test_a_step_is_ended_at_its_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "LOGS", tmp_path)
    result = steps.run(steps.Step("slow", "gate", ("sleep", "60")), 1, None)
    assert result.count.failed == 1
    assert result.seconds < 10


def test_every_step_has_a_name_of_its_own() -> None:
    names = [step.name for step in steps.steps(full=True)]
    assert len(names) == len(set(names))


def test_only_neighbours_that_say_so_run_beside_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the results come in the order of the steps, whoever ends first."""
    running: set[str] = set()
    met: set[frozenset[str]] = set()

    def run(step: steps.Step, *_: object, quiet: bool = False) -> steps.Result:  # type: ignore[name-defined]
        assert quiet == bool(step.beside)
        running.add(step.name)
        time.sleep(0.05)
        met.update(frozenset({step.name, other}) for other in running)
        time.sleep(0.05)
        running.discard(step.name)
        return steps.Result(step)

    monkeypatch.setattr(steps, "run", run)
    monkeypatch.setattr(steps, "TOGETHER", 2)
    words = {"alone": "", "a1": "a", "a2": "a", "b1": "b", "b2": "b", "alone too": ""}
    chosen = [steps.Step(name, "gate", ("true",), beside) for name, beside in words.items()]
    assert [result.step.name for result in steps.run_all(chosen, 10, None)] == list(words)
    pairs = {frozenset({"a1", "a2"}), frozenset({"b1", "b2"})}
    assert {pair for pair in met if len(pair) > 1} <= pairs


def test_the_cpu_time_of_a_step_is_that_of_its_children(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "LOGS", tmp_path)
    burn = "import time\nwhile time.process_time() < 0.3: pass"
    busy = steps.run(steps.Step("busy", "gate", (sys.executable, "-c", burn)), 10, None)
    idle = steps.run(steps.Step("idle", "gate", ("sleep", "0.3")), 10, None)
    assert busy.cpu_s >= 0.3
    assert idle.cpu_s < 0.2
    assert f"{busy.cpu_s:.1f}  ok" in steps.summary([busy], 1.0)


def test_every_file_of_tests_net_belongs_to_one_step() -> None:
    for path in steps.MEDIA:
        assert (PATH.parents[1] / path).is_file(), f"{path} is run by no step: tools/steps.py has it in MEDIA"
