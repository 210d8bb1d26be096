"""A worker's main: ``python -m relay.worker --boot FD``, started by the supervisor, never by hand.

Begins as a spare: reads its boot map, makes all its memory, and waits in the C core for the order to be one of the
workers. From there to its first packet no Python runs that matters.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
from typing import Any

import msgpack

from relay import __version__, _core
from relay.errors import CoreError

EXIT_INTERNAL = 70


def boot_worker(boot: dict[str, Any]) -> _core.Worker:
    """The worker that the boot map describes, without a place yet. CoreError when a size is out of range."""
    return _core.Worker(
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


def take_place(worker: _core.Worker, boot: dict[str, Any]) -> bool:
    """Waits until it is somebody; what belongs to others is closed. False: nobody needs it any more."""
    places = [(place["lane"], place["name"], place["fds"]) for place in boot["places"]]
    taken = worker.stand_by(boot["ctl"], places)
    if taken < 0:
        return False
    kept = {*places[taken][2].values(), *(wake for _, wake in boot["peers"])}
    for _, _, fds in places:
        for fd in set(fds.values()) - kept:
            os.close(fd)
            kept.add(fd)
    return True


def stay_near(cpus: list[int]) -> None:
    """Before memory is touched, which then lies on their node; the supervisor may pin to one CPU later."""
    try:
        os.sched_setaffinity(0, cpus)
    except OSError as error:
        print(f"WARN not near the card, on CPU {', '.join(map(str, cpus))}: {error.strerror}", file=sys.stderr)


def leave_no_core() -> None:
    """Lanes hold secrets of sessions. 1 byte, not 0: the kernel then starts no program that takes cores either.

    The process stays one that its own user may trace: `zrelay flame` would be root's alone otherwise.
    """
    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    most = 1 if hard == resource.RLIM_INFINITY else min(hard, 1)
    resource.setrlimit(resource.RLIMIT_CORE, (most, most))


def main() -> int:
    if len(sys.argv) != 3 or sys.argv[1] != "--boot":
        print("relay.worker: started by the supervisor, never by hand", file=sys.stderr)
        return 2
    with os.fdopen(int(sys.argv[2]), "rb") as file:
        file.seek(0)
        boot = msgpack.unpackb(file.read())
    if boot["version"] != __version__:
        print(f"zr-worker: version {__version__}, supervisor {boot['version']}: restart the relay", file=sys.stderr)
        return EXIT_INTERNAL

    # The supervisor decides when we go: Ctrl-C reaches the whole terminal, a SIGHUP is about configuration.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # the core takes it from a signalfd
    with open("/proc/self/comm", "w") as comm:
        comm.write("zr-spare")
    if boot["sealed"]:
        leave_no_core()
    if boot["near"]:
        stay_near(boot["near"])
    try:
        worker = boot_worker(boot)
        if not worker.pin() and boot["warn"]:
            print("WARN memory may be paged out: raise LimitMEMLOCK= or ulimit -l", file=sys.stderr)
        if take_place(worker, boot):
            worker.run()
    except (CoreError, OSError) as error:
        print(f"zr-worker: {error}", file=sys.stderr)
        return EXIT_INTERNAL
    return 0


if __name__ == "__main__":
    sys.exit(main())
