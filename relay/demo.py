"""``zrelay dev --demo``: real video through three relays and a bad link, and what came out of it.

    ffmpeg ──RTP──▶ bj-1 ══ 5 % loss, 20 ms ══▶ sh-1 ──▶ gz-1 ──RTP──▶ ffmpeg (into a file)
                                                           └──RTP──▶ counting subscriber

Prints only what it measured. Fails when a frame is missing or damaged: decoded pictures are compared by hash, audio
packets byte for byte, and the impairer must really have dropped 3 to 7 %.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from relay import ffmpeg
from relay.dev import DevMesh, Impaired
from relay.passage import Carried, Passage
from relay.units import Address

STREAM = "demo/camera"
SECONDS = 10.0
LOSS_RANGE_PCT = (3.0, 7.0)
LINK = ["--loss", "5%", "--delay", "20ms", "--seed", "1"]


class Talk:
    """One line per step with its time; a bar on a terminal, plain lines elsewhere, JSON lines for machines."""

    def __init__(self, as_json: bool) -> None:
        self._json = as_json
        self._start = time.monotonic()
        self._console = Console(file=sys.stderr if as_json else sys.stdout, highlight=False)

    def step(self, text: str, **figures: Any) -> None:
        """A finished step. Figures are raw: machines get them as they are, people as `_shown` writes them."""
        at = time.monotonic() - self._start
        if self._json:
            print(json.dumps({"at_s": round(at, 3), "step": text, **figures}), flush=True)
        else:
            said = "  ".join(f"{key.replace('_', ' ')} {_shown(value)}" for key, value in figures.items())
            self._console.print(f"{at:6.2f} s  {text}" + (f"  {said}" if said else ""), soft_wrap=True, markup=False)

    @contextmanager
    def bar(self, text: str, seconds: float) -> Iterator[Any]:
        """A function that moves the bar to a number of seconds; quiet when nobody watches."""
        if self._json or not self._console.is_terminal:
            yield lambda done: None
            return
        columns = (TextColumn("          {task.description}"), BarColumn(), TimeElapsedColumn())
        with Progress(*columns, console=self._console, transient=True) as progress:
            task = progress.add_task(text, total=seconds)
            yield lambda done: progress.update(task, completed=min(done, seconds))


def _shown(value: Any) -> str:
    """A figure as people read it."""
    match value:
        case {"ip": ip, "port": port}:
            return str(Address(ip, port))
        case {"p50": p50, "p99": p99, "max": most}:
            return f"p50 {p50:.1f} p99 {p99:.1f} max {most:.1f}"
        case {"in": came, "lost": lost}:
            return f"{lost} of {came}"
        case list():
            return " -> ".join(value)
        case float():
            return f"{value:.2f}"
    return str(value)


async def demo(*, as_json: bool = False, relays: int = 3, seconds: float = SECONDS) -> int:
    """Runs it; 0 when every frame came through, 1 otherwise."""
    talk = Talk(as_json)
    if relays != 3:
        talk.step("the demo is a chain of three relays; --relays is ignored")
    bad = Impaired(near="bj-1", far="sh-1", options=LINK)
    async with DevMesh(3, impaired=[bad]) as mesh:
        talk.step("three relays are up: bj-1, sh-1, gz-1; 5 % loss and 20 ms each way between bj-1 and sh-1")
        source = mesh.folder / "source.mkv"
        await ffmpeg.make_source(source, seconds)
        talk.step(f"source made: {seconds:g} s of 720p30 H.264 and Opus")
        async with Passage(mesh, STREAM, [ffmpeg.TRACK_V0, ffmpeg.TRACK_A0]) as passage:
            await passage.publish()
            talk.step(f"stream {STREAM} registered at bj-1", ingress=passage.ingress._asdict())
            view = await passage.subscribe()
            talk.step("two subscribers at gz-1, the way stands", route=view["route"])
            await passage.listen()
            talk.step("ffmpeg listens at gz-1, opened from gz-1's SDP")
            with talk.bar("publishing", seconds) as move:
                await passage.send(ffmpeg.publish_arguments(source, passage.ingress), on_progress=move)
            talk.step("ffmpeg has sent everything")
            carried = await passage.finish(source)
        impaired = impairer_counts(await mesh.stop_impairer(bad))
        return _judge(talk, carried, impaired)


def impairer_counts(printed: str) -> dict[str, Any]:
    """The final counts of ``zrelay impair --json``: its last line."""
    lines = [line for line in printed.splitlines() if line.startswith("{")]
    final: dict[str, Any] = json.loads(lines[-1]) if lines else {}
    return final


def _judge(talk: Talk, carried: Carried, impaired: dict[str, Any]) -> int:
    """Prints the figures and what is wrong with them."""
    sent, got = carried.sent_video, carried.got_video
    talk.step("pictures decoded at gz-1", sent=len(sent), decoded=len(got), equal=_equal(sent, got))
    sent, got = carried.sent_audio, carried.got_audio
    talk.step("audio packets at gz-1", sent=len(sent), received=len(got), equal=_equal(sent, got))
    counter = carried.counter
    talk.step("counting subscriber", packets=counter.packets, missing=counter.missing, repeated=counter.repeated)
    for name, status in carried.status.items():
        totals = status["totals"]
        talk.step(
            f"{name}", packets_in=totals["media_accepted"], packets_out=totals["fan_sent"],
            retransmitted=totals["kcp_retrans_timeout"] + totals["kcp_retrans_fast"], **_delays(status),
        )  # fmt: skip
    wrong = carried.faults()
    percent = impaired.get("loss_pct", 0.0)
    low, high = LOSS_RANGE_PCT
    talk.step("the impairer dropped", percent=percent, **{
        way: counts for way, counts in impaired.items() if isinstance(counts, dict)
    })  # fmt: skip
    if not low <= percent <= high:
        wrong.append(f"the impairer dropped {percent:.2f} %, not {low:g}-{high:g} %")
    for reason in wrong:
        talk.step(f"FAILED: {reason}")
    if not wrong:
        talk.step("every frame arrived, none damaged")
    return 1 if wrong else 0


def _equal(sent: list[str], got: list[str]) -> int:
    return sum(a == b for a, b in zip(sent, got, strict=False))


def _delays(status: dict[str, Any]) -> dict[str, Any]:
    """Of the hop that ends at this relay; nothing at the origin."""
    hop = status["hop_delay_ms"]
    if hop["p50"] is None:
        return {}
    return {"hop_delay_ms": hop}
