"""The supervisor: opens every UDP socket and shared page, starts, watches and replaces workers and agent.

    link P (lane 63) ─┐                                     chan, page, wake: one of each per worker, for all its lives
    link P+1+i ───────┼─▶ worker i   ◀─ ingress sockets ─┐
    egress i ─────────┘                                  └─ "open_ingress" ◀─ agent (a socket pair, msgpack maps)

It speaks no HTTP and parses no packet; one poll loop, and a thread in C that hears of deaths. What it opened it keeps:
a successor gets the same sockets, pages and journal, and ingress sockets until the agent closes them (relay/places.py).
"""

from __future__ import annotations

import contextlib
import os
import random
import select
import signal
import socket
import threading
import time
from typing import Any

import msgpack

from relay import __version__, _core
from relay.errors import CoreError
from relay.hostlimits import raise_file_limit, warn_small_buffers
from relay.keymemory import KeyMemory
from relay.mailbox import Mailbox
from relay.places import CHAN_SLOTS, Place
from relay.processes import START_AGAIN_S, Child, die_with_parent, how, say
from relay.sockets import EXIT_OS, EXIT_PERMISSION, Sockets, StartError, lock_runtime_dir
from relay.spares import Spares, socket_pair
from relay.supervisorconf import SupervisorConf
from relay.units import Address
from relay.watchdog import Watchdog, snapshot

__all__ = ["CHAN_SLOTS", "StartError", "Supervisor", "SupervisorConf"]

EXIT_INTERNAL, EXIT_CONFIG = 70, 78
FATAL_CODES = (EXIT_INTERNAL, EXIT_OS, EXIT_PERMISSION, EXIT_CONFIG)
FILES_SPARE = 1024  # beside a socket for each stream: connections to the API, pages, rings
AGENT_STOP_S = 2.0
WORKER_STOP_S = 2.0
KILL_S = 2.0


