"""The supervisor: opens every UDP socket and shared page, starts, watches and replaces workers and agent.

    link P (lane 63) ─┐                                     chan, page, wake: one of each per worker, for all its lives
    link P+1+i ───────┼─▶ worker i   ◀─ ingress sockets ─┐
    egress i ─────────┘                                  └─ "open_ingress" ◀─ agent (a socket pair, msgpack maps)

It speaks no HTTP and parses no packet; one poll loop, no threads. What it opened it keeps: a successor gets the same
sockets and pages. Only ingress sockets belong to the worker alone, and are opened again on the agent's request.
"""

from __future__ import annotations

import contextlib
import os
import random
import resource
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import msgpack

from relay import __version__, _core, hostinfo
from relay.config import Config
from relay.sockets import EXIT_OS, EXIT_PERMISSION, Sockets, StartError, lock_runtime_dir
from relay.units import Address

__all__ = ["StartError", "Supervisor", "SupervisorConf"]

EXIT_INTERNAL, EXIT_CONFIG = 70, 78
FATAL_CODES = (EXIT_INTERNAL, EXIT_OS, EXIT_PERMISSION, EXIT_CONFIG)
CHAN_SLOTS = 4096
STREAMS_PER_WORKER_MAX = 16384
FILES_SPARE = 1024  # beside a socket for each stream: connections to the API, pages, rings
BACKOFF_FIRST_S, BACKOFF_MAX_S = 0.1, 5.0
STEADY_S = 10.0  # who lived this long starts without back-off
STARTING_POLL_S = 0.005
AGENT_STOP_S = 2.0
WORKER_STOP_S = 2.0
FDPASS_TIMEOUT_S = 0.2
_FDPASS = struct.Struct("<IHH")
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class SupervisorConf:
    """What the supervisor needs of the configuration. `cpus`: worker i runs on cpus[i]; empty: nobody is pinned."""

    runtime_dir: str
    data: Address
    workers: int = 1
    cpus: tuple[int, ...] = ()
    batch: int = 64
    gso: bool = True
    gro: bool = True
    spin_ns: int = 0
    hold_ns: int = 0
    window: int = 1024  # segments per conversation
    deadlines_ms: tuple[int, int, int] = (400, 400, 400)  # audio, key frames, the rest
    residual: float = 1e-6
    max_overhead: float = 6.5
    overload_enter: tuple[float, ...] = (0.75, 0.85, 0.93, 0.98)  # share of time that is work, of levels 1 to 4
    receive_buffer: int = 0
    send_buffer: int = 0
    streams_max: int = 1024  # of one worker
    insecure_plaintext: bool = False
    config_path: str | None = None
    die_with_parent: bool = False
    agent_command: tuple[str, ...] = (sys.executable, "-m", "relay.node")

    @classmethod
    def of(cls, config: Config, path: str | None, *, die_with_parent: bool = False) -> SupervisorConf:
        """From a whole configuration; `path` is its file, for the agent."""
        workers = config.workers
        return cls(
            runtime_dir=config.node.runtime_dir,
            data=config.listen.data,
            workers=workers.count,
            cpus=workers.cpus,
            batch=workers.batch,
            gso=workers.gso,
            gro=workers.gro,
            spin_ns=workers.spin_ns,
            hold_ns=config.egress.hold_ns,
            window=config.links.window,
            deadlines_ms=config.links.deadlines_ms,
            residual=config.links.residual,
            max_overhead=config.links.max_overhead,
            overload_enter=tuple(config.limits.overload_enter),
            receive_buffer=config.sockets.receive_buffer,
            send_buffer=config.sockets.send_buffer,
            streams_max=min(config.limits.max_streams, STREAMS_PER_WORKER_MAX),
            insecure_plaintext=config.security.insecure_plaintext,
            config_path=path,
            die_with_parent=die_with_parent,
        )


