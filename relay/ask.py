"""What the verbs of the command line share that ask a running relay: how it is found, and how a question ends badly.

    @relay_options                                  --config and --api, as `path` and `api`
    def verb(path, api):
        found = answer(client(path, api), "/v1/links")

Exit codes as in relay.cli. Imports are late: ``zrelay --help`` passes here.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from relay.client import Client
    from relay.config import Config

EX_UNREACHABLE = 4
ANSWER_S = 3.0
_T = TypeVar("_T")


def fail(code: int, message: str) -> NoReturn:
    """One line on stderr, and the exit code."""
    click.echo(f"zrelay: {message}", err=True)
    sys.exit(code)


def config_of(path: str | None) -> Config:
    """That of the file, or the defaults; a bad file ends the command."""
    from relay.config import Config, ConfigError, load

    if path is None:
        return Config()
    try:
        return load(path)
    except ConfigError as error:
        fail(error.exit_code, str(error))


def relay_options(command: Any) -> Any:
    """The options by which a verb finds its relay; its function gets `path` and `api`."""
    for option in (
        click.option("--api", default=None, help="Its API, e.g. http://127.0.0.1:7481; default: its Unix socket."),
        click.option("-c", "--config", "path", default=None, help="Find the relay by its configuration file."),
    ):
        command = option(command)
    return command


def client(path: str | None, api: str | None, timeout_s: float = ANSWER_S) -> Client:
    """Of the relay at `api`, else at the Unix socket that the configuration file names."""
    from relay.client import Client

    return Client(api or "http://zrelay", socket=None if api else config_of(path).listen.socket, timeout_s=timeout_s)


def answer(relay: Client, what: str) -> Any:
    """Of one GET."""

    async def ask() -> Any:
        async with relay:
            return await relay.get(what)

    return outcome(ask())


def status(relay: Client) -> dict[str, Any]:
    """Of GET /v1/status; whoever answers something else is no relay."""
    found = answer(relay, "/v1/status")
    if not isinstance(found, dict) or not {"relay", "state", "workers"} <= found.keys():
        _unreachable(f"{relay.where}: this is not a relay")
    return found


def outcome(asking: Coroutine[Any, Any, _T]) -> _T:
    """What comes of a conversation; no relay, or one that refuses, ends the command."""
    import asyncio

    from relay.client import Unreachable
    from relay.errors import Problem

    try:
        return asyncio.run(asking)
    except Unreachable as error:
        _unreachable(str(error))
    except Problem as problem:
        fail(1, f"the relay refuses: {problem}")


def _unreachable(why: str) -> NoReturn:
    fail(EX_UNREACHABLE, f"no relay answers: {why}. Start one with: zrelay run -c FILE")
