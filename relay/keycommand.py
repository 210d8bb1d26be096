"""``zrelay keys``: make, show, list and replace keys; sign peer maps. Keys come from files, never from arguments."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import NoReturn

import click

from relay.cli import SuggestingGroup
from relay.identity import encode_public
from relay.keys import KINDS, KeyFileError, Keyring, public_of

DEFAULT_KEYRING = "/etc/zrelay/keyring"
NEXT = {
    "identity": 'peers list it as public_key = "{public}"; here: [security] keyring = "{path}"',
    "mesh": "copy {path}/mesh to the keyring of every relay, mode 0600; its fingerprint must be the same everywhere",
    "map": '[security] peer_map_key = "{public}" on every relay; then: zrelay keys sign-map SOURCE -o peers.map',
}
AFTER_ROTATE = {
    "identity": "reload this relay (SIGHUP), then tell the peers the new public key within 15 minutes: so long those "
    "that have the old one connect, too; take {path}/identity.old away and reload again, and that is over at once",
    "mesh": "copy {path}/mesh to every relay and reload them all within 15 minutes: sessions last that long",
    "map": "set [security] peer_map_key on every relay to the new key, then sign the map again",
}

_name = click.argument("name", type=click.Choice([*KINDS]), default="identity")
_keyring = click.option(
    "-k", "--keyring", "path", default=DEFAULT_KEYRING, show_default=True, help="The directory with the keys."
)
_as_json = click.option("--json", "as_json", is_flag=True, help="The same as JSON.")


@click.group(cls=SuggestingGroup)
def keys() -> None:
    """Keys of sealed links: a relay's own, the mesh's, and the one that signs peer maps.

    First: zrelay keys gen (on each relay), zrelay keys gen mesh (on one; copy the file to the others).

    Exit codes: 0, 71 there is a key already, 77 others could read or replace it, 78 no key or not a key.
    """


@keys.command()
@_name
@_keyring
def gen(name: str, path: str) -> None:
    """Make a key, file mode 0600; one that is there is never overwritten."""
    try:
        public = encode_public(public_of(name, Keyring(path).make(name)))
    except KeyFileError as error:
        _fail(error)
    click.echo(public)
    click.echo(f"{name} made. Next: " + NEXT[name].format(public=public, path=path), err=True)


@keys.command()
@_name
@_keyring
def show(name: str, path: str) -> None:
    """Print the public half; of the mesh key a fingerprint."""
    try:
        click.echo(encode_public(public_of(name, Keyring(path).read(name))))
    except KeyFileError as error:
        _fail(error)


@keys.command("list")
@_keyring
@_as_json
def list_(path: str, as_json: bool) -> None:
    """The keys of the keyring: name, kind, public half or fingerprint, age."""
    ring = Keyring(path)
    rows = []
    try:
        for name in ring.names():
            public = encode_public(public_of(name, ring.read(name)))
            made_s = int(os.stat(os.path.join(path, name)).st_mtime)
            rows.append({"name": name, "kind": KINDS[name], "public": public, "made_s": made_s})
    except KeyFileError as error:
        _fail(error)
    if as_json:
        click.echo(json.dumps(rows))
        return
    for row in rows:
        days = max(0, int(time.time()) - int(str(row["made_s"]))) // 86400
        click.echo(f"{row['name']:9} {row['kind']:8} {row['public']:45} {days} d old")


@keys.command()
@_name
@_keyring
def rotate(name: str, path: str) -> None:
    """Replace a key; the one before stays as NAME.old."""
    try:
        public = encode_public(public_of(name, Keyring(path).rotate(name)))
    except KeyFileError as error:
        _fail(error)
    click.echo(public)
    click.echo(f"{name} replaced. Next: " + AFTER_ROTATE[name].format(path=path), err=True)


@keys.command("sign-map")
@click.argument("source", type=click.Path(dir_okay=False))
@click.option("-o", "--output", required=True, type=click.Path(dir_okay=False), help="The signed map.")
@click.option("--map-version", type=click.IntRange(1, 2**53), help="Default: the time, or one more than in OUTPUT.")
@_keyring
def sign_map(source: str, output: str, map_version: int | None, path: str) -> None:
    """Sign SOURCE (TOML, [[relays]] with id, public_key, addresses, rights) as a peer map.

    Relays read it again when it changes; one with a lower version than they know they refuse.
    """
    from relay.config import ConfigError
    from relay.peermap import MapError, sign, source_map, version_of

    try:
        key = Keyring(path).read("map")
        if map_version is None:
            map_version = max(int(time.time()), version_of(output) + 1)
        signed = sign(source_map(source, map_version), key)
        temporary = f"{output}.new"
        Path(temporary).write_bytes(signed)
        os.replace(temporary, output)  # relays watch it: they see the one or the other
    except KeyFileError as error:
        _fail(error)
    except ConfigError as error:
        click.echo(f"zrelay: {error}", err=True)
        sys.exit(error.exit_code)
    except MapError as error:
        click.echo(f"zrelay: {source}: {error}", err=True)
        sys.exit(78)
    except OSError as error:
        click.echo(f"zrelay: {error.filename}: {error.strerror}", err=True)
        sys.exit(71)
    click.echo(f"{output}: version {map_version}, signed by {encode_public(public_of('map', key))}", err=True)


def _fail(error: KeyFileError) -> NoReturn:
    click.echo(f"zrelay: {error}", err=True)
    sys.exit(error.exit_code)
