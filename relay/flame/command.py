"""``zrelay flame``, and ``zrelay profile``, which is the same on a worker of a running relay."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from relay import ask
from relay.ask import fail
from relay.flame import speedscope, svg, table
from relay.flame.record import HZ, FlameError, Recording, Target, record_perf, record_python
from relay.flame.stacks import Stacks, folded, from_folded

ANSWER_S = 15.0  # whoever samples a relay may do so because it is slow
_VERSION = 1  # of the JSON


def _relay_options(command: Any) -> Any:
    for option in (
        click.option("--json", "as_json", is_flag=True, help="The figures as JSON on stdout."),
        click.option("--text", is_flag=True, help="The functions on top, as a table on stdout."),
        click.option("--out", "prefix", default="flame", show_default=True, help="PREFIX.folded, PREFIX.svg, ..."),
        click.option("--seconds", default=5.0, show_default=True, type=click.FloatRange(0.1, 3600)),
        click.option("--worker", default=None, type=click.IntRange(0, 62), help="Of a running relay; the default: 0."),
    ):
        command = option(command)
    return ask.relay_options(command)


@click.command(short_help="A flame graph: where a worker, a process or a command spends its time.")
@_relay_options
@click.option("--pid", default=None, type=click.IntRange(1), help="Any process.")
@click.option("--cmd", default=None, help="A command to start, and to end after --seconds.")
@click.option("--from", "source", default=None, help="No sampling: read this .folded file.")
@click.option("--unwind", type=click.Choice(["fp", "dwarf"]), default="fp", show_default=True)
@click.option("--inline", is_flag=True, help="Name inlined functions too; wants addr2line.")
@click.option(
    "--hz", default=HZ, show_default=True, type=click.IntRange(1, 20_000), help="Samples a second and CPU; py-spy: 199."
)
@click.option("--python", "with_python", is_flag=True, help="Python's frames, by py-spy.")
@click.option("--diff", "old_path", default=None, help="An older .folded file: PREFIX.diff.svg shows what changed.")
def flame(
    path: str | None, api: str | None, worker: int | None, seconds: float, prefix: str, text: bool, as_json: bool,
    pid: int | None, cmd: str | None, source: str | None, unwind: str, inline: bool, hz: int, with_python: bool,
    old_path: str | None,
) -> None:  # fmt: skip
    """Samples on-CPU stacks into PREFIX.folded, PREFIX.svg and PREFIX.speedscope.json (https://www.speedscope.app).

    Needs perf (Debian: linux-perf). Without hardware counters it samples cpu-clock and says so. Exit codes: 0 ok,
    1 failed, 2 usage, 4 no relay answers.
    """
    if sum(given is not None for given in (worker, pid, cmd, source)) > 1:
        raise click.UsageError("give one of --worker, --pid, --cmd and --from")
    try:
        old = None if old_path is None else _read(old_path)
        if source is not None:
            recording = Recording(_read(source), hz, 0.0)
            target = Target(title=source)
        else:
            target = _target(path, api, worker, pid, cmd)
            click.echo(f"sampling {target.title} for {seconds:g} s", err=True)
            recording = (
                record_python(target, seconds)
                if with_python
                else record_perf(target, seconds, hz=hz, unwind=unwind, inline=inline)
            )
        files = _write(prefix, recording, target.title, old)
    except FlameError as error:
        fail(1, str(error))
    except OSError as error:
        fail(1, f"{error.filename or prefix}: {error.strerror or error}")
    figures = _figures(recording, target.title, files)
    if as_json:
        click.echo(json.dumps(figures))
    elif text:
        click.echo(table.text(recording.stacks))
    _say(figures)


@click.command(short_help="A flame graph of a running relay's worker.")
@_relay_options
@click.pass_context
def profile(context: click.Context, /, **given: Any) -> None:
    """As `zrelay flame --worker N`."""
    context.invoke(flame, **{**given, "worker": given["worker"] or 0})


def _target(path: str | None, api: str | None, worker: int | None, pid: int | None, cmd: str | None) -> Target:
    from relay.flame import target

    if cmd is not None:
        return target.of_command(cmd)
    if pid is not None:
        return target.of_pid(pid)
    return target.of_worker(worker or 0, ask.status(ask.client(path, api, ANSWER_S)))


def _read(path: str) -> Stacks:
    try:
        with open(path, encoding="utf-8", errors="replace") as lines:
            stacks = from_folded(lines)
    except OSError as error:
        raise FlameError(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise FlameError(f"{path}: {error}: it is no .folded file") from None
    if not stacks.counts:
        raise FlameError(f"{path}: holds no samples")
    return stacks


def _write(prefix: str, recording: Recording, name: str, old: Stacks | None) -> list[str]:
    """The files' paths."""
    stacks = recording.stacks
    title = f"{name} · " + (f"{recording.seconds:g} s · " if recording.seconds else "") + f"{stacks.samples} samples"
    title += f" · {stacks.event}" if stacks.event else ""
    texts = {
        ".folded": "".join(f"{line}\n" for line in folded(stacks)),
        ".svg": svg.flame_graph(stacks, title),
        ".speedscope.json": json.dumps(speedscope.document(stacks, name, recording.hz)),
    }
    if old is not None:
        if stacks.has_inlined() != old.has_inlined():  # --inline was given once only: what both know is compared
            stacks, old = stacks.without_inlined(), old.without_inlined()
        texts[".diff.svg"] = svg.flame_graph(stacks, f"{title} · against {old.samples} samples before", old)
    paths = []
    for ending, text in texts.items():
        paths.append(prefix + ending)
        Path(paths[-1]).write_text(text, encoding="utf-8")
    return paths


def _figures(recording: Recording, name: str, files: list[str]) -> dict[str, Any]:
    stacks = recording.stacks
    in_kernel, nameless = stacks.in_kernel()
    return {
        "version": _VERSION, "target": name, "event": stacks.event, "seconds": recording.seconds, "hz": recording.hz,
        "samples": stacks.samples, "resolved": stacks.resolved(), "resolved_pct": stacks.resolved_pct(),
        "kernel_samples": in_kernel, "kernel_unresolved": nameless,
        "notes": recording.notes, "files": files,
        "top": [{"function": row.name, "own": row.own, "total": row.total} for row in table.top(stacks)],
    }  # fmt: skip


def _say(figures: dict[str, Any]) -> None:
    for note in figures["notes"]:
        click.echo(f"note: {note}", err=True)
    lost = f", {figures['kernel_unresolved']} of them nameless" if figures["kernel_unresolved"] else ""
    click.echo(
        f"{figures['samples']} samples, {figures['resolved_pct']:.2f} % in named functions; "
        f"{figures['kernel_samples']} in the kernel{lost}",
        err=True,
    )
    click.echo(f"wrote {' '.join(figures['files'])}", err=True)
