"""Who we are and who our peers are, as the agent knows it: its keys, the configuration file, the peer map.

roster = Roster(config, keys_fd, now, say, ns)  then `peers` and `identity` are those of the start
if roster.news(now):                            often: control.set_peers(roster.peers, ...)
if roster.take_keys(now, ns):                   on SIGHUP: control.set_identity(roster.identity)
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from relay._core import cipher_default
from relay.config import Config, Finding
from relay.identity import CIPHER_AES_GCM, CIPHER_CHACHA, Identity, encode_public
from relay.keymemory import keep_to_ourselves, pack, unpack
from relay.keys import EXIT_CONFIG, KeyFileError, Keyring, public_of
from relay.mapfile import MapFile, Say, read_map
from relay.peermap import MapError, verify
from relay.peers import Peer, merged
from relay.sockets import StartError
from relay.statedir import StateDir, examine_state_dir

KEPT_MAP = "peers.map"
CIPHERS = {"aes-128-gcm": CIPHER_AES_GCM, "chacha20-poly1305": CIPHER_CHACHA}  # "auto": what this CPU is fast at


class Roster:
    """`keys_fd`: the sealed memory with the keys, -1 on plaintext links. `state`: where files that last lie, then None.
    `clock_ns`: now, by the agent's clock.

    StartError when the memory holds no keys, or others may write where the state lies.
    """

    def __init__(self, config: Config, keys_fd: int, now: datetime, say: Say, clock_ns: int) -> None:
        self._config, self._say = config, say
        security = config.security
        self._identity: Identity | None = None
        if keys_fd >= 0:
            keep_to_ourselves()
            self._identity = unpack(keys_fd, security.keyring, _wall_ns(now), clock_ns)
        self.state = None if self._identity is None else StateDir.open(config, say)
        self._listed = [Peer.of(peer) for peer in config.peers]
        if self._identity is not None:
            _refuse_ourselves(self._listed, self._identity)
        self.map: MapFile | None = None
        if security.peer_map and self.state is not None:
            self.map = MapFile(security.peer_map, security.map_key, self.state.file(KEPT_MAP), say)
            self.map.start(now)
        self.peers: list[Peer] = []
        self._merge()

    @property
    def identity(self) -> Identity | None:
        """With the peers in force; None on plaintext links."""
        if self._identity is None:
            return None
        peers = {peer.id: peer.public_key for peer in self.peers}
        return replace(
            self._identity, peers=peers, cipher=CIPHERS.get(self._config.security.cipher) or cipher_default()
        )

    @property
    def map_version(self) -> int | None:
        """Of the peer map in force; 0: none was good. None where there is none to be."""
        return None if self.map is None else 0 if self.map.current is None else self.map.current.version

    @property
    def maps_refused(self) -> int:
        return 0 if self.map is None else self.map.refused

    def news(self, now: datetime, *, again: bool = False) -> bool:
        """True when `peers` are others than before. `again`: read the map even if its file looks unchanged."""
        if self.map is None or not self.map.look(now, again=again):
            return False
        self._merge()
        return True

    def take_keys(self, now: datetime, clock_ns: int) -> bool:
        """The keys in the files now, with the one before a rotation; True when they are others. Files that cannot be
        used are said; all stays."""
        if self._identity is None:
            return False
        try:
            keyring = self._config.security.keyring
            found = unpack(pack(Keyring(keyring), _wall_ns(now)), keyring, _wall_ns(now), clock_ns)
        except (KeyFileError, StartError) as error:
            self._say("error", "keys not reloaded", detail=str(error))
            return False
        had = self._identity
        changed = (found.private, found.mesh_key, found.former) != (had.private, had.mesh_key, had.former)
        self._identity = found
        return changed

    def _merge(self) -> None:
        mapped = self.map.current.relays if self.map is not None and self.map.current is not None else ()
        own_key = b"" if self._identity is None else public_of("identity", self._identity.private)
        self.peers, odd = merged(self._listed, mapped, self._config.node.id, own_key)
        for text in odd:
            self._say("warning", "peer map", detail=text)


def examine(config: Config, now: datetime) -> list[Finding]:
    """What `zrelay check` says of keys and peer map. StartError when the relay would not start with these keys."""
    security = config.security
    if security.insecure_plaintext or not security.keyring:
        return []
    try:
        identity = Keyring(security.keyring).identity()
    except KeyFileError as error:
        raise StartError(error.exit_code, str(error)) from None
    listed = [Peer.of(peer) for peer in config.peers]
    _refuse_ourselves(listed, identity)
    own_key = public_of("identity", identity.private)
    found = [*examine_state_dir(config), Finding("info", f"public key {encode_public(own_key)}")]
    if not security.peer_map:
        return found
    try:
        peer_map = verify(read_map(security.peer_map), security.map_key, now)
    except (OSError, MapError) as error:
        text = error.strerror if isinstance(error, OSError) else str(error)
        return [*found, Finding("warning", f"peer map {security.peer_map}: {text}")]
    _, odd = merged(listed, peer_map.relays, config.node.id, own_key)
    found += [Finding("warning", f"peer map: {text}") for text in odd]
    return [*found, Finding("info", f"peer map version {peer_map.version}, {len(peer_map.relays)} relays")]


def _wall_ns(now: datetime) -> int:
    return int(now.timestamp() * 1e6) * 1000


def _refuse_ourselves(listed: list[Peer], identity: Identity) -> None:
    own_key = public_of("identity", identity.private)
    for peer in listed:
        if peer.public_key == own_key:
            text = f"peer {peer.id!r} has this relay's own public key: `zrelay keys show` on {peer.id} prints its own"
            raise StartError(EXIT_CONFIG, text)
