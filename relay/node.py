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
from collections.abc import Callable
from typing import Any

import msgpack
import structlog
import uvloop
from aiohttp import web

from relay import __version__, _core
from relay import actions as act
from relay.agentlog import set_up_logging
from relay.api import make_app
from relay.commands import decode_event, encode
from relay.config import Config, load
from relay.control import Control, ControlConf
from relay.errors import CoreError
from relay.metrics import Facts, PageCollector, percentile
from relay.units import Address

EVENTS_PER_PUMP = 4096
PUMPS_MAX = 64
HEARD_EVERY_NS = 200_000_000
LAST_ERRORS = 8

log = structlog.get_logger("zrelay.agent")


class WorkerHandle:
    """The agent's end of one worker: command and event ring, counter page, eventfd."""

    def __init__(self, index: int, fds: dict[str, int], streams_max: int) -> None:
        self.index = index
        self.channel = _core.Channel(fds["chan"])
        self.page = _core.StatPage(fds["page"], streams_max=streams_max)
        self.wake_fd = fds["wake"]
        self.up = False
        self.restarts = 0

    def post(self, record: bytes) -> bool:
        """False when the ring is full: the worker is stuck or gone."""
        if not self.channel.post(record):
            return False
        if self.channel.wake_needed():
            os.eventfd_write(self.wake_fd, 1)
        return True


