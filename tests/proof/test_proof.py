"""The proof of the concurrency: memory orders, interleavings, death at every instruction. Numbers go to the terminal.

The C programs are built here, below build/proof; nothing of them is kept between runs.
"""

from __future__ import annotations

import os
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.proof import orders

FULL = os.environ.get("ZR_FULL") == "1"
SCENARIOS = ("ring", "wake", "wake-twice", "inbox", "inbox-mend", "inbox-wake", "snapshot")
TSAN_OPERATIONS, TSAN_SECONDS = (100_000_000, 1200) if FULL else (10_000_000, 300)
STEPPER = [
    *orders.CORE,
    "csrc/stat/zr_stat.c",
    "csrc/mem/zr_shm.c",
    "csrc/mem/zr_life.c",
    "csrc/coll/zr_win.c",
    "csrc/forward/zr_journal.c",
    "csrc/forward/zr_stream.c",
    "tests/proof/stepper.c",
    "tests/proof/step_pages.c",
    "tests/proof/step_rings.c",
    "tests/proof/step_stream.c",
]
MUTATORS = (
    "spsc_claim_fill_commit",
    "spsc_peek_release",
    "chan_init",
    "chan_init_again",
    "chan_attach",
    "chan_sleep_awake",
    "chan_commit_wake",
    "inbox_claim_fill_commit",
    "inbox_peek_release",
    "inbox_mend",
    "inbox_reader",
    "inbox_writer",
    "stat_turn",
    "journal_replace",
    "journal_drop",
    "journal_attach",
    "life_begin",
    "shm_map",
    "stream_restart",
    "stream_count",
    "stream_close",
)
LONG_MUTATORS = ("stat_attach", "stat_attach_asleep", "stream_open", "stream_reopen")  # killed at each store
PLANTED = (
    "planted_publish_before_write",
    "planted_release_twice",
    "planted_turn_without_sequence",
    "planted_epoch_before_number",
)
NO_PTRACE = 77


@pytest.fixture(scope="module")
def verdicts() -> dict[int, list[str]]:
    """Who caught each mutant; two at a time."""
    orders.explorer()
    with ThreadPoolExecutor(orders.JOBS) as pool:
        return {mutant.number: catchers for mutant, catchers in pool.map(orders.caught_by, orders.mutants())}


@pytest.mark.timeout(400)
@pytest.mark.parametrize("mutant", orders.mutants(), ids=lambda m: f"{m.file}:{m.line} {m.what}".replace(" ", "_"))
def test_a_weaker_memory_order_is_noticed(mutant: orders.Mutant, verdicts: dict[int, list[str]]) -> None:
    assert verdicts[mutant.number], f"csrc/{mutant.file}:{mutant.line}: {mutant.what}: nobody minds"
    assert not any("exit status" in catcher for catcher in verdicts[mutant.number])


def test_orders_of_the_ring_and_the_inbox_are_noticed_by_tsan_too(
    verdicts: dict[int, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    carriers = [mutant for mutant in orders.mutants() if mutant.file in orders.RACY]
    assert [sum(mutant.file == file for mutant in carriers) for file in orders.RACY] == [4, 4]
    for mutant in carriers:
        assert "TSan" in verdicts[mutant.number], f"csrc/{mutant.file}:{mutant.line}: {mutant.what}"
    explored = sum(any(word.startswith("explorer") for word in catchers) for catchers in verdicts.values())
    with capsys.disabled():
        tsan = sum("TSan" in catchers for catchers in verdicts.values())
        print(f"\n{len(verdicts)} mutants of the memory orders; TSan caught {tsan}, the explorer {explored}")


def test_every_memory_order_is_proved_or_listed() -> None:
    assert orders.unlisted() == []


def test_the_explorer_finds_nothing_in_the_sources_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    status, output = orders.run(orders.build("explore", orders.OUT, None), seconds=200)
    with capsys.disabled():
        print(f"\n{output}", end="")
    assert status == 0, output
    found = dict(re.findall(r"^([a-z-]+) executions=(\d+)", output, re.M))
    assert set(found) == set(SCENARIOS)
    assert int(found["ring"]) > 10_000  # or it no longer explores


@pytest.mark.timeout(TSAN_SECONDS + 60)
def test_tsan_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    status, output = orders.run(orders.build("tsan", orders.OUT, None), str(TSAN_OPERATIONS), seconds=TSAN_SECONDS)
    with capsys.disabled():
        print(f"\n{output}", end="")
    assert status == 0, output
    assert output.endswith(" 0 wrong\n")


@pytest.fixture(scope="module")
def killed() -> dict[str, tuple[int, int]]:
    """Points and bad points of each row of the stepper."""
    orders.OUT.mkdir(parents=True, exist_ok=True)
    program = orders.OUT / "stepper"
    # -z now: no child steps through the dynamic linker.
    flags = "-std=c11 -O2 -g -Wall -Wextra -Werror -D_GNU_SOURCE -Icsrc -Wl,-z,now".split()
    subprocess.run(["gcc", *flags, *STEPPER, "-o", str(program)], cwd=orders.ROOT, check=True)
    done = subprocess.run([str(program)], capture_output=True, text=True, timeout=200, check=False)
    if done.returncode == NO_PTRACE:
        pytest.skip("ptrace is not permitted here (a container: --cap-add=SYS_PTRACE)")
    rows = {name: (int(points), int(bad)) for name, points, bad in _rows(done.stdout)}
    assert done.returncode == 0, done.stdout + done.stderr
    return rows


def _rows(output: str) -> list[tuple[str, str, str]]:
    return re.findall(r"^(\w+) points=(\d+) bad=(\d+)$", output, re.M)


@pytest.mark.parametrize("name", [*MUTATORS, *LONG_MUTATORS])
def test_death_at_any_instruction_tears_loses_repeats_and_leaks_nothing(
    name: str, killed: dict[str, tuple[int, int]], capsys: pytest.CaptureFixture[str]
) -> None:
    points, bad = killed[name]
    with capsys.disabled():
        print(f"\n{name}: killed at {points} instructions, {bad} bad")
    assert points > (20 if name in MUTATORS else 4)
    assert bad == 0


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_bug_shows_at_some_instruction(name: str, killed: dict[str, tuple[int, int]]) -> None:
    assert killed[name][1] > 0


def test_the_stepper_knows_every_row_it_has(killed: dict[str, tuple[int, int]]) -> None:
    assert set(killed) == {*MUTATORS, *LONG_MUTATORS, *PLANTED}
