"""Processes of a relay as its supervisor holds them: started with a boot map, watched by pidfd, reaped once."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import msgpack

START_AGAIN_S = 1.0  # after a start for which the system had no process, descriptor or memory
STEADY_S = 10.0  # who lived this long starts without back-off
_PR_SET_PDEATHSIG = 1
_PF_EXITING = 0x4  # of a task's flags: set before the kernel touches its robust list (zr_life.h)


@dataclass
class Backoff:
    """0 after a steady life, then `first_s`, doubling up to `most_s`."""

    first_s: float
    most_s: float
    now_s: float = 0.0

    def after(self, lived_s: float) -> float:
        """How long to wait before the next start."""
        wait_s = 0.0 if lived_s >= STEADY_S else self.now_s
        self.now_s = min(self.most_s, max(self.first_s, wait_s * 2))
        return wait_s


@dataclass
class Child:
    """A process slot: who runs there now, or when the next one may start."""

    name: str
    backoff: Backoff = field(default_factory=lambda: Backoff(0.1, 5.0))
    process: subprocess.Popen[bytes] | None = None
    pidfd: int = -1
    up: bool = False  # it has attached (worker) or said that it is ready (agent)
    ever_up: bool = False
    started_s: float = 0.0
    start_at_s: float = 0.0
    ours: socket.socket | None = None  # our end of its socket pair
    killed: bool = False  # it was sent SIGKILL

    @property
    def pid(self) -> int:
        return self.process.pid if self.process is not None else 0

    def spawn(self, command: tuple[str, ...], boot: dict[str, Any], fds: Iterable[int]) -> None:
        """Starts it; `fds` stay open in it under their numbers, besides the boot map's. OSError: nothing is left."""
        boot_fd = os.memfd_create("zr-boot", os.MFD_CLOEXEC)
        try:
            os.write(boot_fd, msgpack.packb(boot))
            process = subprocess.Popen(
                [*command, "--boot", str(boot_fd)], pass_fds=[boot_fd, *fds], stdin=subprocess.DEVNULL
            )
        finally:
            os.close(boot_fd)
        try:
            self.pidfd = os.pidfd_open(process.pid)
        except OSError:  # nobody would hear of its end
            process.kill()
            process.wait()
            raise
        self.process = process
        self.started_s = time.monotonic()

    def take_over(self, other: Child) -> None:
        """The other's process is ours from now on; its slot is empty."""
        self.process, self.pidfd, self.ours, self.started_s = other.process, other.pidfd, other.ours, time.monotonic()
        self.up, self.killed = False, other.killed
        other.process, other.pidfd, other.ours, other.up, other.killed = None, -1, None, False, False

    def hand_over(self, now: float) -> Child:
        """Its process has begun to end: who it was is free, the process a child of its own until it can be reaped."""
        ending = Child(self.name)
        ending.take_over(self)
        self.start_at_s = now + self.backoff.after(now - self.started_s)
        return ending

    def ends_within(self, seconds: float) -> bool:
        """It can be reaped; waits for this."""
        poll = select.poll()
        poll.register(self.pidfd, select.POLLIN)
        return bool(poll.poll(seconds * 1000))

    def died(self, now: float) -> int:
        """Reaps it, sets the back-off; its exit status as subprocess gives it (minus the signal)."""
        assert self.process is not None
        code = self.process.wait()
        os.close(self.pidfd)
        if self.ours is not None:
            self.ours.close()
        self.process, self.pidfd, self.ours, self.up, self.killed = None, -1, None, False, False
        self.start_at_s = now + self.backoff.after(now - self.started_s)
        return code

    def named(self) -> bool:
        """It has called itself by a name of ours: its interpreter has started."""
        with contextlib.suppress(OSError), open(f"/proc/{self.pid}/comm") as file:
            return file.read().startswith("zr-")
        return False

    def is_over(self) -> bool:
        """It runs no instruction of its own any more, in any thread: the kernel says so, not shared memory.

        It is ending, or has been sent SIGKILL and waits in the kernel for what no signal interrupts (state D, of a disk
        or a driver): when that is over, be it in hours, the signal comes before its next instruction. False also when
        /proc does not tell: then its pidfd will, when its memory is gone.
        """
        with contextlib.suppress(OSError, ValueError, IndexError), open(f"/proc/{self.pid}/stat", "rb") as file:
            words = file.read().rpartition(b")")[2].split()  # from "state", the third of proc_pid_stat(5), on
            ending = words[0] in (b"Z", b"X") or int(words[6]) & _PF_EXITING != 0
            return (ending or (self.killed and words[0] == b"D")) and int(words[17]) <= 1
        return False

    def send_signal(self, number: signal.Signals) -> None:
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.pidfd, number)
            self.killed = self.killed or number == signal.SIGKILL


def how(code: int) -> str:
    """An exit status in words."""
    return f"signal {-code}" if code < 0 else f"exit status {code}"


def say(text: str) -> None:
    """One line for the operator."""
    with contextlib.suppress(OSError):
        print(f"zrelay: {text}", file=sys.stderr, flush=True)


def die_with_parent() -> None:
    """SIGTERM when our parent goes: for relays that a tool started."""
    import ctypes

    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM))
