"""The demo as its user meets it: interrupted, killed, on a terminal, read by a machine, and with something wrong."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import json
import os
import pty
import shutil
import signal
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from relay.demo import Talk, _judge, _shown
from relay.passage import Carried, Counter

pytestmark = pytest.mark.net
needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is missing: apt-get install ffmpeg")

GONE_S = 8.0  # shorter than the demo, which takes 10 s: what only ends by itself is found
DEMO = ("dev", "--demo", "--json")
MESH = ("dev", "--relays", "2", "--json")


async def interrupted(
    tmp_path: Path, arguments: tuple[str, ...], said: str, family: set[str], number: signal.Signals
) -> tuple[int, list[psutil.Process], list[Path]]:
    """Sends the signal once the line with ``said`` is out and ``family`` runs: exit code, who is left, what is left."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "relay.cli", *arguments, env={**os.environ, "TMPDIR": str(tmp_path)},
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    children: list[psutil.Process] = []
    try:
        async with asyncio.timeout(60):
            while said not in (line := (await process.stdout.readline()).decode()):
                assert line, "it ended before it said so"
            while True:
                children = psutil.Process(process.pid).children(recursive=True)
                if family <= {argument for child in children for argument in words(child)}:
                    break
                await asyncio.sleep(0.02)
            process.send_signal(number)
            # it takes as long as the last one who has its stdout: a player left behind would be awaited, not found
            code = await asyncio.wait_for(process.wait(), GONE_S if number == signal.SIGKILL else 30)
        _, left = await asyncio.to_thread(psutil.wait_procs, children, GONE_S if number == signal.SIGKILL else 0)
        return code, left, list(tmp_path.iterdir())
    finally:
        for child in children:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
        if process.returncode is None:
            process.kill()
            await process.wait()


def words(process: psutil.Process) -> list[str]:
    """Its command line and, where that is a program's path, its name; nothing when it has just gone."""
    try:
        line: list[str] = process.cmdline()
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return []
    return [Path(line[0]).name, *line[1:]] if line else []


PUBLISHING = {"ffmpeg", "impair", "-re"}
STAGES = [
    pytest.param(DEMO, "three relays are up", {"ffmpeg", "impair"}, id="making the source", marks=needs_ffmpeg),
    pytest.param(DEMO, "ffmpeg listens", PUBLISHING, id="publishing", marks=needs_ffmpeg),
    pytest.param(MESH, "sh-1", set(), id="a mesh"),
]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize(("arguments", "said", "family"), STAGES)
async def test_a_signal_takes_every_process_and_file_along(
    tmp_path: Path, arguments: tuple[str, ...], said: str, family: set[str], number: signal.Signals
) -> None:
    code, left, files = await interrupted(tmp_path, arguments, said, family, number)
    assert (left, files) == ([], [])
    assert code == (0 if arguments is MESH else 128 + number)


@pytest.mark.parametrize(("arguments", "said", "family"), STAGES[1:])
async def test_a_killed_demo_leaves_no_process_behind(
    tmp_path: Path, arguments: tuple[str, ...], said: str, family: set[str]
) -> None:
    code, left, _ = await interrupted(tmp_path, arguments, said, family, signal.SIGKILL)
    assert (code, left) == (-signal.SIGKILL, [])


# -- the judge --------------------------------------------------------------------------------------------------------

IMPAIRED: dict[str, Any] = {"a_to_b": {"in": 200, "lost": 10}, "b_to_a": {"in": 100, "lost": 5}, "loss_pct": 5.0}
NO_HOP: dict[str, Any] = {"p50": None, "p99": None, "max": None}
HOP: dict[str, Any] = {"p50": 20.54, "p99": 31.26, "max": 40.0}


def status(accepted: int, sent: int, hop: dict[str, Any]) -> dict[str, Any]:
    totals = {"media_accepted": accepted, "fan_sent": sent, "kcp_retrans_timeout": 1, "kcp_retrans_fast": 2}
    return {"totals": totals, "ledgers": {"media": 0}, "hop_delay_ms": hop}


def carried() -> Carried:
    """Three pictures, two audio packets; in five RTP packets and one of RTCP; nothing wrong with it."""
    counter = Counter()
    for seq in range(5):
        counter.datagram_received(struct.pack(">BBHII", 0x80, 96, seq, 0, 1), ("127.0.0.1", 1))
    counter.datagram_received(struct.pack(">BBHIBBH", 0x80, 201, 1, 0, 0x80, 203, 0), ("127.0.0.1", 1))
    statuses = {"bj-1": status(6, 6, NO_HOP), "sh-1": status(6, 6, HOP), "gz-1": status(6, 12, HOP)}
    pictures, sounds = ["p1", "p2", "p3"], ["s1", "s2"]
    kinds = frozenset({"video", "audio"})
    return Carried(pictures, [*pictures], sounds, [*sounds], counter, statuses, kinds)


