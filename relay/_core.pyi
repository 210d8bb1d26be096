"""The C core as Python sees it.

Times are nanoseconds of the monotonic clock (`clock_now`); a deadline of 2**63 - 1 means never. Addresses are
struct zr_addr as 20 bytes (`relay.units.Address.pack`), records struct zr_cmd as 64 bytes (`relay.commands`).
Return codes < 0 become `relay.errors.CoreError`; where the operating system refused, OSError.
"""

from typing import Any, TypeAlias, final

KeyRow: TypeAlias = tuple[int, bool, bytes, bytes, int]  # relay.actions.SessionKeys.row()

ERRORS: tuple[tuple[str, int, str], ...]  # name, value, text
STATS: tuple[tuple[str, str, str, str], ...]  # name, kind ("c" counter, "g" gauge), unit, help
DROPS: tuple[tuple[str, str, str, str], ...]  # id, ledger, word (the metric's label), help
HISTS: tuple[tuple[str, str, str, str], ...]  # name, "h", unit, help
COMMANDS: tuple[tuple[str, tuple[str, ...], str], ...]  # op, names of a b c d x y addr ("_": unused), help
EVENTS: tuple[tuple[str, tuple[str, ...], str], ...]
CODECS: tuple[tuple[str, str], ...]  # word, rtpmap name; the position is the code
FDPASS: tuple[int, int]  # magic and op of the message that carries an ingress socket
FDPASS_BECOME: int
FDPASS_UP: int

def clock_now() -> int: ...
def cipher_default() -> int:
    """What this machine is fastest at, as in relay.actions.SessionKeys."""

def journal_open(name: str, streams_max: int) -> int:
    """A new, empty journal for a worker of this size: its descriptor."""

def shm_open(name: str, size: int) -> int:
    """A sealed memfd of `size` zero bytes: its descriptor, the caller's to close."""

def udp_open(address: bytes, *, rcvbuf: int = 0, sndbuf: int = 0, gro: bool = False, fragment: bool = True) -> int:
    """A bound, non-blocking UDP socket: its descriptor. Buffers in bytes, as far as the limits allow; 0: default.

    `fragment` False: a datagram longer than the path takes is refused. OSError: EADDRINUSE and others.
    """

def worker_parts(
    *, streams_max: int, sessions_max: int = 1024, window: int = 1024, batch: int = 64, chan_slots: int = 4096
) -> dict[str, int]:
    """What a Worker of these sizes reserves, bytes by what they are for. CoreError "inval"."""

def control_lane_bytes(sessions_max: int = 1024) -> int:
    """What a ControlLane reserves."""

class Counters:
    """Who has a counter page. Reading never disturbs the writer."""

    def counts(self) -> tuple[dict[str, int], dict[str, int], dict[str, int]]:
        """(stats, drops, ledgers) as they stood together between two turns of the writer."""

    def stats(self) -> dict[str, int]: ...
    def drops(self) -> dict[str, int]:
        """By id (not by word: a word may stand in two ledgers)."""

    def hist(self, name: str) -> list[tuple[int, int]]:
        """(lowest value of the bucket, count) where the count is not 0, ascending."""

    def ledgers(self) -> dict[str, int]:
        """By how much each ledger is off; 0 at every turn's end."""

    def stream(self, slot: int) -> dict[str, int]:
        """The row of a stream. IndexError."""

    def session(self, slot: int) -> tuple[int, int, int, int, int, int]:
        """Of a session's slot: datagrams, bytes, payload bytes received; the same sent (zr_link_row). IndexError."""

    @property
    def pid(self) -> int: ...
    @property
    def generation(self) -> int: ...
    @property
    def heartbeat_ns(self) -> int: ...
    @property
    def started_ns(self) -> int: ...

@final
class StatPage(Counters):
    """A page of another process, or a new one. CoreError "version": not ours, or of another size."""

    def __new__(cls, fd: int, *, streams_max: int, create: bool = False) -> StatPage: ...
    @staticmethod
    def bytes_for(streams_max: int) -> int: ...
    @property
    def ending(self) -> bool:
        """Its process runs no further instruction of its own, if it is an honest one: pidfds tell later."""

