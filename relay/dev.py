"""A mesh on this machine: N relays in a chain on loopback, each a full ``zrelay run`` process tree.

    bj-1 <- sh-1 <- gz-1 <- ...        each pulls from the one before it ([[upstreams]])

Ports are free ones, files and keys lie in a temporary folder (mode 0700) that goes with the mesh. Nothing is pinned.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import random
import shutil
import signal
import socket
import sys
import tempfile
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from relay.client import Client
from relay.units import Address

NAMES = ("bj-1", "sh-1", "gz-1", "sz-1", "cd-1", "hk-1", "sg-1", "fra-1")
START_TIMEOUT_S = 40.0
LINKS_TIMEOUT_S = 15.0
STOP_TIMEOUT_S = 5.0
INGRESS_PORTS = 256
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_libc = ctypes.CDLL(None)  # opened here: nothing is loaded between fork and exec


def die_with_parent(number: signal.Signals = signal.SIGKILL) -> Callable[[], None]:
    """A ``preexec_fn``: the child gets signal ``number`` when we go, however we go."""
    parent = os.getpid()

    def ask() -> None:
        _libc.prctl(_PR_SET_PDEATHSIG, int(number))
        if os.getppid() != parent:  # we went before the child had asked
            os.kill(os.getpid(), number)

    return ask


_given: deque[range] = deque(maxlen=64)  # most of a mesh's; they are bound later, by others


def free_ports(count: int, kind: int = socket.SOCK_DGRAM) -> int:
    """The first of ``count`` consecutive loopback ports that are free now (another process may still take them).

    Below the ephemeral ports where there is room: those the kernel gives to anybody's next connection. None that was
    given shortly before.
    """
    below = _ephemeral_first()
    for attempt in range(500):
        end = below if attempt < 250 and below - count > 10000 else 60000
        first = random.randrange(10000, end - count)
        if attempt < 400 and any(first < given.stop and given.start < first + count for given in _given):
            continue
        with contextlib.ExitStack() as held:
            try:
                for port in range(first, first + count):
                    sock = held.enter_context(socket.socket(socket.AF_INET, kind))
                    sock.bind(("127.0.0.1", port))
            except OSError:
                continue
            _given.append(range(first, first + count))
            return first
    raise OSError(f"no {count} consecutive free ports on loopback")


def _ephemeral_first() -> int:
    return int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])


@dataclass
class Impaired:
    """A bad link to put between two relays: each lists the other at the impairer's address.

    Several between the same two are as many ways: the first on 127.0.0.1, the next on 127.0.0.2, and so on.
    """

    near: str
    far: str
    options: list[str]
    near_listen: Address | None = None  # where `near` sees `far`
    far_listen: Address | None = None
    process: asyncio.subprocess.Process | None = None


@dataclass
class DevRelay:
    """One relay of the mesh: where it listens, its files, its process."""

    name: str
    folder: Path
    data: Address
    api: Address
    ingress_ports: tuple[int, int]
    workers: int = 1
    peers: dict[str, Address] = field(default_factory=dict)
    further: dict[str, list[Address]] = field(default_factory=dict)  # addresses of peers that have several
    upstreams: list[str] = field(default_factory=list)
    keyring: Path | None = None  # None: plaintext
    public_keys: dict[str, str] = field(default_factory=dict)  # of peers
    before: list[str] = field(default_factory=list)  # its command: what runs it
    process: asyncio.subprocess.Process | None = None

    @property
    def config_path(self) -> Path:
        return self.folder / f"{self.name}.toml"

    @property
    def log_path(self) -> Path:
        return self.folder / f"{self.name}.log"

    @property
    def api_url(self) -> str:
        return f"http://{self.api}"

    def toml(self) -> str:
        """The relay's configuration file."""
        peers = "".join(self._peer(name, address) for name, address in self.peers.items())
        links = "insecure_plaintext = true" if self.keyring is None else f'keyring = "{self.keyring}"'
        upstreams = "".join(f'\n[[upstreams]]\npeer = "{name}"\n' for name in self.upstreams)
        return (
            f'[node]\nid = "{self.name}"\nruntime_dir = "{self.folder / self.name}"\n'
            f'state_dir = "{self.folder / "state"}"\n\n'
            f'[listen]\ndata = "{self.data}"\napi = "{self.api}"\nsocket = "{self.folder / self.name / "api.sock"}"\n\n'
            f"[workers]\ncount = {self.workers}\n\n"
            f'[ingress]\naddress = "127.0.0.1"\nports = "{self.ingress_ports[0]}-{self.ingress_ports[1]}"\n\n'
            f"[security]\n{links}\n"
            f"{peers}{upstreams}"
        )

    def _peer(self, name: str, address: Address) -> str:
        key = f'public_key = "{self.public_keys[name]}"\n' if self.keyring is not None else ""
        addresses = ", ".join(f'"{each}"' for each in (address, *self.further.get(name, ())))
        return f'\n[[peers]]\nid = "{name}"\naddresses = [{addresses}]\n{key}'


