"""A worker's main: ``python -m relay.worker --boot FD``, started by the supervisor, never by hand.

Reads its boot map, pins itself if asked, enters the C core and stays there. Imports little: a successor must be fast.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

import msgpack

from relay import __version__, _core
from relay.errors import CoreError

EXIT_INTERNAL = 70


def boot_worker(boot: dict[str, Any]) -> _core.Worker:
    """The worker that the boot map describes. CoreError when a page or a descriptor is not what it should be."""
    fds = boot["fds"]
    return _core.Worker(
        lane=boot["lane"],
        chan_fd=fds["chan"],
        page_fd=fds["page"],
        link_fd=fds["link"],
        egress_fd=fds["egress"],
        fdpass_fd=fds["fdpass"],
        wake_fd=fds["wake"],
        agent_wake_fd=fds["agent_wake"],
        streams_max=boot["streams_max"],
        window=boot["window"],
        batch=boot["batch"],
        gso=boot["gso"],
        spin_ns=boot["spin_ns"],
        hold_ns=boot["hold_ns"],
        stop_signal=signal.SIGTERM,
        deadlines_ms=tuple(boot["deadlines_ms"]),
        residual=boot["residual"],
        max_overhead=boot["max_overhead"],
        overload_enter=tuple(boot["overload_enter"]),
        peers=boot["peers"],
    )


def main() -> int:
    if len(sys.argv) != 3 or sys.argv[1] != "--boot":
        print("relay.worker: started by the supervisor, never by hand", file=sys.stderr)
        return 2
    with os.fdopen(int(sys.argv[2]), "rb") as file:
        file.seek(0)
        boot = msgpack.unpackb(file.read())
    name = boot["name"]
    if boot["version"] != __version__:
        print(f"{name}: version {__version__}, supervisor {boot['version']}: restart the relay", file=sys.stderr)
        return EXIT_INTERNAL

    # The supervisor decides when we go: Ctrl-C reaches the whole terminal, a SIGHUP is about configuration.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # the core takes it from a signalfd
    with open("/proc/self/comm", "w") as comm:
        comm.write(name)
    if boot["cpu"] is not None:
        try:
            os.sched_setaffinity(0, {boot["cpu"]})
        except OSError as error:
            print(f"WARN {name} is not pinned to CPU {boot['cpu']}: {error.strerror}", file=sys.stderr)
    try:
        worker = boot_worker(boot)
    except (CoreError, OSError) as error:
        print(f"{name}: {error}", file=sys.stderr)
        return EXIT_INTERNAL
    worker.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