def watch_lives(pages: list[StatPage], eventfd: int) -> None:
    """Adds to the eventfd whenever a page's process begins to end; for a thread of its own, which never comes back.
    CoreError: more than 128 pages, or the kernel cannot (before 5.16)."""

@final
class Channel:
    """The agent's end of the rings shared with one worker. `slots`: a power of two. CoreError "version"."""

    def __new__(cls, fd: int, *, slots: int = 4096, create: bool = False) -> Channel: ...
    @staticmethod
    def bytes_for(slots: int) -> int: ...
    def post(self, record: bytes) -> bool:
        """False: the ring is full. ValueError: not 64 bytes."""

    def wake_needed(self) -> bool:
        """After posting: must the worker's eventfd be written? True once per sleep."""

    def events(self, most: int = 4096) -> list[bytes]: ...
    def sleep(self) -> None:
        """Before waiting on the agent's eventfd; look at `events` once more after it."""

    def awake(self) -> None: ...
    @property
    def corrupt(self) -> bool:
        """A counter or size in the rings cannot be true; what broke stays broken: nothing is read or written there."""

@final
class Inbox:
    """What the other workers give to one: a ring for each of `workers`. Without a descriptor: memory of its own.

    CoreError "version": no inbox, or one of other sizes, unless `create`.
    """

    def __new__(cls, workers: int, *, fd: int = -1, slots: int = 512, create: bool = False) -> Inbox: ...
    @staticmethod
    def bytes_for(workers: int, *, slots: int = 512) -> int:
        """ValueError when a size is out of range."""

@final
class Forwarder(Counters):
    """A worker's data plane without sockets, for tests and simulations. Sizes of 0 are the core's defaults.

    Inputs belong to the turn that the next `turn` ends; pending commands run before a turn's first input.
    `deadlines_ms`: how long audio, key frames and the rest may take over one hop. `inboxes`: of all workers of its
    relay, its own at index `lane`.
    """

    def __new__(
        cls,
        lane: int,
        now: int,
        *,
        streams_max: int = 64,
        pkts_max: int = 4096,
        subs_max: int = 0,
        ingress_max: int = 0,
        sessions_max: int = 0,
        convs_max: int = 0,
        peer_lanes_max: int = 0,
        blocks_max: int = 0,
        window: int = 0,
        cache_max: int = 0,
        epoch: int = 0,
        chan_slots: int = 4096,
        batch_entries: int = 256,
        deadlines_ms: tuple[int, int, int] = (400, 400, 400),
        residual: float = 0,
        max_overhead: float = 0,
        overload_enter: tuple[float, float, float, float] = ...,
        inboxes: list[Inbox] | None = None,
    ) -> Forwarder: ...
    def command(self, record: bytes) -> None:
        """CoreError "full"."""

    def events(self) -> list[bytes]: ...
    def link_input(self, data: bytes, addr: bytes, now: int) -> bool:
        """False: dropped and counted. The same for the two below."""

    def ingress_input(self, slot: int, data: bytes, addr: bytes, now: int) -> bool: ...
    def egress_input(self, data: bytes, addr: bytes, now: int) -> bool: ...
    def turn(self, now: int, batches: int = -1) -> list[tuple[int, bytes, bytes]]:
        """What goes out: (socket: 0 link, 1 egress, 2 + ingress slot; address; datagram).

        `batches`: at most so many of them, as when the socket takes no more; -1: everything.
        """

    def load(self, busy: int, ring: int, pool: int, lag: int, now: int) -> None:
        """How it went in the last 100 ms: permille, and ns of lag. The overload level follows."""

    def wakes(self) -> list[int]:
        """Workers that this turn wrote to while they slept: each turns now."""

    def sleep(self, lane: int) -> bool:
        """Says that worker `lane`, which is this one, sleeps. False: something came before it could, so it turns."""

    def deadline(self) -> int: ...
    def check(self) -> bool:
        """Slow: every invariant."""

    def pool_in_use(self) -> int: ...
    def ingress_closed(self) -> list[int]:
        """Ingress slots whose sockets are to be closed, since the last call."""

