"""The command ``zrelay``. Imports are late, inside each verb: ``zrelay --help`` must answer at once.

Exit codes: 0 ok, 1 failed, 2 usage, 3 findings, 4 relay not reachable, 70 internal, 71 operating system, 77 permission,
78 bad configuration, 128 + n a demo ended by signal n, 141 nobody reads our stdout. Data goes to stdout, talk to
stderr.
"""

from __future__ import annotations

import difflib
import importlib
import json
import os
import sys
from typing import TYPE_CHECKING, Any

import click

from relay import ask
from relay.ask import config_of, fail, relay_options

if TYPE_CHECKING:
    from collections.abc import Coroutine


EX_OS, EX_PIPE = 71, 141


class SuggestingGroup(click.Group):
    """Says which verb was probably meant, and finds verbs of other modules only when they are called.

    `elsewhere`: a verb's module and its line of help.
    """

    def __init__(self, *args: Any, elsewhere: dict[str, tuple[str, str]] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._elsewhere = elsewhere or {}

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in self._elsewhere:
            module = importlib.import_module(self._elsewhere[cmd_name][0])
            found: click.Command = getattr(module, cmd_name)
            return found
        return super().get_command(ctx, cmd_name)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*super().list_commands(ctx), *self._elsewhere])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            near = difflib.get_close_matches(args[0], self.list_commands(ctx), n=1)
            if not near:
                raise
            raise click.UsageError(f"{error.message} Did you mean {near[0]!r}?", ctx) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = [(name, command.get_short_help_str(80)) for name, command in sorted(self.commands.items())]
        rows += [(name, text) for name, (_, text) in self._elsewhere.items()]
        with formatter.section("Commands"):
            formatter.write_dl(sorted(rows))


class Program(SuggestingGroup):
    """All verbs. What the system refuses in the end is one line; whoever has closed our stdout wants no more of it."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            _drop_unwritten()
            sys.exit(EX_PIPE)
        except OSError as error:
            _drop_unwritten()
            fail(EX_OS, f"{error.filename}: {error.strerror}" if error.filename else f"{error.strerror or error}")


def _drop_unwritten() -> None:
    """What stdout does not take goes nowhere: the interpreter would try again at its end, and exit with 120 for it."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


_ELSEWHERE = {
    "impair": ("relay.impair", "Put a bad network between two relays: delay, loss, reordering, a full queue."),
    "doctor": ("relay.doctor.command", "What this host lacks for the data path, each with its fix."),
    "flame": ("relay.flame.command", "A flame graph: where a worker, a process or a command spends its time."),
    "profile": ("relay.flame.command", "A flame graph of a running relay's worker."),
    "keys": ("relay.keycommand", "Keys of sealed links: make, show, list, replace; sign the peer map."),
    "links": ("relay.linkcmd", "Peers: state, round trip, loss each way, jitter, path MTU; one of them in full."),
    "ping": ("relay.linkcmd", "Round trips to a peer, as the running relay's probes measure them."),
    "plan": ("relay.plan", "The memory, files and ports a configuration file asks for, before anything starts."),
}
_BENCH_ELSEWHERE = {
    "ab": ("relay.bench.ab", "Two builds by turns: faster, slower, or no difference shown."),
    "aging": ("relay.bench.aging", "Streams and subscribers come and go for hours: memory, files, delay stay flat."),
    "compare": ("relay.bench.compare", "Two result files, benchmark by benchmark; exit 3 on a regression."),
    "link": ("relay.bench.link", "An engine over an impaired link: what is missing, and what it costs."),
    "report": ("relay.bench.report", "Result files as one HTML page with plots."),
    "ring": ("relay.bench.ring", "A ring between two threads: cost of a record, of a crossing, of a wake-up."),
    "fanout": ("relay.bench.fanout", "One stream to many: CPU per packet, beside a bare loop and GStreamer."),
    "hop": ("relay.bench.hop", "One hop between relays: CPU per packet, beside bare forwarders and SRT."),
    "run": ("relay.bench.run", "Load on a relay: publishers, subscribers, a ramp, loss; every packet verified."),
}


