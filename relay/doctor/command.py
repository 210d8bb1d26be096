"""``zrelay doctor``."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import click

from relay.config import Config, ConfigError, load
from relay.doctor import checks, report
from relay.doctor.facts import Facts, from_json, to_json

EX_FAILED, EX_FINDINGS = 1, 3


@click.command(short_help="What this host lacks for the data path, each with its fix.")
@click.option("-c", "--config", "path", default=None, help="The relay's configuration file.")
@click.option("--check", "words", multiple=True, metavar="N", help="Only this one: number, name, or its beginning.")
@click.option("--json", "as_json", is_flag=True, help="Findings as JSON.")
@click.option("--print-fixes", is_flag=True, help="All fixes as a shell script.")
@click.option("--plain", is_flag=True, help="No colours; also without a terminal, and with NO_COLOR.")
@click.option("--facts", "source", default=None, help="Judge what --save-facts kept, here or elsewhere.")
@click.option("--save-facts", "target", default=None, help="Keep what was seen as JSON.")
def doctor(
    path: str | None, words: tuple[str, ...], as_json: bool, print_fixes: bool, plain: bool, source: str | None,
    target: str | None,
) -> None:  # fmt: skip
    """Looks at sockets, cards, CPUs, kernel and profiling, and changes nothing. Needs no rights; root sees more.

    Exit codes: 0 nothing found, 3 findings (WARN or FAIL), 1 the doctor itself failed, 2 usage, 78 bad configuration.
    """
    try:
        names = [name for word in words for name in checks.chosen(word)] or None
    except ValueError as error:
        raise click.UsageError(f"--check {error}") from None
    began = time.monotonic()
    try:
        facts = _facts(path, source)
        if target is not None:
            Path(target).write_bytes(to_json(facts))
    except ConfigError as error:
        click.echo(f"zrelay: {error}", err=True)
        sys.exit(error.exit_code)
    except OSError as error:
        click.echo(f"zrelay: {error.filename or 'doctor'}: {error.strerror or error}", err=True)
        sys.exit(EX_FAILED)
    except ValueError as error:  # msgspec's errors too
        click.echo(f"zrelay: {source}: {error}: give what --save-facts wrote", err=True)
        sys.exit(EX_FAILED)
    findings = checks.run(facts, names)
    seconds = time.monotonic() - began
    if as_json:
        click.echo(json.dumps(report.as_json(findings, facts.relay.id, seconds)))
    elif print_fixes:
        click.echo(report.script(findings, facts.relay.id), nl=False)
    else:
        colour = not plain and not os.environ.get("NO_COLOR") and sys.stdout.isatty()
        click.echo(report.screen(findings, facts.relay.id, seconds, colour=colour))
    sys.exit(EX_FINDINGS if any(finding.level in ("warn", "fail") for finding in findings) else 0)


def _facts(path: str | None, source: str | None) -> Facts:
    if source is not None:
        return from_json(Path(source).read_bytes())
    from relay.doctor.gather import gather

    return gather(load(path) if path else Config())