class Supervisor:
    """Owns a relay's processes. `run` returns the exit code; StartError when it cannot start."""

    def __init__(self, conf: SupervisorConf) -> None:
        self.conf = conf
        self.agent = Child("zr-agent")
        self.workers: list[Place] = []
        self._fds: dict[str, int] = {}
        self._keys = KeyMemory(conf.keyring)
        self._stop_signals = 0
        self._reload = False
        self._stopping = False
        self._exit_code = 0
        self._sockets = Sockets(conf.receive_buffer, conf.send_buffer, conf.gro)
        self._poll = select.poll()
        self._mailbox = Mailbox(self._poll)
        self._spares = Spares(conf, self._poll, self.workers, self._fds)
        self._watchdog = Watchdog()
        self._lives = -1  # an eventfd
        self._ending: list[Child] = []  # whose places others have already; to be reaped

    # -- start ----------------------------------------------------------------------------------------------------

    def run(self) -> int:
        """Starts everything, watches until a signal says stop, ends everything."""
        if self.conf.die_with_parent:
            die_with_parent()
        with contextlib.ExitStack() as stack:
            stack.enter_context(lock_runtime_dir(self.conf.runtime_dir))
            try:
                self._start(stack)
                while not self._stopping:
                    self._step()
                return self._stop()
            finally:
                self._kill_all()

    def _start(self, stack: contextlib.ExitStack) -> None:
        """All of it, or StartError: what the system has not got now, nobody was promised yet."""
        try:
            stack.callback(self._keys.close)
            self._keys.take(time.time_ns())
            self._open(stack)
            self._warn_plaintext()
            self._watch_signals(stack)
            self._watch_lives()
            for worker in self.workers:
                self._replace(worker, fresh=True)
            self._start_agent()
        except OSError as error:
            raise StartError(EXIT_OS, f"the relay cannot start: {error.strerror or error}") from None

    def _open(self, stack: contextlib.ExitStack) -> None:
        """Sockets, pages, channels, eventfds: all that outlives a child."""

        def own(fd: int) -> int:
            stack.callback(os.close, fd)
            return fd

        conf, sockets = self.conf, self._sockets
        self._fds |= {
            "link": own(sockets.open_link(conf.data)),
            "page": own(_core.shm_open("zr-agent-stat", _core.StatPage.bytes_for(0))),
            "wake": own(os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)),
        }
        self._lives = own(os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK))
        _core.StatPage(self._fds["page"], streams_max=0, create=True)
        for i in range(conf.workers):
            cpu = conf.cpus[i % len(conf.cpus)] if conf.cpus else None
            sizes = {"workers": conf.workers, "streams_max": conf.streams_max}
            self.workers.append(Place.open(i, cpu, sockets, conf.data.shifted(1 + i), own, **sizes))
            stack.callback(self.workers[i].close_all_ingress)
        warn_small_buffers(self._fds["link"], conf.receive_buffer)
        raise_file_limit(conf.streams_max * conf.workers + FILES_SPARE)

    def _warn_plaintext(self) -> None:
        """At every start, and here: no [log] level silences the supervisor."""
        if self.conf.insecure_plaintext:
            say("WARN links are not encrypted: insecure_plaintext = true, loopback only (ZR1001)")

    def _on_reload(self) -> None:
        """SIGHUP: keys and peer map are read again."""
        self._reload = False
        try:
            self._keys.take(time.time_ns())
            self._tell_agent({"t": "reload"})
        except StartError as error:
            say(f"WARN not reloaded: {error}")

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
        signal.signal(signal.SIGHUP, self._on_hangup)
        stack.callback(signal.signal, signal.SIGHUP, signal.SIG_IGN)
        self._signals = ours
        self._poll.register(ours, select.POLLIN)

    def _watch_lives(self) -> None:
        """A worker's death as it begins; on kernels before 5.16 only when it is over, by its pidfd."""
        pages = [worker.page for worker in self.workers if worker.page is not None]

        def watch() -> None:
            with contextlib.suppress(CoreError):
                _core.watch_lives(pages, self._lives)

        threading.Thread(target=watch, name="zr-lives", daemon=True).start()
        self._poll.register(self._lives, select.POLLIN)

    def _on_signal(self, number: int, frame: object) -> None:
        self._stop_signals += 1

    def _on_hangup(self, number: int, frame: object) -> None:
        self._reload = True

    # -- children -------------------------------------------------------------------------------------------------

    def _try_replace(self, worker: Place, *, fresh: bool) -> bool:
        """False: none can be started now; the next try is set."""
        try:
            self._replace(worker, fresh=fresh)
        except OSError as error:
            self._start_later(worker, error, worker.retry.after(0.0))
            return False
        worker.retry.now_s = worker.retry.first_s
        return True

    def _start_later(self, child: Child, error: OSError, wait_s: float) -> None:
        """One process that cannot be is no reason to end those that are."""
        child.start_at_s = time.monotonic() + wait_s
        say(f"WARN {child.name} cannot be started: {error.strerror}; trying again in {wait_s:.1f} s")

    def _replace(self, worker: Place, *, fresh: bool) -> None:
        """A process takes the place. OSError: there is none."""
        if worker.anew:  # nobody uses it: the worker is dead, and the agent let go of it when it asked for this
            _core.Channel(worker.fds["chan"], slots=CHAN_SLOTS, create=True)
            worker.anew = False
        self._spares.give(worker, fresh=fresh)
        self._watch_room(worker)
        if worker.cpu is not None:
            try:
                os.sched_setaffinity(worker.pid, {worker.cpu})
            except OSError as error:
                say(f"WARN {worker.name} is not pinned to CPU {worker.cpu}: {error.strerror}")

    def _start_agent(self) -> None:
        """A new agent is a new boot id: its peers begin new sessions with it. OSError: there is none."""
        with socket_pair() as (ours, theirs):
            shared = [{name: worker.fds[name] for name in ("chan", "page", "wake")} for worker in self.workers]
            boot = {
                "version": __version__, "config_path": self.conf.config_path, "workers": shared,
                "page": self._fds["page"], "link": self._fds["link"], "wake": self._fds["wake"],
                "ctl": theirs.fileno(), "streams_max": self.conf.streams_max, "agent_streams_max": 0,
                "boot_id": random.SystemRandom().getrandbits(64), "keys": self._keys.fd,
            }  # fmt: skip
            fds = [*self._fds.values(), theirs.fileno(), *(fd for worker in shared for fd in worker.values())]
            self.agent.spawn(self.conf.agent_command, boot, [*fds, *self._keys.inherited()])
        self._poll.register(self.agent.pidfd, select.POLLIN)
        self.agent.ours = ours
        self._mailbox.open(ours)
        for worker in self.workers:
            worker.told = False
            if worker.up:
                self._tell_worker_up(worker)

    def _bury(self, child: Child) -> None:
        """A child ended: note it, decide what follows."""
        now, pid, spare = time.monotonic(), child.pid, child is self._spares.spare
        self._poll.unregister(child.pidfd)
        self._forget_socket(child)
        lived_s = now - child.started_s if child.up else 0.0
        code = child.died(now)
        if self._stopping:
            return
        if not child.ever_up and not spare and (code in FATAL_CODES or (child is self.agent and code >= 0)):
            # Another try would end the same way: a busy API port, another version of the code.
            say(f"{child.name} (pid {pid}) could not start: {how(code)}")
            self._exit_code = code if code in FATAL_CODES else EXIT_INTERNAL
            self._stopping = True
            return
        if isinstance(child, Place):
            self._succeed(child, lived_s, now)
        say(f"WARN {child.name} (pid {pid}) ended: {how(code)}; starting another")

    def _succeed(self, worker: Place, lived_s: float, now: float) -> None:
        """Its successor goes on where it stopped; unless that may be what kills it, or nobody was to wait for this."""
        self._watchdog.forget(worker.index)
        looping = worker.looping(lived_s, now)
        if self.conf.spare > 0 and not looping and worker.ever_up and not worker.anew:
            if self._try_replace(worker, fresh=False):
                return
        elif not looping:
            worker.start_at_s = now
        worker.close_all_ingress()
        if worker.told:
            worker.told = False
            self._tell_agent({"t": "worker_lost", "worker": worker.index})

    def _hurry(self) -> None:
        """Whoever has begun to end has a successor at once; its memory may take milliseconds to be taken apart."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._lives)
        now = time.monotonic()
        for worker in self.workers:
            if self._stopping or not worker.up or worker.page is None or not worker.page.ending:
                continue
            worker.send_signal(signal.SIGKILL)  # it may not be true
            self._relieve(worker, now)

    def _relieve(self, worker: Place, now: float) -> None:
        """Of one that was killed: a successor now if nothing more comes of it, else when its pidfd says so."""
        if not worker.is_over():
            return
        self._forget_socket(worker)
        lived_s = now - worker.started_s
        self._ending.append(worker.hand_over(now))
        self._succeed(worker, lived_s, now)

    def _reap(self, child: Child) -> None:
        self._poll.unregister(child.pidfd)
        self._ending.remove(child)
        pid = child.pid
        say(f"WARN {child.name} (pid {pid}) ended: {how(child.died(time.monotonic()))}; another is in its place")

    def _forget_socket(self, child: Child) -> None:
        if child.ours is not None:
            with contextlib.suppress(KeyError):
                self._poll.unregister(child.ours)

    def _watch_room(self, worker: Place) -> None:
        """What did not fit into its socket follows when there is room."""
        if worker.ours is not None:
            with contextlib.suppress(FileNotFoundError):
                self._poll.modify(worker.ours, select.POLLIN | (select.POLLOUT if worker.flush() else 0))

    # -- the loop -------------------------------------------------------------------------------------------------

    def _step(self, most_s: float = 60.0) -> None:
        """Waits for something to happen, at most this long, and deals with it."""
        for fd, event in self._poll.poll(min(most_s, self._wait_s()) * 1000):
            if fd == self._signals.fileno():
                with contextlib.suppress(BlockingIOError):
                    self._signals.recv(64)
            elif fd == self._lives:
                self._hurry()
            elif self.agent.ours is not None and fd == self.agent.ours.fileno():
                self._on_agent_socket(event)
            elif self._on_child(fd, event):
                break  # its descriptors' numbers may be another's by now; what else happened is still there to be seen
        if self._reload:
            self._on_reload()
        if self._stop_signals > 0:
            self._stopping = True
        if not self._stopping:
            self._end_the_hanging()
            self._start_due()

    def _on_child(self, fd: int, event: int) -> bool:
        """True: it was buried."""
        for child in self._ending:
            if child.pidfd == fd:
                self._reap(child)
                return True
        for child in (self.agent, *self.workers, self._spares.spare):
            if child.pidfd == fd:
                self._bury(child)
                return True
            if child.ours is not None and child.ours.fileno() == fd:
                if isinstance(child, Place):
                    self._on_worker_socket(child, event)
                else:
                    self._forget_socket(child)  # a spare has nothing to say: it is dying
                break
        return False

    def _on_worker_socket(self, worker: Place, event: int) -> None:
        if event & select.POLLOUT:
            self._watch_room(worker)
        if event & ~select.POLLOUT:
            if not worker.heard_up():
                self._forget_socket(worker)
            elif not worker.up:
                worker.up = worker.ever_up = True
                worker.started_s = time.monotonic()
                self._tell_worker_up(worker)

    def _wait_s(self) -> float:
        if self._stopping:
            return 60.0
        now = time.monotonic()
        waits = [self._spares.wait_s(now), self._watchdog.wait_s(_core.clock_now())]
        waits += [max(0.0, child.start_at_s - now) for child in (self.agent, *self.workers) if child.process is None]
        return min(waits)

    def _end_the_hanging(self) -> None:
        now_ns = _core.clock_now()
        if not self._watchdog.look(now_ns):
            return
        for worker in self.workers:
            alive_ns = worker.alive_ns(now_ns)
            if worker.killed:
                self._relieve(worker, time.monotonic())
            elif self._watchdog.hangs(worker.index, worker.pid, alive_ns, now_ns):
                silent = f"{'hangs' if worker.up else 'is not up'} for {(now_ns - alive_ns) // 1_000_000} ms"
                say(f"WARN {worker.name} (pid {worker.pid}) {silent}: {snapshot(worker.pid)}")
                worker.send_signal(signal.SIGKILL)

    def _start_due(self) -> None:
        now = time.monotonic()
        for worker in self.workers:
            if worker.process is None and worker.start_at_s <= now:
                self._try_replace(worker, fresh=True)
        if self.agent.process is None and self.agent.start_at_s <= now:
            try:
                self._start_agent()
            except OSError as error:
                self._start_later(self.agent, error, START_AGAIN_S)
        self._spares.start_due(now)

    # -- talking to the agent -------------------------------------------------------------------------------------

    def _tell_worker_up(self, worker: Place) -> None:
        """Up from nothing, or moved: another process, with all that does not hang on a conversation."""
        assert worker.page is not None
        kind = "worker_moved" if worker.told else "worker_up"
        worker.told = True
        said = {"t": kind, "worker": worker.index, "generation": worker.page.generation, "epoch": worker.epoch}
        self._tell_agent(said)

    def _tell_agent(self, message: dict[str, Any]) -> None:
        if self.agent.ours is not None and not self._mailbox.say(message):
            self._replace_agent("it takes no messages (S09)")

    def _replace_agent(self, why: str) -> None:
        say(f"WARN {self.agent.name} (pid {self.agent.pid}): {why}; it is replaced")
        self._forget_socket(self.agent)
        self._mailbox.close()
        self.agent.send_signal(signal.SIGKILL)

    def _on_agent_socket(self, event: int) -> None:
        assert self.agent.ours is not None
        if event & select.POLLOUT:
            self._mailbox.flush()
        if not event & ~select.POLLOUT:
            return
        try:
            data = self.agent.ours.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._forget_socket(self.agent)
            return
        try:
            message = msgpack.unpackb(data)
            kind = message["t"]
            if kind == "ready":
                self.agent.up = self.agent.ever_up = True
            elif kind == "open_ingress":
                self._tell_agent({"t": "ingress", "r": message["r"], **self._open_ingress(message)})
            elif kind == "close_ingress":
                self.workers[message["worker"]].close_ingress(message["slot"])
            elif kind == "close_all_ingress":
                self.workers[message["worker"]].close_all_ingress()
            elif kind == "replace_worker":
                self._replace_corrupt(self.workers[message["worker"]])
            else:
                raise ValueError(f"unknown: {kind!r}")
        except Exception as error:  # of whatever kind: the supervisor outlives its agent
            self._replace_agent(f"it sent nonsense (S06): {error!r:.200}")

    def _replace_corrupt(self, worker: Place) -> None:
        """Who of the two wrote it, or a third, cannot be known: so both ends and what lies between begin anew (S01)."""
        say(f"WARN {worker.name} (pid {worker.pid}): its channel is corrupt; it is replaced")
        worker.anew = True
        worker.send_signal(signal.SIGKILL)

    def _open_ingress(self, asked: dict[str, Any]) -> dict[str, Any]:
        """One more socket for a worker; the answer's fields: address and port, or error."""
        worker = self.workers[asked["worker"]] if asked["worker"] < len(self.workers) else None
        if worker is None or worker.ours is None or not worker.told:
            return {"error": f"worker {asked['worker']} is down"}
        worker.close_ingress(asked["slot"])
        low, high = asked["ports"]
        ip, port = asked["address"], asked["port"]
        try:
            fd, port = self._sockets.open_ingress(ip, port, low, high)
        except OSError as error:
            wanted = Address(ip, port) if port else f"{ip}, ports {low}-{high}"
            return {"error": f"{wanted}: {error.strerror}"}
        if not worker.give_ingress(asked["slot"], fd):
            return {"error": f"worker {worker.index} takes no sockets"}
        self._watch_room(worker)
        return {"address": ip, "port": port}

    # -- the end --------------------------------------------------------------------------------------------------

    def _stop(self) -> int:
        """Agent first, so that it can say good-bye through running workers; a second signal ends all at once."""
        first = self._stop_signals
        self._tell_agent({"t": "stop"})
        self._wait_for([self.agent], AGENT_STOP_S, first)
        self._signal(self._children(), signal.SIGTERM)
        self._wait_for(self._children(), WORKER_STOP_S, first)
        return self._exit_code

    def _wait_for(self, children: list[Child], seconds: float, signals: int) -> None:
        end = time.monotonic() + seconds
        while any(child.process for child in children) and self._stop_signals <= signals:
            left = end - time.monotonic()
            if left <= 0:
                return
            self._step(left)

    def _children(self) -> list[Child]:
        return [self.agent, *self.workers, self._spares.spare, *self._ending]

    def _signal(self, children: list[Child], number: signal.Signals) -> None:
        for child in children:
            child.send_signal(number)

    def _kill_all(self) -> None:
        """Whoever is still there, also after an exception of ours."""
        self._stopping = True
        self._signal(self._children(), signal.SIGKILL)
        for child in self._children():
            if child.process is None:
                continue
            if child.ends_within(KILL_S):
                self._bury(child)
            else:
                say(f"WARN {child.name} (pid {child.pid}) is left behind, it cannot end: {snapshot(child.pid)}")