class DevMesh:
    """Starts and stops the relays; use as ``async with DevMesh(3) as mesh``. `sealed` False: links in plaintext.

    Raises:
        RuntimeError: a relay did not come up; the message ends with the tail of its log.
    """

    def __init__(
        self,
        relays: int = 3,
        *,
        workers: int = 1,
        impaired: list[Impaired] | None = None,
        ingress_ports: int = INGRESS_PORTS,
        sealed: bool = True,
    ) -> None:
        if not 1 <= relays <= len(NAMES):
            raise ValueError(f"relays: 1 to {len(NAMES)}")
        self._stack = contextlib.ExitStack()
        self.folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="zrelay-dev-")))
        self.impaired = impaired or []
        self._ingress_ports = ingress_ports
        self.relays = [self._relay(name, workers) for name in NAMES[:relays]]
        self._join(workers)
        if sealed:
            self._make_keys()

    def _relay(self, name: str, workers: int) -> DevRelay:
        data = Address("127.0.0.1", free_ports(1 + workers))
        api = Address("127.0.0.1", free_ports(1, socket.SOCK_STREAM))
        ingress = free_ports(self._ingress_ports)
        return DevRelay(name, self.folder, data, api, (ingress, ingress + self._ingress_ports - 1), workers)

    def _join(self, workers: int) -> None:
        by_name = {relay.name: relay for relay in self.relays}
        for before, after in zip(self.relays, self.relays[1:], strict=False):
            before.peers[after.name] = after.data
            after.peers[before.name] = before.data
            after.upstreams.append(before.name)
        for number, bad in enumerate(self.impaired):
            ways = sum((bad.near, bad.far) == (other.near, other.far) for other in self.impaired[:number])
            bad.near_listen = Address(f"127.0.0.{1 + ways}", free_ports(1 + workers))
            bad.far_listen = Address(f"127.0.0.{1 + ways}", free_ports(1 + workers))
            for relay, peer, listen in ((bad.near, bad.far, bad.near_listen), (bad.far, bad.near, bad.far_listen)):
                if ways:
                    by_name[relay].further.setdefault(peer, []).append(listen)
                else:
                    by_name[relay].peers[peer] = listen

    def _make_keys(self) -> None:
        from relay.identity import encode_public
        from relay.keys import Keyring, public_of

        public = {}
        for relay in self.relays:
            relay.keyring = self.folder / "keys" / relay.name
            ring = Keyring(str(relay.keyring))
            public[relay.name] = encode_public(public_of("identity", ring.make("identity")))
            if relay is self.relays[0]:
                ring.make("mesh")
            else:
                shutil.copy(self.folder / "keys" / self.relays[0].name / "mesh", relay.keyring)  # mode and all
        for relay in self.relays:
            relay.public_keys = {peer: public[peer] for peer in relay.peers}

    def __getitem__(self, name: str) -> DevRelay:
        return next(relay for relay in self.relays if relay.name == name)

    async def __aenter__(self) -> DevMesh:
        try:
            for bad in self.impaired:
                await self._start_impairer(bad)
            for relay in self.relays:
                await self.start(relay)
            await asyncio.gather(*(self.wait_ready(relay) for relay in self.relays))
            if not self.impaired:
                await asyncio.gather(*(self.wait_linked(relay) for relay in self.relays))
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self, relay: DevRelay) -> None:
        """Starts one relay (again); does not wait until it is ready."""
        relay.config_path.write_text(relay.toml())
        with relay.log_path.open("ab") as log:
            relay.process = await asyncio.create_subprocess_exec(
                *relay.before,
                sys.executable, "-m", "relay.cli", "run", "-c", str(relay.config_path), "--die-with-parent",
                stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                preexec_fn=die_with_parent(signal.SIGTERM),  # until it asks itself; it takes its workers along
            )  # fmt: skip

    async def wait_ready(self, relay: DevRelay) -> None:
        """Until the relay's API says that it is ready."""
        async with Client(relay.api_url, timeout_s=2.0) as client:
            waiting = asyncio.ensure_future(client.wait_ready(START_TIMEOUT_S))
            assert relay.process is not None
            ended = asyncio.ensure_future(relay.process.wait())
            done, _ = await asyncio.wait({waiting, ended}, return_when=asyncio.FIRST_COMPLETED)
            ended.cancel()
            if waiting not in done or waiting.exception() is not None:
                waiting.cancel()
                log = relay.log_path.read_text(errors="replace")[-2000:]
                raise RuntimeError(f"{relay.name} did not come up; its log ends:\n{log}")

    async def wait_linked(self, relay: DevRelay) -> None:
        """Until its links to other relays of the mesh are up; after 15 s without that: a mesh works while they come."""
        wanted = {peer.name for peer in self.relays} & relay.peers.keys()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LINKS_TIMEOUT_S), self.client(relay.name) as client:
                while not wanted <= {link["peer"] for link in await _links(client) if link["state"] == "up"}:
                    await asyncio.sleep(0.02)

    async def _start_impairer(self, bad: Impaired) -> None:
        near, far = self[bad.near], self[bad.far]
        bad.process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "relay.cli", "impair", "--json", "--ports", str(1 + near.workers),
            "--a", f"{bad.near_listen},{near.data}", "--b", f"{bad.far_listen},{far.data}", *bad.options,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, start_new_session=True,
            preexec_fn=die_with_parent(),
        )  # fmt: skip

    async def stop_impairer(self, bad: Impaired) -> str:
        """Ends it; answers what it printed: JSON lines, the last one with the final counts."""
        assert bad.process is not None
        if bad.process.returncode is None:
            bad.process.send_signal(signal.SIGTERM)
        out, _ = await bad.process.communicate()
        return out.decode()

    async def kill(self, relay: DevRelay) -> None:
        """SIGTERM, and SIGKILL to its whole process group when that takes too long."""
        process = relay.process
        if process is None:
            return
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(process.wait(), STOP_TIMEOUT_S)
            except TimeoutError:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        relay.process = None

    async def stop(self) -> None:
        """Stops everything and removes the folder."""
        try:
            await asyncio.gather(*(self.kill(relay) for relay in self.relays))
            for bad in self.impaired:
                if bad.process is not None and bad.process.returncode is None:
                    await self.stop_impairer(bad)
        finally:
            self._stack.close()

    @contextlib.asynccontextmanager
    async def client(self, name: str) -> AsyncIterator[Client]:
        """A client of that relay's API."""
        async with Client(self[name].api_url) as client:
            yield client


async def _links(client: Client) -> list[dict[str, Any]]:
    links: list[dict[str, Any]] = (await client.get("/v1/status"))["links"]
    return links
