"""The agent's main: wires one relay together and is the only place that knows everyone.

    link socket (lane 63) ─▶ ControlLane ─▶ messages ─▶ ┌─────────┐ ─▶ actions ─▶ ControlLane ─▶ link socket
    workers' event rings ────────────────▶ events ────▶ │ Control │ ─▶ records ─▶ workers' command rings
    supervisor's socket ─────────────────▶ worker_up … ▶ │ (pure)  │ ─▶ "open an ingress" ─▶ supervisor
    HTTP ────────────────────────────────▶ requests ──▶ └─────────┘ ─▶ stream changed ─▶ waiting requests

Everything happens on one uvloop. ``pump`` runs after every input: it hands events to the pure control plane, performs
what that answers, and sets the next timer. Clocks are read here and nowhere below.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

import msgpack
import structlog
import uvloop
from aiohttp import web

from relay import __version__, _core
from relay.agentlog import set_up_logging
from relay.api import make_app
from relay.assault import LOOK_NS
from relay.config import Config, load
from relay.continuity import Guard, Moment, moment
from relay.control import Control, ControlConf
from relay.ctl import Ctl
from relay.handles import WorkerHandle
from relay.identity import Identity
from relay.keys import public_of
from relay.links import REPORT_NS
from relay.metrics import Facts, PageCollector
from relay.performer import Performer
from relay.report import control_report, lanes_report, link_report, look_at, loss_of
from relay.roster import Roster
from relay.sites import open_sites
from relay.sockets import StartError
from relay.stamp import open_stamps
from relay.step import step
from relay.traffic import Traffic
from relay.units import Address

EVENTS_PER_PUMP = 4096
PUMPS_MAX = 64
HEARD_EVERY_NS = 200_000_000
LOAD_EVERY_NS = 1_000_000_000
RING_RETRY_NS = 5_000_000
LAST_ERRORS = 8
STAMP_FILE = "stamp"  # in the state directory: the bound of handshake stamps

log = structlog.get_logger("zrelay.agent")


class Node:
    """One relay's agent. ``serve`` returns when the supervisor or a signal says so."""

    def __init__(self, boot: dict[str, Any]) -> None:
        self.config: Config = load(boot["config_path"]) if boot.get("config_path") else Config()
        self.boot_id: int = boot["boot_id"]
        streams_max: int = boot["streams_max"]
        self.workers = [WorkerHandle(i, fds, streams_max) for i, fds in enumerate(boot["workers"])]
        self._last_errors: list[str] = []
        self.page = _core.StatPage(boot["page"], streams_max=boot.get("agent_streams_max", 0))
        self._link_fd: int = boot["link"]
        self._wake_fd: int = boot["wake"]
        self._ctl = Ctl(boot["ctl"], self._watch_room)
        now = _core.clock_now()
        links = self.config.links
        self.lane = _core.ControlLane(
            now, page_fd=boot["page"], residual=links.residual, max_overhead=links.max_overhead,
            seed=random.SystemRandom().getrandbits(64),
        )  # fmt: skip
        self.roster = Roster(self.config, boot.get("keys", -1), datetime.now(UTC), self._say, now)
        conf = ControlConf.of(self.config, self.boot_id, len(self.workers), streams_max)
        identity = self.roster.identity
        conf = replace(conf, peers=self.roster.peers, identity=identity)
        if identity is not None and self.roster.state is not None:
            stamps = open_stamps(self.roster.state.file(STAMP_FILE), time.time_ns(), now)
            conf = replace(conf, stamps=stamps)
            self._set_gate(identity)
        self.control = Control(
            conf, random.Random(random.SystemRandom().getrandbits(64)), progress=self._progress, pps=self._pps
        )
        self._guard = Guard(_look, self.control.discard_sessions, self._say)
        self.collector = PageCollector(self.pages, self._facts)
        self.started_s = time.time()
        self._started_ns = now
        self._changed = asyncio.Event()  # replaced by a fresh one whenever it is set
        self._stop = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._heard_next = self._load_next = self._report_next = self._drops_next = now
        self._link_again = False  # is called soon
        self._busy_then = (now, time.process_time_ns())
        self.traffic = Traffic(lambda slot: [page.session(slot) for _, page in self.pages()])
        self._corrupt: set[int] = set()  # workers with a broken ring; each said once
        self._pumping = False
        self._api_up = False
        family = socket.AF_INET6 if ":" in self.config.listen.data.ip else socket.AF_INET
        hellos = socket.socket(family, socket.SOCK_DGRAM, fileno=os.dup(self._link_fd))
        self._performer = Performer(
            self.lane, self.workers, self._ctl, hellos, self.config.ingress.port_range,
            changed=self._wake_waiting, say=self._say, stuck=self._begin_session_again,
            begun=self.traffic.begin,
        )  # fmt: skip

    # -- life -----------------------------------------------------------------------------------------------------

    async def serve(self) -> None:
        """Start everything, run until stopped, close the API."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        loop.add_reader(self._link_fd, self._on_link)
        loop.add_reader(self._wake_fd, self._on_wake)
        loop.add_reader(self._ctl, self._on_ctl)
        self.control.start(_core.clock_now())
        self.pump()
        runner = web.AppRunner(make_app(self), access_log=None, handle_signals=False)
        await runner.setup()
        try:
            await open_sites(runner, self.config.listen.api, self.config.listen.socket)
            self._api_up = True
            self._ctl.ready()
            log.info(
                "agent ready", relay=self.config.node.id, version=__version__, api=str(self.config.listen.api),
                data=str(self.config.listen.data), workers=len(self.workers),
            )  # fmt: skip
            await self._stop.wait()
        finally:
            await runner.cleanup()  # the workers go on: the supervisor decides when they stop

    # -- inputs ---------------------------------------------------------------------------------------------------

    def _on_link(self) -> None:
        now = _core.clock_now()
        self._receive(now)
        self.pump(now)

    def _receive(self, now: int) -> None:
        for data, addr in self.lane.receive(self._link_fd, now):
            source = Address.unpack(addr)
            word = self.control.on_datagram(data, source, now) if source else "src"
            if word is not None:
                self.lane.refuse(word)
        if self.lane.hellos_waiting() and not self._link_again:  # a few at a time: others have their turn in between
            self._link_again = True
            asyncio.get_running_loop().call_soon(self._on_link_again)

    def _on_link_again(self) -> None:
        self._link_again = False
        self._on_link()

    def _on_wake(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._wake_fd)
        self.pump()

    def _on_ctl(self) -> None:
        now = _core.clock_now()
        for message in self._ctl.messages():
            self._hear_supervisor(message, now)
        if self._ctl.gone:  # go on serving; the init system brings it back
            asyncio.get_running_loop().remove_reader(self._ctl)
            log.error("the supervisor is gone; forwarding goes on", code="ZR1002")
        self.pump(now)

    def _hear_supervisor(self, message: dict[str, Any], now: int) -> None:
        match message["t"]:
            case "worker_up":
                handle = self.workers[message["worker"]]
                handle.up = True
                handle.begin()
                self._corrupt.discard(handle.index)
                self._ctl.close_all_ingress(handle.index)
                self.control.on_lane_epoch(handle.index, message["epoch"], now)
                self.control.on_worker_up(handle.index, now)
            case "worker_moved":
                handle = self.workers[message["worker"]]
                handle.moved()
                self._remember(f"worker {handle.index} died and was replaced")
                log.warning("worker replaced", worker=handle.index, code="ZR1007")
                self.control.on_lane_epoch(handle.index, message["epoch"], now)
                self.control.on_worker_moved(handle.index, now)
            case "worker_lost":
                handle = self.workers[message["worker"]]
                handle.lost()
                self._remember(f"worker {handle.index} was lost and is being replaced")
                self.control.on_worker_lost(handle.index, now)
            case "ingress":
                self.control.on_ingress_open(*self._ctl.answered(message), now)
            case "reload":
                if self.roster.take_keys(datetime.now(UTC), now) and self.roster.identity is not None:
                    self.control.set_identity(self.roster.identity)
                    self._set_gate(self.roster.identity)
                self._look_at_peers(now, again=True)
            case "stop":
                self._stop.set()

    def _set_gate(self, identity: Identity) -> None:
        former = None if identity.former is None else public_of("identity", identity.former)
        own = public_of("identity", identity.private)
        self.lane.gate_keys(own, identity.mesh_key.reveal(), former=former, former_until=identity.former_until)

    def _look_at_peers(self, now: int, *, again: bool = False) -> None:
        """A new peer map takes effect at once: who was taken out of it has no session any more."""
        if self.roster.news(datetime.now(UTC), again=again):
            self.control.set_peers(self.roster.peers, now)

    def _say(self, level: str, event: str, **fields: Any) -> None:
        getattr(log, level)(event, **fields)
        if level in ("warning", "error"):
            self._remember(f"{event}: {fields['detail']}" if "detail" in fields else event)

    def _watch_room(self, wanted: bool) -> None:
        loop = asyncio.get_running_loop()
        if wanted:
            loop.add_writer(self._ctl, self._ctl.flush)
        else:
            loop.remove_writer(self._ctl)

    def _on_timer(self) -> None:
        self._timer = None
        now = _core.clock_now()
        self._receive(now)  # before the clock says that nothing came
        self.pump(now)

    # -- the pump -------------------------------------------------------------------------------------------------

    def pump(self, now: int | None = None) -> None:
        """Everything that can move now, moves; then the timer is set. Bounded; never re-entered."""
        if self._pumping:
            return
        self._pumping = True
        now = _core.clock_now() if now is None else now
        rest_ns = HEARD_EVERY_NS  # after an error of ours: later, not never
        try:
            for _ in range(PUMPS_MAX):
                if not self._pump_once(now):
                    break
            self._performer.flush(now)
            self.lane.flush(self._link_fd, now)
            rest_ns = 0
        finally:
            self._pumping = False
            self._set_timer(now, rest_ns)

    def _pump_once(self, now: int) -> bool:
        events = ((worker.index, record) for worker in self.workers for record in worker.events(EVENTS_PER_PUMP))
        sessions: Iterable[int] = ()
        if now >= self._heard_next:
            self._heard_next = now + HEARD_EVERY_NS
            sessions = self._performer.sessions
            self._guard.check(now)
            self._look_at_peers(now)
        if now >= self._drops_next:
            self._drops_next = now + LOOK_NS
            for worker in self.workers:
                if worker.up:
                    lost = worker.page.stats()["rx_lost_link"]
                    self.control.on_drops(worker.index, worker.page.drops(), lost, now)
        if now >= self._load_next:
            self._load_next = now + LOAD_EVERY_NS
            self._tell_busy(now)
            for worker in self.workers:
                stats = worker.page.stats()
                self.control.on_load(worker.index, stats["busy_ns"], stats["fan_sent"], now)
                worker.corrupt |= worker.up and stats["channel_broken"] > 0
            self._sample_links(now)
        moved = step(self.control, self.lane, events, sessions, partial(self._performer.perform, now=now), now)
        for worker in self.workers:
            if worker.corrupt and worker.index not in self._corrupt:
                self._corrupt.add(worker.index)
                self._remember(f"a ring of worker {worker.index} is corrupt; worker and channel are replaced")
                log.error("ring corrupt; the worker is being replaced", worker=worker.index, code="ZR1007")
                self._ctl.replace_worker(worker.index)
            if worker.behind:
                self._begin_again(worker, now)
        return moved

    def _tell_busy(self, now: int) -> None:
        """What share of a core this process used lately: the gate asks for cookies above its limit."""
        used = time.process_time_ns()
        then, used_then = self._busy_then
        self._busy_then = (now, used)
        self.lane.busy(1000 * (used - used_then) // max(now - then, 1))

    def _sample_links(self, now: int) -> None:
        """Once a second: the history of the links; now and then a report to the peers."""
        views = {}
        linked = self.control.linked
        look_at(self.traffic, self.control, now)
        for link in self.control.links():
            view = self.lane.probe(link.slot, now) if link.slot is not None else None
            if link.slot is not None and view is not None:
                views[link.peer] = view
                trips = self.lane.round_trips(link.slot, linked.taken(link.peer))
                linked.sample(link.peer, view, trips, now)
        if now >= self._report_next:
            self._report_next = now + REPORT_NS
            self.control.report(views)

    def _begin_again(self, worker: WorkerHandle, now: int) -> None:
        """It took no commands for too long: it is told everything anew, like a successor."""
        self._remember(f"worker {worker.index} takes no commands; it is told everything again")
        log.error("worker takes no commands", worker=worker.index, code="ZR1005")
        self.control.on_worker_lost(worker.index, now)
        for action in self.control.drain():  # commands to this worker are not taken: it is still behind
            self._performer.perform(action, now)
        worker.begin()
        self._ctl.close_all_ingress(worker.index)
        self.control.on_worker_up(worker.index, now)

    def _begin_session_again(self, slot: int, now: int) -> None:
        self._remember("a peer takes no control messages; its session begins again")
        self.control.reset_session(slot, now)

    def _wake_waiting(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def _set_timer(self, now: int, least_ns: int) -> None:
        again = now + (RING_RETRY_NS if any(worker.waiting for worker in self.workers) else HEARD_EVERY_NS)
        deadlines = [d for d in (self.control.deadline(), self.lane.deadline(), again) if d is not None]
        if self._timer is not None:
            self._timer.cancel()
        delay = max(least_ns, min(deadlines) - now) / 1e9
        self._timer = asyncio.get_running_loop().call_later(delay, self._on_timer)

    def _remember(self, text: str) -> None:
        self._last_errors = [*self._last_errors[1 - LAST_ERRORS :], text]

    # -- what the API asks ----------------------------------------------------------------------------------------

    async def until(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        """Waits until ``condition()`` is true after some stream changed; False after ``timeout_s``."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while not condition():
                    await self._changed.wait()
        return condition()

    @property
    def relay_id(self) -> str:
        return self.config.node.id

    def now(self) -> int:
        return _core.clock_now()

    def pages(self) -> list[tuple[str, _core.StatPage]]:
        return [*((str(worker.index), worker.page) for worker in self.workers), ("agent", self.page)]

    def reasons(self) -> list[str]:
        """Why this relay is not ready; empty when it is."""
        reasons = [f"worker {worker.index} is down" for worker in self.workers if not worker.up]
        return reasons if self._api_up else ["starting", *reasons]

    def _progress(self, worker: int, slot: int) -> tuple[int, int]:
        row = self.workers[worker].page.stream(slot)
        return row["epoch"], row["resume_number"]

    def _pps(self, worker: int, slot: int) -> float:
        """Packets a second of a stream so far; 0: too few to say."""
        row = self.workers[worker].page.stream(slot)
        took_ns = row["last_ns"] - row["first_ns"]
        return row["packets"] * 1e9 / took_ns if row["packets"] > 10 and took_ns > 0 else 0.0

    def stream_row(self, worker: int, slot: int) -> dict[str, int]:
        return self.workers[worker].page.stream(slot)

    def _facts(self) -> Facts:
        links = self.control.links()
        now = _core.clock_now()
        views = {link.peer: self.lane.probe(link.slot, now) for link in links if link.slot is not None}
        look_at(self.traffic, self.control, now)
        probed = [self.control.linked.facts(peer, view) for peer, view in views.items() if view is not None]
        losses = {link.peer: loss for link in links if (loss := loss_of(link, self.lane)) is not None}
        return Facts(
            version=__version__,
            started_s=self.started_s,
            ready=not self.reasons(),
            worker_up={worker.index: worker.up for worker in self.workers},
            worker_restarts={worker.index: worker.restarts for worker in self.workers},
            streams=self.control.stream_counts(),
            links_up={link.peer: link.state == "up" for link in links},
            links_loss=losses | {peer: view["loss_out"] for peer, view in views.items() if view and view["samples"]},
            rejected=self.control.rejected(),
            unsupported=self.control.unsupported(),
            insecure=self.config.security.insecure_plaintext,
            map_version=self.roster.map_version,
            maps_refused=self.roster.maps_refused,
            probed=probed,
            traffic={link.peer: self.traffic.of(link.peer) for link in links},
            discarded=self._guard.counts,
            handshakes=self.control.handshake_counts(),
        )

    def link(self, peer: str, since: int) -> dict[str, Any]:
        """The body of GET /v1/links/{peer}; round trips from number `since` on. Raises 404."""
        return link_report(self.control, self.lane, peer, since, _core.clock_now(), self.traffic)

    def status(self) -> dict[str, Any]:
        """The body of GET /v1/status; see relay/status.py for the screen made of it."""
        now = _core.clock_now()
        reasons = self.reasons()
        return {
            "relay": self.config.node.id, "version": __version__, "state": "degraded" if reasons else "ready",
            "reasons": reasons, "pid": os.getpid(), "boot_id": self.boot_id,
            "uptime_s": round((now - self._started_ns) / 1e9, 3), "last_errors": self._last_errors,
            **lanes_report(self.workers, self.page, now),
            **control_report(self.control, self.lane, now, self.traffic),
        }  # fmt: skip


def _look() -> Moment:
    before, boot = time.clock_gettime_ns(time.CLOCK_MONOTONIC), time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    return moment(before, boot, time.clock_gettime_ns(time.CLOCK_MONOTONIC))


def main() -> None:
    """``python -m relay.node --boot FD``: started by the supervisor, never by hand."""
    parser = argparse.ArgumentParser(prog="relay.node")
    parser.add_argument("--boot", type=int, required=True, help="a descriptor with the boot map")
    with os.fdopen(parser.parse_args().boot, "rb") as file:
        file.seek(0)
        boot = msgpack.unpackb(file.read())
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the supervisor's: a terminal that closes reaches us all
    config = load(boot["config_path"]) if boot.get("config_path") else Config()
    set_up_logging(config)

    async def serve() -> None:
        await Node(boot).serve()

    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve())
    except StartError as error:
        print(f"zrelay: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