@final
class ControlLane(Counters):
    """Lane 63: the agent's end of every session; conversation 0 of each. With `page_fd`, counts into that page.

    `rate_idle`, `rate_active`: datagrams a second that a session promises its peer, -1: the usual; idle 0: no probes.
    `seed`: of the probes' tokens, 64 bits that nobody knows.
    """

    def __new__(
        cls,
        now: int,
        *,
        sessions_max: int = 1024,
        page_fd: int = -1,
        gso: bool = True,
        residual: float = 0,
        max_overhead: float = 0,
        rate_idle: int = -1,
        rate_active: int = -1,
        seed: int = 0,
    ) -> ControlLane: ...
    def input(self, data: bytes, addr: bytes, now: int) -> list[tuple[bytes, bytes]]:
        """One datagram; answers as `receive`."""

    def receive(self, fd: int, now: int) -> list[tuple[bytes, bytes]]:
        """Takes what the socket holds, up to a budget; hellos, answers and cookie replies that passed the gate:
        (data, address). At most 16 a call, since each may cost a key exchange: while `hellos_waiting`, call again."""

    def hellos_waiting(self) -> int:
        """Passed the gate, not handed out yet."""

    def gate_keys(
        self,
        public: bytes,
        mesh: bytes,
        seed: bytes | None = None,
        former: bytes | None = None,
        former_until: int = 0,
    ) -> None:
        """Our static public key and the mesh key, 32 bytes each: from now on only sealed handshake messages pass, no
        plaintext hello. Again: other keys. `seed`: 32 random bytes, never used before; for simulations. `former`: our
        public key before this one; messages made for it pass before `former_until`. CoreError "inval", "os"."""

    def busy(self, thousandths: int) -> None:
        """How much of a core this process uses: above 300 handshakes must carry a cookie (PROTOCOL.md §3)."""

    def messages(self) -> list[tuple[int, bytes]]:
        """Control messages: (session slot, payload)."""

    def refuse(self, drop: str) -> None:
        """Something handed out was no good: moves one datagram from accepted to this link drop, by id."""

    def session_add(
        self,
        slot: int,
        index: int,
        peer_index: int,
        lanes: int,
        rate_mhz: int,
        mtu: int,
        addr: bytes,
        now: int,
        keys: KeyRow | None = None,
    ) -> None:
        """Opens conversation 0 too; without keys in plaintext. CoreError "exists", "inval", "nomem"."""

    def session_rekey(self, slot: int, index: int, peer_index: int, keys: KeyRow, now: int) -> None:
        """One more generation of keys. CoreError "exists", "inval" (also in plaintext), "missing"."""

    def rekeys(self) -> list[tuple[int, int]]:
        """Sessions that want new keys: (slot, why), why as in the event `rekey`."""

    def violations(self) -> list[tuple[int, int]]:
        """Sessions whose datagrams broke the rules of KCP: (slot, how often since the last call that named it)."""

    def session_drop(self, slot: int) -> None: ...
    def send(self, slot: int, payload: bytes, now: int) -> None:
        """CoreError "full", "missing", "oversize"."""

    def heard(self, slot: int) -> int:
        """When anything valid came; 0: never."""

    def index(self, slot: int) -> int:
        """Our index of the keys it sends under; 2^32 - 1: no such session."""

    def rtt_us(self, slot: int) -> int:
        """Round trip of conversation 0, microseconds; 0: not measured, or below 1 ms."""

    def estimates(self, slot: int) -> dict[str, int] | None:
        """What conversation 0 has measured: struct zr_kcp_estimates, and the segments `sent`. None: no such session."""

    def session_active(self, slot: int, active: bool, now: int) -> None:
        """The session carries streams, or no longer does. CoreError "missing"."""

    def heard_elsewhere(self, slot: int, when: int, now: int) -> None:
        """A worker's lane heard the session at `when`. CoreError "missing"."""

    def probed(self) -> list[int]:
        """Sessions whose state, path mtu or address changed, or whose peer is silent for half of T_dead (`ask`)."""

    def probe(self, slot: int, now: int) -> dict[str, Any] | None:
        """What the session knows of its path: struct zr_probe_view, and `addr` and `moves` of zr_paths.

        None: no such session, or it is not probed.
        """

    def session_paths(self, slot: int, addrs: list[bytes], now: int) -> None:
        """The addresses of the peer's agent, at most 8, the session's among them: all are kept warm, the best is used.

        CoreError "inval", "missing".
        """

    def paths(self, slot: int) -> list[dict[str, Any]]:
        """Of each: addr, used, proven, srtt_us (0: not measured), loss (0 to 1) of `known` challenges."""

    def round_trips(self, slot: int, since: int = 0) -> list[int]:
        """Microseconds, oldest first: from the sample with this number on, of the last 256."""

    def datagrams(self, now: int) -> list[tuple[bytes, bytes]]:
        """What is due: (address, datagram). For simulations."""

    def flush(self, fd: int, now: int) -> None:
        """Sends what is due."""

    def deadline(self) -> int: ...
    def check(self) -> bool: ...