@dataclass
class Child:
    """A process slot: who runs there now, or when the next one may start."""

    name: str
    process: subprocess.Popen[bytes] | None = None
    pidfd: int = -1
    up: bool = False  # it has attached (worker) or said that it is ready (agent)
    ever_up: bool = False
    started_s: float = 0.0
    backoff_s: float = 0.0
    start_at_s: float = 0.0
    ours: socket.socket | None = None  # our end of its socket pair

    def died(self, now: float) -> int:
        """Reaps it, sets the back-off; its exit status as subprocess gives it (minus the signal)."""
        assert self.process is not None
        code = self.process.wait()
        os.close(self.pidfd)
        if self.ours is not None:
            self.ours.close()
        self.process, self.pidfd, self.ours, self.up = None, -1, None, False
        if now - self.started_s >= STEADY_S:
            self.backoff_s = 0.0
        self.start_at_s = now + self.backoff_s
        self.backoff_s = min(BACKOFF_MAX_S, max(BACKOFF_FIRST_S, self.backoff_s * 2))
        return code


@dataclass
class WorkerSlot(Child):
    """What worker `index` has for all its lives."""

    index: int = 0
    cpu: int | None = None
    fds: dict[str, int] = field(default_factory=dict)
    page: _core.StatPage | None = None