class Node:
    """One relay's agent. ``serve`` returns when the supervisor or a signal says so."""

    def __init__(self, boot: dict[str, Any]) -> None:
        self.config: Config = load(boot["config_path"]) if boot.get("config_path") else Config()
        self.boot_id: int = boot["boot_id"]
        streams_max: int = boot["streams_max"]
        self.workers = [WorkerHandle(i, fds, streams_max) for i, fds in enumerate(boot["workers"])]
        self.page = _core.StatPage(boot["page"], streams_max=boot.get("agent_streams_max", 0))
        self._link_fd: int = boot["link"]
        self._wake_fd: int = boot["wake"]
        self._supervisor = socket.socket(fileno=boot["ctl"])
        now = _core.clock_now()
        self.lane = _core.ControlLane(now, page_fd=boot["page"])
        conf = ControlConf.of(self.config, self.boot_id, len(self.workers), streams_max)
        self.control = Control(conf, random.Random(random.SystemRandom().getrandbits(64)), progress=self._progress)
        self.collector = PageCollector(self.pages, self._facts)
        self.started_s = time.time()
        self._started_ns = now
        self._changed = asyncio.Event()  # replaced by a fresh one whenever it is set
        self._stop = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._ingress_asked: dict[int, tuple[int, int]] = {}  # request -> (worker, slot)
        self._next_request = 1
        self._heard_next = now
        self._last_errors: list[str] = []
        self._sessions: set[int] = set()
        self._pumping = False
        self._api_up = False

    # -- life -----------------------------------------------------------------------------------------------------

    async def serve(self) -> None:
        """Start everything, run until stopped, close the API."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        loop.add_reader(self._link_fd, self._on_link)
        loop.add_reader(self._wake_fd, self._on_wake)
        self._supervisor.setblocking(False)
        loop.add_reader(self._supervisor, self._on_supervisor)
        if self.config.security.insecure_plaintext:
            log.warning("links are NOT encrypted: insecure_plaintext = true, loopback only", code="ZR1001")
        for worker in self.workers:
            worker.post(encode("reset"))  # whatever an agent before this one had set up there
        self.control.start(_core.clock_now())
        self.pump()
        runner = web.AppRunner(make_app(self), access_log=None, handle_signals=False)
        await runner.setup()
        try:
            await self._listen(runner)
            self._api_up = True
            self._tell_supervisor({"t": "ready"})
            log.info(
                "agent ready", relay=self.config.node.id, version=__version__, api=str(self.config.listen.api),
                data=str(self.config.listen.data), workers=len(self.workers),
            )  # fmt: skip
            await self._stop.wait()
        finally:
            await runner.cleanup()
            for worker in self.workers:
                worker.post(encode("stop"))

    async def _listen(self, runner: web.AppRunner) -> None:
        api = self.config.listen.api
        await web.TCPSite(runner, api.ip, api.port, shutdown_timeout=1.0).start()
        path = self.config.listen.socket
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        await web.UnixSite(runner, path, shutdown_timeout=1.0).start()
        os.chmod(path, 0o660)

    # -- inputs ---------------------------------------------------------------------------------------------------

    def _on_link(self) -> None:
        now = _core.clock_now()
        for data, addr in self.lane.receive(self._link_fd, now):
            source = Address.unpack(addr)
            word = self.control.on_datagram(data, source, now) if source else "src"
            if word is not None:
                self.lane.refuse(word)
        self.pump(now)

    def _on_wake(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._wake_fd)
        self.pump()

    def _on_supervisor(self) -> None:
        now = _core.clock_now()
        try:
            data = self._supervisor.recv(65536)
        except BlockingIOError:
            return
        if not data:  # the supervisor died: go on serving; the init system brings it back
            asyncio.get_running_loop().remove_reader(self._supervisor)
            log.error("the supervisor is gone; forwarding goes on", code="ZR1002")
            return
        message = msgpack.unpackb(data)
        kind = message["t"]
        if kind == "worker_up":
            handle = self.workers[message["worker"]]
            handle.up = True
            self.control.on_worker_up(handle.index, now)
        elif kind == "worker_lost":
            handle = self.workers[message["worker"]]
            handle.up = False
            handle.restarts += 1
            self._remember(f"worker {handle.index} was lost and is being replaced")
            self.control.on_worker_lost(handle.index, now)
        elif kind == "ingress":
            worker, slot = self._ingress_asked.pop(message["r"])
            error = message.get("error")
            address = None if error else Address(message["address"], message["port"])
            self.control.on_ingress_open(worker, slot, address, error, now)
        elif kind == "stop":
            self._stop.set()
        self.pump(now)

    def _on_timer(self) -> None:
        self._timer = None
        self.pump()

    # -- the pump -------------------------------------------------------------------------------------------------

    def pump(self, now: int | None = None) -> None:
        """Everything that can move now, moves; then the timer is set. Bounded; never re-entered."""
        if self._pumping:
            return
        self._pumping = True
        try:
            now = _core.clock_now() if now is None else now
            for _ in range(PUMPS_MAX):
                if not self._pump_once(now):
                    break
            self.lane.flush(self._link_fd, now)
            self._set_timer(now)
        finally:
            self._pumping = False

    def _pump_once(self, now: int) -> bool:
        moved = False
        for slot, payload in self.lane.messages():
            moved = True
            word = self.control.on_message(slot, payload, now)
            if word is not None:
                self.lane.refuse(word)
        for worker in self.workers:
            events = worker.channel.events(EVENTS_PER_PUMP)
            if not events:
                worker.channel.sleep()
                events = worker.channel.events(EVENTS_PER_PUMP)  # written between the look and the nap
            for record in events:
                moved = True
                self.control.on_event(worker.index, decode_event(record), now)
        if now >= self._heard_next:
            self._heard_next = now + HEARD_EVERY_NS
            for slot in self._sessions:
                heard = self.lane.heard(slot)
                if heard:
                    self.control.on_heard(slot, heard)
                    self.control.on_rtt(slot, self.lane.rtt_us(slot))
        self.control.on_timer(now)
        for action in self.control.drain():
            moved = True
            self._perform(action, now)
        return moved

    def _perform(self, action: act.Action, now: int) -> None:
        match action:
            case act.Command(worker, record):
                if not self.workers[worker].post(record):
                    self._remember(f"worker {worker} does not take commands")
            case act.SendControl(slot, payload):
                try:
                    self.lane.send(slot, payload, now)
                except CoreError as error:
                    self._remember(f"control message not sent: {error}")
            case act.SendDatagram(address, data):
                with contextlib.suppress(OSError):  # a hello that cannot leave is sent again
                    os_address = (address.ip, address.port)
                    self._hello_socket(address).sendto(data, os_address)
            case act.SessionAdd():
                self.lane.session_add(
                    action.slot, action.index, action.peer_index, action.lanes, action.rate_mhz, action.mtu,
                    action.address.pack(), now,
                )  # fmt: skip
                self._sessions.add(action.slot)
            case act.SessionDrop(slot):
                self._sessions.discard(slot)
                self.lane.session_drop(slot)
            case act.OpenIngress():
                self._open_ingress(action)
            case act.StreamChanged():
                self._changed.set()
                self._changed = asyncio.Event()
            case act.Refuse(word):
                self.lane.refuse(word)
            case act.Log(level, event, fields):
                getattr(log, level)(event, **fields)
                if level in ("warning", "error"):
                    self._remember(event)

    def _hello_socket(self, address: Address) -> socket.socket:
        """The link socket as a Python socket: hellos leave by the port the peer knows."""
        if not hasattr(self, "_link_socket"):
            family = socket.AF_INET6 if ":" in address.ip else socket.AF_INET
            self._link_socket = socket.socket(family, socket.SOCK_DGRAM, fileno=os.dup(self._link_fd))
        return self._link_socket

    def _open_ingress(self, action: act.OpenIngress) -> None:
        request = self._next_request
        self._next_request += 1
        self._ingress_asked[request] = (action.worker, action.slot)
        low, _, high = self.config.ingress.ports.partition("-")
        self._tell_supervisor({
            "t": "open_ingress", "r": request, "worker": action.worker, "slot": action.slot,
            "address": action.ip, "port": action.port, "ports": [int(low), int(high or low)],
        })  # fmt: skip

    def _tell_supervisor(self, message: dict[str, Any]) -> None:
        try:
            self._supervisor.send(msgpack.packb(message))
        except OSError as error:
            self._remember(f"the supervisor does not listen: {error}")

    def _set_timer(self, now: int) -> None:
        deadlines = [d for d in (self.control.deadline(), self.lane.deadline(), now + HEARD_EVERY_NS) if d is not None]
        if self._timer is not None:
            self._timer.cancel()
        delay = max(0, min(deadlines) - now) / 1e9
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
        return row["epoch"], row["next_number"]

    def stream_row(self, worker: int, slot: int) -> dict[str, int]:
        return self.workers[worker].page.stream(slot)

    def _facts(self) -> Facts:
        return Facts(
            version=__version__,
            started_s=self.started_s,
            ready=not self.reasons(),
            worker_up={worker.index: worker.up for worker in self.workers},
            worker_restarts={worker.index: worker.restarts for worker in self.workers},
            streams=self.control.stream_counts(),
            links_up={link.peer: link.state == "up" for link in self.control.links()},
        )

    def status(self) -> dict[str, Any]:
        """The body of GET /v1/status; see relay/status.py for the screen made of it."""
        now = _core.clock_now()
        uptime_s = (now - self._started_ns) / 1e9
        totals: dict[str, int] = {}
        ledgers: dict[str, int] = {}
        drops: dict[str, int] = {}
        hists: dict[str, dict[int, int]] = {"hop_delay_us": {}, "age_us": {}}
        workers = []
        for lane, page in self.pages():
            stats = page.stats()
            for name, kind, _, _ in _core.STATS:
                if kind == "c":
                    totals[name] = totals.get(name, 0) + stats[name]
            for name, off in page.ledgers().items():
                ledgers[name] = ledgers.get(name, 0) + abs(off)
            for name, count in page.drops().items():
                if count:
                    drops[name] = drops.get(name, 0) + count
            for name, merged in hists.items():
                for floor, count in page.hist(name):
                    merged[floor] = merged.get(floor, 0) + count
            if lane != "agent":
                handle = self.workers[int(lane)]
                workers.append({
                    "worker": handle.index, "up": handle.up, "pid": page.pid, "generation": page.generation,
                    "restarts": handle.restarts, "streams": stats["streams"], "subscribers": stats["subs"],
                    "busy_pct": round(stats["busy_ns"] / max(1, now - page.started_ns) * 100, 2), "stats": stats,
                })  # fmt: skip
        reasons = self.reasons()
        streams: dict[str, int] = {}
        for (state, _), count in self.control.stream_counts().items():
            streams[state] = streams.get(state, 0) + count
        return {
            "relay": self.config.node.id, "version": __version__, "state": "degraded" if reasons else "ready",
            "reasons": reasons, "pid": os.getpid(),
            "boot_id": self.boot_id, "uptime_s": round(uptime_s, 3), "workers": workers,
            "links": [{"peer": k.peer, "state": k.state, "rtt_ms": k.rtt_ms} for k in self.control.links()],
            "streams": streams, "totals": totals, "ledgers": ledgers, "drops": drops,
            "hop_delay_ms": _percentiles(hists["hop_delay_us"]), "age_ms": _percentiles(hists["age_us"]),
            "last_errors": self._last_errors,
        }  # fmt: skip


def _percentiles(hist: dict[int, int]) -> dict[str, float | None]:
    buckets = sorted(hist.items())

    def at(share: float) -> float | None:
        value = percentile(buckets, share)
        return None if value is None else value / 1000

    return {"p50": at(0.5), "p99": at(0.99), "max": at(1.0)}


def main() -> None:
    """``python -m relay.node --boot FD``: started by the supervisor, never by hand."""
    parser = argparse.ArgumentParser(prog="relay.node")
    parser.add_argument("--boot", type=int, required=True, help="a descriptor with the boot map")
    with os.fdopen(parser.parse_args().boot, "rb") as file:
        file.seek(0)
        boot = msgpack.unpackb(file.read())
    config = load(boot["config_path"]) if boot.get("config_path") else Config()
    set_up_logging(config)

    async def serve() -> None:
        await Node(boot).serve()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve())
    sys.exit(0)


if __name__ == "__main__":
    main()
