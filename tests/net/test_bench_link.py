"""`zrelay bench link` over real sockets agrees with its virtual clock: the same engine, the same loss, real time."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from typing import Any

import psutil
import pytest

from relay.bench import sockets
from relay.bench.case import Case
from relay.bench.figures import figures
from relay.bench.link import run_all
from relay.dev import free_ports
from relay.units import Address

FULL = bool(os.environ.get("ZR_FULL"))
pytestmark = [pytest.mark.net, pytest.mark.slow, pytest.mark.timeout(900 if FULL else 300)]

SECONDS = 60.0 if FULL else 12.0
TRIES, MISSES = 6, 3  # a machine that is disturbed may be so for a while; who misses thrice has not met a rare die
TWINS = 80  # virtual runs of the same length: their middle 95 % is the interval
LOSSES = (0.1, 0.3)
PACKETS = round(SECONDS * 200)
STALLED = 0.003  # of all datagrams handled late: no longer the virtual clock's machine


@contextlib.contextmanager
def _impair(a: Address, b: Address, loss: float, seed: int, last: dict[str, Any]) -> Iterator[tuple[Address, Address]]:
    """`zrelay impair` between A and B; its last report ends up in `last`."""
    listen = [Address("127.0.0.1", free_ports(1)) for _ in range(2)]
    command = [
        *(sys.executable, "-m", "relay.cli", "impair", "--a", f"{listen[0]},{a}", "--b", f"{listen[1]},{b}"),
        *("--delay", "50ms", "--loss", f"{loss:g}", "--seed", str(seed), "--json"),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline(), "zrelay impair did not start"  # it reports once a second
            yield listen[0], listen[1]
        finally:
            child.send_signal(signal.SIGINT)
            out, _ = child.communicate(timeout=10)
    last |= json.loads(out.splitlines()[-1])


def _real(loss: float, seed: int) -> dict[str, Any]:
    """The figures of one run through the command, and what the command itself counted."""
    case = Case(loss=loss, rloss=loss, seconds=SECONDS, seed=seed)
    last: dict[str, Any] = {}
    with sockets.bound() as a, sockets.bound() as b:
        with _impair(sockets.address_of(a), sockets.address_of(b), loss, seed, last) as (a_sees_b, b_sees_a):
            run = sockets.drive(case, sockets.Wires(a, b, a_sees_b, b_sees_a), time.monotonic_ns)
    return {**figures(case, [run], virtual=False), "impaired": last}


def _both(seed: int) -> list[dict[str, Any]]:
    """10 and 30 % at once, each in a process of its own."""
    with ProcessPoolExecutor(len(LOSSES), multiprocessing.get_context("fork")) as pool:
        return list(pool.map(_real, LOSSES, [seed] * len(LOSSES)))


def _interval(case: Case) -> tuple[int, int, float]:
    """Missing packets of a run: lower and upper end of the 95 % interval; the mean overhead."""
    runs = run_all(case, TWINS, virtual=True)
    missing = sorted(run.sent - run.delivered for run in runs)
    return (
        missing[round(0.025 * TWINS)],
        missing[round(0.975 * TWINS) - 1],
        figures(case, runs, virtual=True)["overhead"],
    )


def _overslept(real: dict[str, Any]) -> float:
    """The share of what went over the link that this machine handled more than 5 ms after its time."""
    ways = [real["impaired"][way] for way in ("a_to_b", "b_to_a")]
    counts = [*ways, *real["counts"].values()]
    return sum(count["overslept"] for count in counts) / sum(way["in"] for way in ways)


def _disagreements(real: dict[str, Any], virtual: tuple[int, int, float], stalled: float) -> list[str]:
    lower, upper, overhead = virtual
    upper, room = upper + round(stalled * PACKETS), 0.05
    if stalled >= STALLED:  # who was late may be missing, and was sent again when it was an acknowledgement; not more
        lower, room = 0, 0.5 + stalled
    found = []
    if not lower <= real["missing"] <= upper:
        found.append(f"loss {real['loss']}: {real['missing']} missing, the interval is {lower}..{upper}")
    if abs(real["overhead"] - overhead) > room:
        found.append(f"loss {real['loss']}: overhead {real['overhead']}, on the virtual clock {overhead}")
    return found


def test_through_zrelay_impair_loss_and_overhead_are_those_of_the_virtual_clock() -> None:
    """Of a run that the machine disturbed, only bounds far away are asked, and another is tried, with other dice.

    So is one that misses: an interval of 95 % is missed one time in twenty by its definition. Without one run that is
    neither, nothing was found out.
    """
    virtual = [_interval(Case(loss=loss, rloss=loss, seconds=SECONDS)) for loss in LOSSES]
    misses: list[list[str]] = []
    for seed in range(1, 100 * TRIES, 100):
        reals = _both(seed)
        stalled = max(map(_overslept, reals))
        for real, (lower, upper, overhead) in zip(reals, virtual, strict=True):
            print(
                f"loss {real['loss']:.0%}: missing {real['missing']} ({lower}..{upper} of {PACKETS}), overhead "
                f"{real['overhead']:.3f} ({overhead:.3f}), p99 {real['p99_ms']:.1f} ms, duplicates "
                f"{real['duplicates']}, overslept {_overslept(real):.3%}"
            )
            assert real["sent"] == PACKETS
            assert real["duplicates"] == 0
            assert real["counts"]["receiver"]["broken"] == 0
            assert real["impaired"]["loss_pct"] == pytest.approx(100 * real["loss"], abs=2)
        pairs = list(zip(reals, virtual, strict=True))
        if not any(_disagreements(real, twin, 0) for real, twin in pairs):
            return  # also when the machine was late, which moves no figure towards its bar
        wrong = [text for real, twin in pairs for text in _disagreements(real, twin, stalled)]
        print(*wrong, sep="\n")
        if stalled >= STALLED:
            assert not wrong
        elif not wrong:
            return
        else:
            misses.append(wrong)
            assert len(misses) < MISSES, misses
    pytest.skip(f"in {TRIES - len(misses)} of {TRIES} runs the machine was late; wants one that is left alone")


def test_the_command_brings_its_own_impairer_and_leaves_nothing_behind() -> None:
    command = [sys.executable, "-m", "relay.cli", "bench", "link", "--seconds", "2", "--loss", "5%", "--rloss", "0"]
    with subprocess.Popen([*command, "--json"], stdout=subprocess.PIPE, start_new_session=True) as child:
        out, _ = child.communicate(timeout=60)
    answer = json.loads(out)
    assert child.returncode == 0
    assert (answer["virtual"], answer["sent"], answer["duplicates"]) == (False, 400, 0)
    assert answer["delivered"] >= 200  # how many is asked above; here the machine may stall
    assert answer["p50_ms"] >= 50
    with pytest.raises(ProcessLookupError):
        os.killpg(child.pid, 0)


def test_a_run_that_is_killed_takes_its_impairer_along() -> None:
    command = [sys.executable, "-m", "relay.cli", "bench", "link", "--seconds", "30", "--json"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True) as child:
        for _ in range(2000):
            if psutil.Process(child.pid).children():
                break
            time.sleep(0.01)
        child.kill()
    for _ in range(200):
        try:
            os.killpg(child.pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    os.killpg(child.pid, signal.SIGKILL)
    pytest.fail("the impairer outlived the run")


def test_stock_and_compat_run_over_real_sockets_too() -> None:
    case = Case(seconds=1.0, delay_ns=5_000_000)
    for engine in ("compat", "stock"):
        run = run_all(replace(case, engine=engine), 1, virtual=False)[0]  # type: ignore[arg-type]
        assert (run.sent, run.duplicates) == (200, 0)
        assert run.delivered >= 100
