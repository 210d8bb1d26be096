"""The state directory: the few files of a relay that have to survive a reboot.

    ID.stamp       the bound of handshake stamps (relay/stamp.py)
    ID.peers.map   the last good peer map (relay/mapfile.py)

Relays of one user may share the directory: a file's name begins with its relay's id, "/" as "%2F".
"""

from __future__ import annotations

import os
from collections.abc import Callable

from relay.config import Config, Finding
from relay.sockets import check_ours_alone

KEY = "node.state_dir"


class StateDir:
    """`path` is where the files lie."""

    def __init__(self, path: str, relay_id: str) -> None:
        self.path = path
        self._prefix = relay_id.replace("/", "%2F")

    def file(self, name: str) -> str:
        """The path of the file `name` of this relay."""
        return os.path.join(self.path, f"{self._prefix}.{name}")

    @classmethod
    def open(cls, config: Config, say: Callable[..., None]) -> StateDir:
        """Makes the directory when it is missing (0700). Where it cannot be, the runtime directory takes its place,
        and `say` hears of it.

        Raises:
            StartError: 77, others may write there.
        """
        path = os.path.realpath(config.node.state_dir)
        try:
            os.makedirs(path, mode=0o700, exist_ok=True)
            why = _refusal(path)
        except OSError as error:
            why = error.strerror or str(error)
        if why is None:
            check_ours_alone(path, KEY)
        else:
            say("warning", "no state directory", path=path, detail=why, instead=config.node.runtime_dir)
            path = config.node.runtime_dir
        return cls(path, config.node.id)


def examine_state_dir(config: Config) -> list[Finding]:
    """What `zrelay check` says of it; makes nothing. StartError as for `StateDir.open`."""
    path = there = os.path.realpath(config.node.state_dir)
    while not os.path.lexists(there) and there != "/":
        there = os.path.dirname(there)
    why = _refusal(there)
    if why is None:
        if there == path:
            check_ours_alone(path, KEY)
        return []
    text = f"{KEY} {path}: {there}: {why}: its files will lie in node.runtime_dir, which a reboot may empty"
    return [Finding("warning", text)]


def _refusal(path: str) -> str | None:
    """Why we may not make files there."""
    if not os.path.isdir(path):
        return "not a directory"
    return None if os.access(path, os.W_OK | os.X_OK, effective_ids=True) else "not writable"