def judged(case: Carried, impaired: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> tuple[int, list[str]]:
    """The exit code and the steps."""
    code = _judge(Talk(as_json=True), case, impaired)
    return code, [json.loads(line)["step"] for line in capsys.readouterr().out.splitlines()]


def test_the_judge_has_nothing_against_what_arrived_whole(capsys: pytest.CaptureFixture[str]) -> None:
    code, steps = judged(carried(), IMPAIRED, capsys)
    assert (code, steps[-1]) == (0, "every frame arrived, none damaged")


def repeat_a_packet(case: Carried) -> None:
    case.counter.datagram_received(struct.pack(">BBHII", 0x80, 96, 3, 0, 1), ("127.0.0.1", 1))


FAULTS: dict[str, tuple[Callable[[Carried], object], str]] = {
    "a picture is missing": (lambda case: case.got_video.pop(), "3 pictures sent, 2 decoded"),
    "a picture is damaged": (lambda case: case.got_video.__setitem__(1, "p?"), "or one is damaged"),
    "an audio packet is missing": (lambda case: case.got_audio.pop(), "2 audio packets sent, 1 came"),
    "an audio packet is damaged": (lambda case: case.got_audio.__setitem__(0, "s?"), "or one is damaged"),
    "no video": (lambda case: (case.sent_video.clear(), case.got_video.clear()), "no video was sent"),
    "no audio": (lambda case: (case.sent_audio.clear(), case.got_audio.clear()), "no audio was sent"),
    "a packet came twice": (repeat_a_packet, "got 1 twice"),
    "an RTCP packet is missing": (lambda case: setattr(case.counter, "rtcp", 0), "5 of RTP and 0 of RTCP"),
    "nothing was taken": (lambda case: case.status.update({"bj-1": status(0, 0, NO_HOP)}), "the origin took 0"),
    "one subscriber got less": (lambda case: case.status.update({"gz-1": status(6, 11, HOP)}), "were sent 11"),
    "a ledger is off": (lambda case: case.status["sh-1"]["ledgers"].update(media=1), "sh-1: packets in and out"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_judge_finds_every_fault_and_says_which(fault: str, capsys: pytest.CaptureFixture[str]) -> None:
    case = carried()
    harm, said = FAULTS[fault]
    harm(case)
    code, steps = judged(case, copy.deepcopy(IMPAIRED), capsys)
    assert code == 1
    assert any(step.startswith("FAILED: ") and said in step for step in steps)


@pytest.mark.parametrize("percent", [0.0, 2.99, 7.01])
def test_the_judge_wants_a_link_that_was_really_bad(percent: float, capsys: pytest.CaptureFixture[str]) -> None:
    code, steps = judged(carried(), {**IMPAIRED, "loss_pct": percent}, capsys)
    assert (code, steps[-1]) == (1, f"FAILED: the impairer dropped {percent:.2f} %, not 3-7 %")
    assert judged(carried(), {}, capsys)[0] == 1


# -- what it says -----------------------------------------------------------------------------------------------------


def test_machines_get_numbers_and_maps(capsys: pytest.CaptureFixture[str]) -> None:
    _judge(Talk(as_json=True), carried(), IMPAIRED)
    rows = {row["step"]: row for row in map(json.loads, capsys.readouterr().out.splitlines())}
    assert rows["sh-1"]["hop_delay_ms"] == HOP
    assert "hop_delay_ms" not in rows["bj-1"]
    dropped = rows["the impairer dropped"]
    assert (dropped["percent"], dropped["a_to_b"], dropped["b_to_a"]) == (
        5.0, {"in": 200, "lost": 10}, {"in": 100, "lost": 5},
    )  # fmt: skip


def test_people_get_lines(capsys: pytest.CaptureFixture[str]) -> None:
    assert _judge(Talk(as_json=False), carried(), IMPAIRED) == 0
    said = [line.split(" s  ", 1)[1] for line in capsys.readouterr().out.splitlines()]
    assert said == [
        "pictures decoded at gz-1  sent 3  decoded 3  equal 3",
        "audio packets at gz-1  sent 2  received 2  equal 2",
        "counting subscriber  packets 5  missing 0  repeated 0",
        "bj-1  packets in 6  packets out 6  retransmitted 3",
        "sh-1  packets in 6  packets out 6  retransmitted 3  hop delay ms p50 20.5 p99 31.3 max 40.0",
        "gz-1  packets in 6  packets out 12  retransmitted 3  hop delay ms p50 20.5 p99 31.3 max 40.0",
        "the impairer dropped  percent 5.00  a to b 10 of 200  b to a 5 of 100",
        "every frame arrived, none damaged",
    ]
    assert _shown({"ip": "127.0.0.1", "port": 50729}) == "127.0.0.1:50729"
    assert _shown(["bj-1", "sh-1"]) == "bj-1 -> sh-1"


BAR = """
import time
from relay.demo import Talk
talk = Talk(as_json=False)
with talk.bar("publishing", 1.0) as move:
    for tenth in range(5):
        move(tenth / 10)
        time.sleep(0.1)
talk.step("sent", packets=5)
"""


async def shown_by_the_bar(out: int) -> None:
    env = {
        name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE")
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", BAR, stdin=asyncio.subprocess.DEVNULL, stdout=out, env={**env, "TERM": "xterm"}
    )
    assert await asyncio.wait_for(process.wait(), 20) == 0


async def test_a_terminal_sees_a_bar() -> None:
    ours, theirs = pty.openpty()
    try:
        await shown_by_the_bar(theirs)
        os.set_blocking(ours, False)
        shown = os.read(ours, 1 << 16).decode()
    finally:
        os.close(ours)
        os.close(theirs)
    assert "publishing" in shown
    assert "━━━" in shown
    assert "\x1b[" in shown
    assert "sent  packets 5" in shown


async def test_a_file_sees_plain_lines(tmp_path: Path) -> None:
    path = tmp_path / "out.txt"
    with path.open("wb") as out:
        await shown_by_the_bar(out.fileno())
    (line,) = path.read_text().splitlines()
    assert line.endswith(" s  sent  packets 5")