@click.group(
    cls=Program,
    elsewhere=_ELSEWHERE,
    context_settings={"help_option_names": ["-h", "--help"]},
    no_args_is_help=False,
)
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=lambda *given: _version_flag(*given)
)
def main() -> None:
    """The relay of a live-media mesh: streams in by RTP, relay to relay over KCP, out by RTP.

    First steps:  zrelay dev --demo      then:  zrelay run -c relay.toml
    """


def _version_flag(ctx: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from relay import __version__

        click.echo(f"zrelay {__version__}")
        ctx.exit()


@main.command()
@click.option("-c", "--config", "path", default=None, help="The configuration file; without one: loopback defaults.")
@click.option("--die-with-parent", is_flag=True, hidden=True)
def run(path: str | None, die_with_parent: bool) -> None:
    """Run a relay in the foreground."""
    config = config_of(path)
    from relay.plan import EX_CONFIG, Plan
    from relay.supervisor import StartError, Supervisor, SupervisorConf

    too_much = Plan.of(config).too_much()
    if too_much is not None:
        fail(EX_CONFIG, too_much)
    try:
        code = Supervisor(SupervisorConf.of(config, path, die_with_parent=die_with_parent)).run()
    except StartError as error:
        fail(error.exit_code, str(error))
    sys.exit(code)


@main.command()
@click.option("--relays", default=3, show_default=True, type=click.IntRange(1, 8), help="How many, in a chain.")
@click.option("--workers", default=1, show_default=True, type=click.IntRange(1, 8), help="Workers of each relay.")
@click.option("--demo", "with_demo", is_flag=True, help="Send real video through three relays and a bad link.")
@click.option("--json", "as_json", is_flag=True, help="JSON lines instead of text.")
def dev(relays: int, workers: int, with_demo: bool, as_json: bool) -> None:
    """A mesh on this machine: relays in a chain on loopback."""
    import asyncio

    from relay.ffmpeg import MissingTool

    try:
        if with_demo:
            from relay.demo import demo

            code = asyncio.run(_until_signal(demo(as_json=as_json, relays=relays)))
        else:
            asyncio.run(_until_signal(_dev(relays, workers, as_json)))
            code = 0  # a signal is how a mesh ends
    except (RuntimeError, OSError, TimeoutError, MissingTool) as error:
        fail(1, f"{error or type(error).__name__}")
    sys.exit(code)


async def _until_signal(work: Coroutine[Any, Any, int]) -> int:
    """``work``, cancelled by the first signal, so that it takes its processes and files along; then 128 + signal."""
    import asyncio
    import signal

    task = asyncio.ensure_future(work)
    came: list[int] = []

    def end(number: int) -> None:
        if not came:  # a second cancellation would leave behind what the first one is clearing away
            task.cancel()
        came.append(number)

    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup
        numbers.append(signal.SIGHUP)
    for number in numbers:
        asyncio.get_running_loop().add_signal_handler(number, end, number)
    try:
        return await task
    except asyncio.CancelledError:
        if not came:
            raise
        return 128 + came[0]


async def _dev(relays: int, workers: int, as_json: bool) -> int:
    import asyncio

    from relay.dev import DevMesh

    async with DevMesh(relays, workers=workers) as mesh:
        for relay in mesh.relays:
            config = str(relay.config_path)
            facts = {"relay": relay.name, "api": relay.api_url, "data": str(relay.data), "config": config}
            if as_json:
                click.echo(json.dumps(facts))
            else:
                click.echo(f"{relay.name:6} api {relay.api_url}  data {relay.data}  {relay.config_path}")
        if not as_json:
            first, last = mesh.relays[0], mesh.relays[-1]
            click.echo("\nPublish at one end, subscribe at the other:", err=True)
            click.echo(
                f"  curl -X PUT {first.api_url}/v1/streams/cam1 -H 'Content-Type: application/json' -d "
                '\'{"epoch":1,"tracks":[{"id":"a0","kind":"audio","codec":"opus","payload_type":97,'
                '"clock_rate":48000,"channels":2}],"ingress":{"kind":"rtp","source":"learn"}}\'\n'
                f"  curl -X PUT {last.api_url}/v1/streams/cam1/subscribers/me -H 'Content-Type: application/json' -d "
                '\'{"kind":"rtp","address":"127.0.0.1:5004"}\'\nCtrl-C ends the mesh.',
                err=True,
            )
        await asyncio.Event().wait()  # until cancelled
    return 0


@main.command()
@relay_options
@click.option("--json", "as_json", is_flag=True, help="The whole status as JSON.")
def status(path: str | None, api: str | None, as_json: bool) -> None:
    """One screen: state, version, workers, links, streams, last errors."""
    answer = ask.status(ask.client(path, api))
    if as_json:
        click.echo(json.dumps(answer))
    else:
        from relay.status import screen

        click.echo(screen(answer))
    sys.exit(0 if answer["state"] == "ready" else 1)


@main.command()
@click.option("-c", "--config", "path", default=None, help="The file to check.")
@click.option("--strict", is_flag=True, help="Exit 3 when there are warnings.")
def check(path: str | None, strict: bool) -> None:
    """Validate a configuration file: keys, types, references, addresses, key files, the peer map."""
    config = config_of(path)
    from datetime import UTC, datetime

    from relay.config import check as check_config
    from relay.roster import examine
    from relay.sockets import StartError

    try:
        findings = check_config(config) + examine(config, datetime.now(UTC))
    except StartError as error:
        fail(error.exit_code, str(error))
    for finding in findings:
        click.echo(str(finding), err=True)
    warnings = sum(finding.level == "warning" for finding in findings)
    count = f", {warnings} warning{'s' if warnings > 1 else ''}" if warnings else ""
    click.echo(f"{path or 'defaults'}: ok{count}")
    sys.exit(3 if strict and warnings else 0)


@main.command()
@click.option("-c", "--config", "path", default=None, help="The relay's configuration file.")
@click.option("--json", "as_json", is_flag=True)
def ports(path: str | None, as_json: bool) -> None:
    """The ports to open in a firewall."""
    config = config_of(path)
    data = config.listen.data
    rows = [
        ("udp", f"{data.ip}", f"{data.port}", "other relays", "agent: session start and control"),
        *(
            ("udp", f"{data.ip}", f"{data.port + 1 + worker}", "other relays", f"worker {worker}: media")
            for worker in range(config.workers.count)
        ),
        ("udp", config.ingress.address, config.ingress.ports, "publishers", "RTP and RTCP, one port a stream"),
        ("tcp", config.listen.api.ip, f"{config.listen.api.port}", "operators, schedulers", "HTTP API, /metrics"),
    ]
    if as_json:
        keys = ("protocol", "address", "port", "from", "what")
        click.echo(json.dumps([dict(zip(keys, row, strict=True)) for row in rows]))
        return
    for protocol, address, port, who, what in rows:
        click.echo(f"{protocol}  {address:15} {port:13} from {who:22} {what}")


@main.command()
@click.option("--json", "as_json", is_flag=True)
def version(as_json: bool) -> None:
    """Version of this program and of what it is built on."""
    import platform

    from relay import __version__

    facts = {
        "zrelay": __version__,
        "python": platform.python_version(),
        "kernel": platform.release(),
        "machine": platform.machine(),
    }
    click.echo(json.dumps(facts) if as_json else "\n".join(f"{name} {value}" for name, value in facts.items()))


@main.group(cls=SuggestingGroup, elsewhere=_BENCH_ELSEWHERE)
def bench() -> None:
    """Measure, compare, report."""


if __name__ == "__main__":
    main(prog_name="zrelay")
