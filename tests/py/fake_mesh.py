"""Several Controls joined by a bad network, each with strict fake workers: no sockets, no C, a clock that we turn.

Hellos are lost, doubled and reordered. Control messages are reliable and in order inside one session (that is KCP's
part) and vanish with it. A fake worker fails the test when a command would be refused by the real one.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

from relay import actions as act
from relay.commands import core_codec
from relay.control import Control, ControlConf, Peer, Upstream
from relay.requests import Ingress, PublishRequest, SubscribeRequest
from relay.tracks import Track
from relay.units import Address

MS, S = 1_000_000, 1_000_000_000
VIDEO = Track(id="v0", kind="video", codec="h264", payload_type=96, clock_rate=90000)
AUDIO = Track(id="a0", kind="audio", codec="opus", payload_type=111, clock_rate=48000, channels=2)


def body(epoch: int = 1, **more: Any) -> PublishRequest:
    return PublishRequest(epoch=epoch, tracks=[VIDEO, AUDIO], ingress=Ingress(**more))


def to(port: int = 5000) -> SubscribeRequest:
    return SubscribeRequest(address=f"127.0.0.1:{port}")


@dataclass
class FakeWorker:
    """What a worker holds; raises on what the real one would refuse."""

    streams: dict[int, dict[str, int]] = field(default_factory=dict)
    subs: dict[int, tuple[int, bool, int]] = field(default_factory=dict)  # sub -> stream, child?, session
    sessions: dict[int, int] = field(default_factory=dict)
    pulls: dict[tuple[int, int], int] = field(default_factory=dict)
    bound: dict[int, int] = field(default_factory=dict)
    sockets: set[int] = field(default_factory=set)
    mirrors: dict[tuple[int, int], tuple[int, int]] = field(default_factory=dict)  # stream, worker -> slot, feed
    peers_up: list[int] = field(default_factory=list)
    secrets: list[dict[str, int]] = field(default_factory=list)
    rekeyed: list[tuple[int, int]] = field(default_factory=list)
    successor: bool = False  # of one whose children died with it
    log: list[tuple[str, dict[str, int]]] = field(default_factory=list)

    def command(self, record: bytes) -> bytes | None:
        """The `done` event when one is wanted."""
        command = core_codec().decode(record)
        op, f = command.op, command.fields
        self.log.append((op, f))
        value = getattr(self, op)(f)
        return core_codec().encode_event("done", command.seq, rc=0, value=value or 0) if command.seq else None

    def session_add(self, f: dict[str, int]) -> None:
        assert f["session"] not in self.sessions
        self.sessions[f["session"]] = f["index"]

    def session_secret(self, f: dict[str, int]) -> None:
        self.secrets = [*self.secrets[-3:], f]

    def session_rekey(self, f: dict[str, int]) -> None:
        assert f["session"] in self.sessions
        assert [told["part"] for told in self.secrets] == [0, 1, 2, 3]
        self.rekeyed.append((f["session"], f["index"]))

    def session_rate(self, f: dict[str, int]) -> None:
        assert f["session"] in self.sessions

    def session_drop(self, f: dict[str, int]) -> None:
        del self.sessions[f["session"]]
        for sub in [sub for sub, (_, child, session) in self.subs.items() if child and session == f["session"]]:
            del self.subs[sub]
        for key in [key for key in self.pulls if key[0] == f["session"]]:
            del self.pulls[key]

    def stream_open(self, f: dict[str, int]) -> None:
        assert f["stream"] not in self.streams
        self.streams[f["stream"]] = dict(f)

    def stream_track(self, f: dict[str, int]) -> None:
        assert f["stream"] in self.streams

    def stream_epoch(self, f: dict[str, int]) -> None:
        assert f["epoch"] > self.streams[f["stream"]]["epoch"]
        self.streams[f["stream"]].update(f)
        self._drop_subs(f["stream"], children_only=True)
        self._drop_mirrors(f["stream"])

    def stream_close(self, f: dict[str, int]) -> None:
        del self.streams[f["stream"]]
        self._drop_subs(f["stream"], children_only=False)
        self._drop_mirrors(f["stream"])
        self.pulls = {key: stream for key, stream in self.pulls.items() if stream != f["stream"]}
        self.bound = {slot: stream for slot, stream in self.bound.items() if stream != f["stream"]}

    def _drop_mirrors(self, stream: int) -> None:
        self.mirrors = {key: value for key, value in self.mirrors.items() if key[0] != stream}

    def _drop_subs(self, stream: int, *, children_only: bool) -> None:
        for sub, (of, child, _) in list(self.subs.items()):
            if of == stream and (child or not children_only):
                del self.subs[sub]

    def ingress_bind(self, f: dict[str, int]) -> None:
        assert self.streams[f["stream"]]["local"] == 1
        self.bound[f["ingress"]] = f["stream"]

    def ingress_source(self, f: dict[str, int]) -> None:
        assert f["ingress"] in self.bound

    def ingress_close(self, f: dict[str, int]) -> None:
        self.bound.pop(f["ingress"], None)
        self.sockets.discard(f["ingress"])

    def sub_add(self, f: dict[str, int]) -> None:
        assert f["sub"] not in self.subs
        assert f["stream"] in self.streams
        self.subs[f["sub"]] = (f["stream"], False, -1)

    def sub_addr(self, f: dict[str, int]) -> None:
        assert f["sub"] in self.subs

    def sub_drop(self, f: dict[str, int]) -> None:
        assert f["sub"] in self.subs or self.successor
        self.subs.pop(f["sub"], None)

    def child_add(self, f: dict[str, int]) -> int:
        assert f["sub"] not in self.subs
        assert f["stream"] in self.streams
        assert f["session"] in self.sessions
        self.subs[f["sub"]] = (f["stream"], True, f["session"])
        return f["from"]

    def child_want(self, f: dict[str, int]) -> None:
        assert self.subs[f["sub"]][1]

    def pull_start(self, f: dict[str, int]) -> None:
        assert f["session"] in self.sessions
        assert self.streams[f["stream"]]["local"] == 0
        self.pulls[f["session"], f["conv"]] = f["stream"]

    def pull_stop(self, f: dict[str, int]) -> None:
        self.pulls.pop((f["session"], f["conv"]), None)  # it may have gone with its session

    def mirror_add(self, f: dict[str, int]) -> None:
        assert self.streams[f["stream"]]["local"] != 2
        assert (f["stream"], f["target"]) not in self.mirrors
        self.mirrors[f["stream"], f["target"]] = (f["slot"], f["feed"])

    def mirror_drop(self, f: dict[str, int]) -> None:
        del self.mirrors[f["stream"], f["target"]]

    def peer_up(self, f: dict[str, int]) -> None:
        self.peers_up.append(f["peer"])

    def keyframe(self, f: dict[str, int]) -> None:
        assert f["stream"] in self.streams


class FakeRelay:
    """One relay's Control and its workers."""

    def __init__(self, mesh: Mesh, name: str, plan: dict[str, Any]) -> None:
        self.mesh, self.name = mesh, name
        peers = [Peer(peer, [mesh.address(peer)]) for peer in plan["peers"]]
        conf = ControlConf(
            name, mesh.rng.getrandbits(64), workers=plan.get("workers", 1), peers=peers,
            upstreams=[Upstream(peer) for peer in plan["upstreams"]], linger_ns=S, **plan.get("conf", {}),
        )  # fmt: skip
        self.control = Control(conf, random.Random(mesh.rng.getrandbits(64)), progress=lambda worker, slot: (0, 0))
        self.workers = [FakeWorker() for _ in range(conf.workers)]
        self.sessions: dict[int, act.SessionAdd] = {}
        self.words: list[str] = []
        self.no_sockets = False
        self.control.start(mesh.now)
        for worker in range(conf.workers):
            self.control.on_worker_up(worker, mesh.now)

    def pump(self) -> None:
        for _ in range(100):
            actions = self.control.drain()
            if not actions:
                return
            for action in actions:
                self.perform(action)
        raise AssertionError("the control plane does not come to rest")

    def perform(self, action: act.Action) -> None:
        now = self.mesh.now
        match action:
            case act.Command(worker, record):
                event = self.workers[worker].command(record)
                if event is not None:
                    self.control.on_event(worker, core_codec().decode_event(event), now)
            case act.SendDatagram(address, data):
                self.mesh.datagram(self.name, address, data)
            case act.SendControl(slot, payload):
                assert slot in self.sessions
                self.mesh.queues.append((self.name, self.sessions[slot], payload))
            case act.SessionAdd():
                assert action.slot not in self.sessions
                self.sessions[action.slot] = action
            case act.SessionRekey(slot):
                assert slot in self.sessions
            case act.SessionDrop(slot):
                del self.sessions[slot]
            case act.CloseIngress(worker, slot):
                assert slot not in self.workers[worker].sockets, "the worker hears of it first"
            case act.OpenIngress(worker, slot, ip, port):
                if self.no_sockets:
                    self.control.on_ingress_open(worker, slot, None, "too many open files", now)
                else:
                    self.workers[worker].sockets.add(slot)
                    self.control.on_ingress_open(worker, slot, Address(ip, port or 30000 + slot), None, now)

    def move_worker(self, worker: int) -> None:
        """Another process with the same streams, players and ingress; no conversation lived on."""
        dead = self.workers[worker]
        players = {slot: sub for slot, sub in dead.subs.items() if not sub[1]}
        self.workers[worker] = FakeWorker(dead.streams, players, bound=dead.bound, sockets=dead.sockets, successor=True)
        self.control.on_worker_moved(worker, self.mesh.now)
        self.pump()

    def lose_worker(self, worker: int) -> None:
        self.control.on_worker_lost(worker, self.mesh.now)
        self.pump()
        self.workers[worker] = FakeWorker()
        self.control.on_worker_up(worker, self.mesh.now)
        self.pump()


