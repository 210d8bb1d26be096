"""Where the agent's HTTP API is reached: a TCP port and a Unix socket."""

from __future__ import annotations

import errno
import os

from aiohttp import web

from relay import hostinfo
from relay.sockets import EXIT_OS, EXIT_PERMISSION, StartError, remove_stale_socket
from relay.units import Address

NOT_OTHERS = 0o117  # a mask: the socket is 0660 from its first moment on


async def open_sites(runner: web.AppRunner, api: Address, path: str) -> None:
    """Both, for the life of `runner`. StartError when the port or the socket cannot be had."""
    try:
        await web.TCPSite(runner, api.ip, api.port, shutdown_timeout=1.0).start()
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            holder = hostinfo.tcp_holder(api.port)
            by = f" by {holder}" if holder else ""
            raise StartError(EXIT_OS, f"TCP {api} is in use{by}: set listen.api to a free port") from None
        raise StartError(_os_exit(error), f"TCP {api}: {error.strerror}: check listen.api") from None
    try:
        remove_stale_socket(path)
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        before = os.umask(NOT_OTHERS)
        try:
            await web.UnixSite(runner, path, shutdown_timeout=1.0).start()
        finally:
            os.umask(before)
        os.chmod(path, 0o660)  # also where the operator's mask was stricter
    except OSError as error:
        raise StartError(_os_exit(error), f"{path}: {error.strerror}: listen.socket must be writable") from None


def _os_exit(error: OSError) -> int:
    return EXIT_PERMISSION if error.errno in (errno.EACCES, errno.EPERM) else EXIT_OS