class Supervisor:
    """Owns a relay's processes. `run` returns the exit code; StartError when it cannot start."""

    def __init__(self, conf: SupervisorConf) -> None:
        self.conf = conf
        self.agent = Child("zr-agent")
        self.workers: list[WorkerSlot] = []
        self._fds: dict[str, int] = {}
        self._outbox: deque[bytes] = deque()
        self._stop_signals = 0
        self._stopping = False
        self._exit_code = 0
        self._sockets = Sockets(conf.receive_buffer, conf.send_buffer, conf.gro)
        self._poll = select.poll()

    # -- start ----------------------------------------------------------------------------------------------------

    def run(self) -> int:
        """Starts everything, watches until a signal says stop, ends everything."""
        if self.conf.die_with_parent:
            _die_with_parent()
        with contextlib.ExitStack() as stack:
            stack.enter_context(lock_runtime_dir(self.conf.runtime_dir))
            try:
                self._open(stack)
                self._warn_plaintext()
                self._watch_signals(stack)
                for worker in self.workers:
                    self._start_worker(worker)
                self._start_agent()
                while not self._stopping:
                    self._step()
                return self._stop()
            finally:
                self._kill_all()

    def _open(self, stack: contextlib.ExitStack) -> None:
        """Sockets, pages, channels, eventfds: all that outlives a child."""

        def own(fd: int) -> int:
            stack.callback(os.close, fd)
            return fd

        conf, sockets = self.conf, self._sockets
        self._fds = {
            "link": own(sockets.open_link(conf.data)),
            "page": own(_core.shm_open("zr-agent-stat", _core.StatPage.bytes_for(0))),
            "wake": own(os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)),
        }
        _core.StatPage(self._fds["page"], streams_max=0, create=True)
        for i in range(conf.workers):
            fds = {
                "link": own(sockets.open_link(conf.data.shifted(1 + i))),
                "egress": own(sockets.open_egress()),
                "chan": own(_core.shm_open(f"zr-chan-{i}", _core.Channel.bytes_for(CHAN_SLOTS))),
                "page": own(_core.shm_open(f"zr-stat-{i}", _core.StatPage.bytes_for(conf.streams_max))),
                "inbox": own(_core.shm_open(f"zr-inbox-{i}", _core.Inbox.bytes_for(conf.workers))),
                "wake": own(os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)),
            }
            _core.Channel(fds["chan"], slots=CHAN_SLOTS, create=True)
            _core.Inbox(conf.workers, fd=fds["inbox"], create=True)
            page = _core.StatPage(fds["page"], streams_max=conf.streams_max, create=True)
            cpu = conf.cpus[i % len(conf.cpus)] if conf.cpus else None
            self.workers.append(WorkerSlot(f"zr-worker-{i}", index=i, cpu=cpu, fds=fds, page=page))
        self._warn_small_buffers()
        self._raise_file_limit()

    def _raise_file_limit(self) -> None:
        """Every stream published here is a socket in its worker; children inherit the limit."""
        wanted = self.conf.streams_max + FILES_SPARE
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft == resource.RLIM_INFINITY or soft >= wanted:
            return
        granted = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (granted, hard))
        if granted < wanted:
            say(f"WARN {granted} open files are allowed, {wanted} wanted: raise LimitNOFILE= or ulimit -n")

    def _warn_plaintext(self) -> None:
        """At every start, and here: no [log] level silences the supervisor."""
        if self.conf.insecure_plaintext:
            say("WARN links are not encrypted: insecure_plaintext = true, loopback only (ZR1001)")

    def _warn_small_buffers(self) -> None:
        with socket.socket(fileno=os.dup(self._fds["link"])) as link:
            granted = link.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2  # the kernel doubles what is asked
        if granted < self.conf.receive_buffer:
            say(
                f"WARN receive buffers are {granted} bytes, not {self.conf.receive_buffer}: net.core.rmem_max is "
                f"{hostinfo.socket_buffer_max('r')}; sysctl -w net.core.rmem_max={self.conf.receive_buffer}"
            )

    def _watch_signals(self, stack: contextlib.ExitStack) -> None:
        ours, theirs = socket.socketpair()
        stack.enter_context(ours)
        stack.enter_context(theirs)
        ours.setblocking(False)
        theirs.setblocking(False)
        stack.callback(signal.set_wakeup_fd, signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False))
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
            # Not back to the default: one signal too many must not turn a clean exit into death by signal.
            stack.callback(signal.signal, number, signal.SIG_IGN)
        self._signals = ours
        self._poll.register(ours, select.POLLIN)

    def _on_signal(self, number: int, frame: object) -> None:
        self._stop_signals += 1

    # -- children -------------------------------------------------------------------------------------------------

    def _spawn(self, child: Child, command: tuple[str, ...], boot: dict[str, Any], fds: list[int]) -> None:
        boot_fd = os.memfd_create("zr-boot", os.MFD_CLOEXEC)
        try:
            os.write(boot_fd, msgpack.packb(boot))
            child.process = subprocess.Popen(
                [*command, "--boot", str(boot_fd)], pass_fds=[boot_fd, *fds], stdin=subprocess.DEVNULL
            )
        finally:
            os.close(boot_fd)
        child.pidfd = os.pidfd_open(child.process.pid)
        child.started_s = time.monotonic()
        self._poll.register(child.pidfd, select.POLLIN)

    def _start_worker(self, worker: WorkerSlot) -> None:
        conf = self.conf
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            fds = {**worker.fds, "fdpass": theirs.fileno(), "agent_wake": self._fds["wake"]}
            boot = {
                "version": __version__, "name": worker.name, "lane": worker.index, "cpu": worker.cpu, "fds": fds,
                "streams_max": conf.streams_max, "batch": conf.batch, "gso": conf.gso, "spin_ns": conf.spin_ns,
                "hold_ns": conf.hold_ns, "window": conf.window, "deadlines_ms": conf.deadlines_ms,
                "residual": conf.residual, "max_overhead": conf.max_overhead, "overload_enter": conf.overload_enter,
                "peers": self._peers(),
            }  # fmt: skip
            others = [fd for peer in self._peers() for fd in peer if fd not in fds.values()]
            self._spawn(worker, (sys.executable, "-m", "relay.worker"), boot, [*fds.values(), *others])
        ours.settimeout(FDPASS_TIMEOUT_S)
        worker.ours = ours

    def _peers(self) -> list[tuple[int, int]]:
        """Every worker's inbox and eventfd: each writes into the others' and wakes them."""
        return [(worker.fds["inbox"], worker.fds["wake"]) for worker in self.workers]

    def _start_agent(self) -> None:
        """A new agent is a new boot id: its peers begin new sessions with it."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            shared = [{name: worker.fds[name] for name in ("chan", "page", "wake")} for worker in self.workers]
            boot = {
                "version": __version__, "config_path": self.conf.config_path, "workers": shared,
                "page": self._fds["page"], "link": self._fds["link"], "wake": self._fds["wake"],
                "ctl": theirs.fileno(), "streams_max": self.conf.streams_max, "agent_streams_max": 0,
                "boot_id": random.SystemRandom().getrandbits(64),
            }  # fmt: skip
            fds = [*self._fds.values(), theirs.fileno(), *(fd for worker in shared for fd in worker.values())]
            self._spawn(self.agent, self.conf.agent_command, boot, fds)
        ours.setblocking(False)
        self.agent.ours = ours
        self._outbox.clear()
        self._poll.register(ours, select.POLLIN)
        for worker in self.workers:
            if worker.up:
                self._tell_worker_up(worker)

    def _bury(self, child: Child) -> None:
        """A child ended: note it, decide what follows."""
        assert child.process is not None
        pid = child.process.pid
        self._poll.unregister(child.pidfd)
        if child is self.agent and child.ours is not None:
            self._forget_agent_socket()
        was_up = child.up
        code = child.died(time.monotonic())
        if self._stopping:
            return
        how = f"signal {-code}" if code < 0 else f"exit status {code}"
        if isinstance(child, WorkerSlot) and was_up:
            self._tell_agent({"t": "worker_lost", "worker": child.index})
        if not child.ever_up and (code in FATAL_CODES or (child is self.agent and code >= 0)):
            # Another try would end the same way: a busy API port, another version of the code.
            say(f"{child.name} (pid {pid}) could not start: {how}")
            self._exit_code = code if code in FATAL_CODES else EXIT_INTERNAL
            self._stopping = True
            return
        say(f"WARN {child.name} (pid {pid}) ended: {how}; starting another")

    def _forget_agent_socket(self) -> None:
        assert self.agent.ours is not None
        with contextlib.suppress(KeyError):
            self._poll.unregister(self.agent.ours)

    # -- the loop -------------------------------------------------------------------------------------------------

    def _step(self, most_s: float = 60.0) -> None:
        """Waits for something to happen, at most this long, and deals with it."""
        for fd, event in self._poll.poll(min(most_s, self._wait_s()) * 1000):
            if fd == self._signals.fileno():
                with contextlib.suppress(BlockingIOError):
                    self._signals.recv(64)
            elif self.agent.ours is not None and fd == self.agent.ours.fileno():
                self._on_agent_socket(event)
            else:
                for child in (self.agent, *self.workers):
                    if child.pidfd == fd:
                        self._bury(child)
        if self._stop_signals > 0:
            self._stopping = True
        if not self._stopping:
            self._see_who_is_up()
            self._start_due()

    def _wait_s(self) -> float:
        now = time.monotonic()
        waits = [60.0]
        for child in (self.agent, *self.workers):
            if child.process is None:
                waits.append(max(0.0, child.start_at_s - now))
            elif isinstance(child, WorkerSlot) and not child.up:
                waits.append(STARTING_POLL_S)
        return 60.0 if self._stopping else min(waits)

    def _see_who_is_up(self) -> None:
        """A worker writes its pid into its page when it has all it needs."""
        for worker in self.workers:
            if worker.process is not None and not worker.up:
                assert worker.page is not None
                if worker.page.pid == worker.process.pid:
                    worker.up = worker.ever_up = True
                    self._tell_worker_up(worker)

    def _start_due(self) -> None:
        now = time.monotonic()
        for worker in self.workers:
            if worker.process is None and worker.start_at_s <= now:
                self._start_worker(worker)
        if self.agent.process is None and self.agent.start_at_s <= now:
            self._start_agent()

    # -- talking to the agent -------------------------------------------------------------------------------------

    def _tell_worker_up(self, worker: WorkerSlot) -> None:
        assert worker.page is not None
        self._tell_agent({"t": "worker_up", "worker": worker.index, "generation": worker.page.generation})

    def _tell_agent(self, message: dict[str, Any]) -> None:
        if self.agent.ours is not None:
            self._outbox.append(msgpack.packb(message))
            self._flush_outbox()

    def _flush_outbox(self) -> None:
        ours = self.agent.ours
        if ours is None:
            return
        try:
            while self._outbox:
                ours.send(self._outbox[0])
                self._outbox.popleft()
        except BlockingIOError:
            pass
        except OSError:  # it is dying; its pidfd will say so
            self._outbox.clear()
        with contextlib.suppress(FileNotFoundError):
            self._poll.modify(ours, select.POLLIN | (select.POLLOUT if self._outbox else 0))

    def _on_agent_socket(self, event: int) -> None:
        assert self.agent.ours is not None
        if event & select.POLLOUT:
            self._flush_outbox()
        if not event & ~select.POLLOUT:
            return
        try:
            data = self.agent.ours.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._forget_agent_socket()
            return
        try:
            message = msgpack.unpackb(data)
            kind = message["t"]
            if kind == "ready":
                self.agent.up = self.agent.ever_up = True
            elif kind == "open_ingress":
                self._tell_agent({"t": "ingress", "r": message["r"], **self._open_ingress(message)})
        except (KeyError, TypeError, ValueError) as error:
            say(f"WARN the agent sent nonsense: {error!r}")

    def _open_ingress(self, asked: dict[str, Any]) -> dict[str, Any]:
        """One more socket for a worker; the answer's fields: address and port, or error."""
        worker = self.workers[asked["worker"]] if asked["worker"] < len(self.workers) else None
        if worker is None or worker.ours is None or not worker.up:
            return {"error": f"worker {asked['worker']} is down"}
        low, high = asked["ports"]
        ip, port = asked["address"], asked["port"]
        try:
            fd, port = self._sockets.open_ingress(ip, port, low, high)
        except OSError as error:
            wanted = Address(ip, port) if port else f"{ip}, ports {low}-{high}"
            return {"error": f"{wanted}: {error.strerror}"}
        try:
            words = _FDPASS.pack(*_core.FDPASS, asked["slot"])
            socket.send_fds(worker.ours, [words], [fd])
        except OSError:
            return {"error": f"worker {worker.index} takes no sockets"}
        finally:
            os.close(fd)
        return {"address": ip, "port": port}

    # -- the end --------------------------------------------------------------------------------------------------

    def _stop(self) -> int:
        """Agent first, so that it can say good-bye through running workers; a second signal ends all at once."""
        first = self._stop_signals
        self._tell_agent({"t": "stop"})
        self._wait_for([self.agent], AGENT_STOP_S, first)
        self._signal([self.agent, *self.workers], signal.SIGTERM)
        self._wait_for([self.agent, *self.workers], WORKER_STOP_S, first)
        return self._exit_code

    def _wait_for(self, children: list[Child], seconds: float, signals: int) -> None:
        end = time.monotonic() + seconds
        while any(child.process for child in children) and self._stop_signals <= signals:
            left = end - time.monotonic()
            if left <= 0:
                return
            self._step(left)

    def _signal(self, children: list[Child], number: signal.Signals) -> None:
        for child in children:
            if child.process is not None:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(child.pidfd, number)

    def _kill_all(self) -> None:
        """Whoever is still there, also after an exception of ours."""
        children: list[Child] = [self.agent, *self.workers]
        self._stopping = True
        self._signal(children, signal.SIGKILL)
        for child in children:
            if child.process is not None:
                self._bury(child)


def say(text: str) -> None:
    """One line for the operator."""
    with contextlib.suppress(OSError):
        print(f"zrelay: {text}", file=sys.stderr, flush=True)


def _die_with_parent() -> None:
    """SIGTERM when our parent goes: for relays that a tool started."""
    import ctypes

    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM))