class Mesh:
    """`plans`: name -> {"peers": [...], "upstreams": [...], "workers": n}."""

    def __init__(self, plans: dict[str, dict[str, Any]], seed: int = 1) -> None:
        self.rng = random.Random(seed)
        self.now = S
        self.loss = 0.0
        self.plans = plans
        self.names = list(plans)
        self.queues: list[tuple[str, act.SessionAdd, bytes]] = []  # from, over, message: in order
        self.air: list[tuple[int, str, Address, bytes]] = []
        self.relays: dict[str, FakeRelay] = {}
        for name in plans:
            self.boot(name)

    def boot(self, name: str) -> None:
        self.relays[name] = FakeRelay(self, name, self.plans[name])
        self.relays[name].pump()

    def __getitem__(self, name: str) -> Control:
        return self.relays[name].control

    def address(self, name: str) -> Address:
        return Address("127.0.0.1", 20000 + 100 * self.names.index(name))

    def datagram(self, source: str, address: Address, data: bytes) -> None:
        for _ in range(self.rng.choice((1, 1, 1, 2)) if self.loss else 1):
            if self.rng.random() >= self.loss:
                delay = self.rng.randrange(1, 60 if self.loss else 2) * MS
                name = self.names[(address.port - 20000) // 100]
                self.air.append((self.now + delay, name, self.address(source), data))

    def run(self, duration_ns: int, step_ns: int = 10 * MS) -> None:
        """Turns the clock; everything due happens."""
        end = self.now + duration_ns
        while self.now < end:
            self.now += step_ns
            due = sorted((item for item in self.air if item[0] <= self.now), key=lambda item: item[0])
            self.air = [item for item in self.air if item[0] > self.now]
            for _, name, source, data in due:
                word = self[name].on_datagram(data, source, self.now)
                if word is not None:
                    self.relays[name].words.append(word)
                self.relays[name].pump()
            self._deliver()
            for name, relay in self.relays.items():
                for slot, session in list(relay.sessions.items()):
                    if self._other_end(name, session) is not None:
                        relay.control.on_heard(slot, self.now)
                deadline = relay.control.deadline()
                if deadline is not None and deadline <= self.now:
                    relay.control.on_timer(self.now)
                relay.pump()

    def _other_end(self, name: str, session: act.SessionAdd) -> tuple[str, int] | None:
        for other, relay in self.relays.items():
            for slot, theirs in relay.sessions.items():
                if other != name and (theirs.index, theirs.peer_index) == (session.peer_index, session.index):
                    return other, slot
        return None

    def _deliver(self) -> None:
        waiting, self.queues = self.queues, []
        for source, session, payload in waiting:
            if session not in self.relays[source].sessions.values():
                continue  # the session is gone, and what was in it
            end = self._other_end(source, session)
            if end is None:
                self.queues.append((source, session, payload))
                continue
            word = self[end[0]].on_message(end[1], payload, self.now)
            assert word is None, word
            self.relays[end[0]].pump()


def chain(count: int = 3, seed: int = 1, workers: int = 1, **conf: Any) -> Mesh:
    """a <- b <- c ...: each pulls from the one before."""
    names = "abcdefgh"[:count]
    return Mesh(
        {
            name: {
                "peers": list(names[max(0, i - 1) : i] + names[i + 1 : i + 2]),
                "upstreams": list(names[max(0, i - 1) : i]),
                "workers": workers,
                "conf": conf,
            }
            for i, name in enumerate(names)
        },
        seed,
    )