@final
class Worker(Counters):
    """One worker process's core. CoreError "inval", "version"; OSError. Descriptors of -1: there is none.

    `spin_ns` 0 blocks in epoll. `hold_ns`, 0 to 1 ms: how long a fan-out may wait for longer runs. `stop_signal`: taken
    from a signalfd, so it must be blocked in every thread.
    `peers`: (inbox, wake) descriptors of all workers of its relay, its own at index `lane`.
    """

    def __new__(
        cls,
        *,
        lane: int = 0,
        chan_fd: int = -1,
        page_fd: int = -1,
        link_fd: int = -1,
        egress_fd: int = -1,
        fdpass_fd: int = -1,
        wake_fd: int = -1,
        agent_wake_fd: int = -1,
        streams_max: int = 64,
        chan_slots: int = 4096,
        sessions_max: int = 1024,
        window: int = 1024,
        batch: int = 64,
        gso: bool = True,
        spin_ns: int = 0,
        hold_ns: int = 0,
        stop_signal: int = 0,
        deadlines_ms: tuple[int, int, int] = (400, 400, 400),
        residual: float = 0,
        max_overhead: float = 0,
        overload_enter: tuple[float, float, float, float] = ...,
        peers: list[tuple[int, int]] | None = None,
    ) -> Worker: ...
    def pin(self) -> bool:
        """Touches what the first packets need and locks memory as it is touched; False: not permitted."""

    def stand_by(self, sock: int, places: list[tuple[int, str, dict[str, int]]]) -> int:
        """For one made without page and channel: waits without the GIL for the order to be a worker, and is it.

        `places`: (lane, process name, descriptors page, chan, link, egress, wake, agent_wake and perhaps journal) by
        worker. The index of the place taken; -1: told to stop instead, or the other end of `sock` is gone. CoreError
        "malformed", "version"; OSError.
        """

    def run(self) -> None:
        """Forwards without the GIL until the stop command, the stop signal or `ask_stop`."""

    def ask_stop(self) -> None:
        """From any thread."""

@final
class SimLink:
    """One one-way link. Times in ns, loss, dup and reorder 0 to 1, `burst` a mean length. Same seed, same run."""

    def __new__(
        cls,
        delay_ns: int = 0,
        jitter_ns: int = 0,
        loss: float = 0.0,
        burst: float = 1.0,
        dup: float = 0.0,
        reorder: float = 0.0,
        rate_bps: int = 0,
        queue_bytes: int = 0,
        packets_max: int = 4096,
        seed: int = 0,
    ) -> SimLink: ...
    def put(self, data: bytes, tag: int, now: int) -> bool:
        """True, dropped or not: `counts` knows. CoreError "oversize" above 2 048 bytes."""

    def get(self, now: int) -> tuple[bytes, int] | None:
        """The next packet due and its tag."""

    def deadline(self) -> int: ...
    def counts(self) -> dict[str, int]: ...
