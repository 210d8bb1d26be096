"""The configuration file: TOML, strict, every error with its place.

    relay.toml:12:1: unknown key 'recieve_buffer' in [sockets] (did you mean 'receive_buffer'?)

Keys are those of the structs in relay/settings.py. ZRELAY_SECTION__KEY in the environment overrides a key. A file that
cannot be used exits 78 (EX_CONFIG), one that may not be read 77.
"""

from __future__ import annotations

import difflib
import errno
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

import msgspec

from relay.settings import NO_EFFECT_YET, Config, Parsed
from relay.units import Address

__all__ = ["Config", "ConfigError", "Finding", "check", "effective", "load", "loads"]

EXIT_CONFIG, EXIT_PERMISSION = 78, 77
FILE_BYTES_MAX = 1 << 20
ENV_PREFIX = "ZRELAY_"
T = TypeVar("T", bound=msgspec.Struct)


class ConfigError(Exception):
    """`file:line:col: message (hint)`; line and col are 0 when the place is the whole file."""

    def __init__(
        self, path: str, message: str, line: int = 0, col: int = 0, hint: str = "", exit_code: int = EXIT_CONFIG
    ) -> None:
        place = f"{path}:{line}:{col}" if line else path
        super().__init__(f"{place}: {message}" + (f" ({hint})" if hint else ""))
        self.path, self.message, self.line, self.col, self.hint = path, message, line, col, hint
        self.exit_code = exit_code


class Finding(msgspec.Struct, frozen=True):
    """Something worth knowing in a file that can be used."""

    level: str
    message: str

    def __str__(self) -> str:
        return f"{self.level}: {self.message}"


def load(path: str | os.PathLike[str], environ: Mapping[str, str] | None = None) -> Config:
    """Reads and validates a file. Raises ConfigError."""
    name = os.fspath(path)
    return loads(_text(name), name, environ)


def read(shape: type[T], path: str | os.PathLike[str]) -> T:
    """Another TOML file of ours, as strict, into its own struct; nothing overrides it. Raises ConfigError."""
    name = os.fspath(path)
    table, reader = _parse(_text(name), name)
    result: T = reader.struct(shape, table, ())
    return result


def _text(name: str) -> str:
    try:
        data = Path(name).read_bytes()
    except PermissionError as error:
        raise ConfigError(name, "may not be read", hint=str(error.strerror), exit_code=EXIT_PERMISSION) from None
    except OSError as error:
        text = "is a directory" if error.errno == errno.EISDIR else (error.strerror or str(error)).lower()
        raise ConfigError(name, text, hint="give the file with -c") from None
    if len(data) > FILE_BYTES_MAX:
        raise ConfigError(name, f"has {len(data)} bytes, at most {FILE_BYTES_MAX}")
    if b"\0" in data:
        raise ConfigError(name, "holds a NUL byte", data[: data.index(b"\0")].count(b"\n") + 1, 1)
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise ConfigError(name, "is not UTF-8", data[: error.start].count(b"\n") + 1, 1) from None


def loads(text: str, path: str = "<config>", environ: Mapping[str, str] | None = None) -> Config:
    """As `load`, from the text. `environ`: where ZRELAY_… is looked up; default os.environ."""
    table, reader = _parse(text, path)
    reader.override(table, os.environ if environ is None else environ)
    config: Config = reader.struct(Config, table, ())
    for where, message in problems(config):
        raise reader.error(where, message)
    return config


def _parse(text: str, path: str) -> tuple[dict[str, Any], _Reader]:
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        place = re.search(r"\(at line (\d+), column (\d+)\)", str(error))
        line, col = (int(place[1]), int(place[2])) if place else (text.count("\n") + 1, 1)
        raise ConfigError(path, str(error).split(" (at ")[0], line, col) from None
    except RecursionError:
        raise ConfigError(path, "is nested too deeply") from None
    return table, _Reader(path, text)


def check(config: Config) -> list[Finding]:
    """Warnings about a configuration that can be used."""
    found = []
    if config.security.insecure_plaintext:
        found.append(Finding("warning", "[security] insecure_plaintext: links are not encrypted, loopback only"))
    listed = {peer.id for peer in config.peers}
    for peer in sorted(listed - {upstream.peer for upstream in config.upstreams}):
        if config.upstreams:
            found.append(Finding("info", f"peer {peer!r} is no upstream: it may pull from here, not the other way"))
    cpus = os.cpu_count() or 1
    if config.workers.count > cpus:
        found.append(Finding("warning", f"[workers] count = {config.workers.count} on {cpus} CPUs"))
    idle = _without_effect(config)
    if idle:
        found.append(Finding("info", f"{', '.join(idle)} {'has' if len(idle) == 1 else 'have'} no effect yet"))
    return found


def _without_effect(config: Config) -> list[str]:
    """Keys that do nothing yet and were given a value: one that is not the default."""
    found = []
    for section, keys in NO_EFFECT_YET.items():
        part = getattr(config, section)
        structs = part if isinstance(part, list) else [part]
        for key in keys:
            if any(_is_set(struct, key) for struct in structs):
                found.append(f"{section}.{key}")
    return found


def _is_set(struct: msgspec.Struct, key: str) -> bool:
    field = next(field for field in msgspec.structs.fields(struct) if field.encode_name == key)
    default = field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
    return bool(getattr(struct, field.name) != default)


def effective(config: Config) -> dict[str, Any]:
    """Every value in use, defaults included, as plain data."""

    def plain(value: Any) -> Any:
        if isinstance(value, Address):
            return str(value)
        if isinstance(value, msgspec.Struct):
            names = {field.name: field.encode_name for field in msgspec.structs.fields(value)}
            return {encoded: plain(getattr(value, name)) for name, encoded in names.items()}
        if isinstance(value, list | tuple):
            return [plain(item) for item in value]
        return value

    result: dict[str, Any] = plain(config)
    return result


def problems(config: Config) -> list[tuple[tuple[str | int, ...], str]]:
    """What is wrong between keys: (place, message)."""
    found: list[tuple[tuple[str | int, ...], str]] = []
    ids = [peer.id for peer in config.peers]
    for number, peer in enumerate(config.peers):
        if peer.id in ids[:number]:
            found.append((("peers", number, "id"), f"peer {peer.id!r} is listed twice"))
        if peer.id == config.node.id:
            found.append((("peers", number, "id"), f"peer {peer.id!r} is this relay itself"))
        keys = [other.public_key for other in config.peers[:number]]
        if peer.public_key and peer.public_key in keys:
            found.append((("peers", number, "public_key"), "two peers with one public key"))
    for number, peer in enumerate(config.peers):
        if not peer.addresses:
            text = f"peer {peer.id!r} has no address: give one like '127.0.0.1:29900'"
            found.append((("peers", number, "addresses"), text))
    for number, upstream in enumerate(config.upstreams):
        if upstream.peer not in ids and not config.security.peer_map:  # else it may come with the map
            close = difflib.get_close_matches(upstream.peer, ids, 1)
            hint = f", did you mean {close[0]!r}?" if close else ""
            found.append((("upstreams", number, "peer"), f"no peer {upstream.peer!r} is listed{hint}"))
    cpus = os.cpu_count() or 1
    if config.workers.count > cpus and not config.workers.oversubscribe:
        text = f"{config.workers.count} workers on {cpus} CPUs: allowed with oversubscribe = true"
        found.append((("workers", "count"), text))
    pinned = len(config.workers.cpus)
    if 0 < pinned < config.workers.count and not config.workers.oversubscribe:
        text = f"{config.workers.count} workers, but cpus names {pinned}: name more, or set oversubscribe = true"
        found.append((("workers", "cpus"), text))
    found += _link_problems(config)
    if not config.listen.api.is_loopback:
        found.append((("listen", "api"), "the API has no tokens yet: it listens on loopback only"))
    last = config.listen.data.port + config.workers.count
    if last > 65535:
        found.append((("listen", "data"), f"worker ports would end at {last}, beyond 65535"))
    return found


def _link_problems(config: Config) -> list[tuple[tuple[str | int, ...], str]]:
    """Links are sealed; or they are plaintext, on loopback, and the file says so."""
    security = config.security
    make = f"`zrelay keys gen` makes keys, [security] keyring = {security.keyring or '/etc/zrelay/keyring'!r} uses them"
    found: list[tuple[tuple[str | int, ...], str]] = []
    sealed = bool(security.keyring) and not security.insecure_plaintext
    if not sealed:
        rule = f"is not loopback: links there are sealed: {make}"
        if not config.listen.data.is_loopback:
            found.append((("listen", "data"), f"{config.listen.data} {rule}"))
        for number, peer in enumerate(config.peers):
            for address in peer.addresses:
                if not address.is_loopback:
                    found.append((("peers", number, "addresses"), f"{address} {rule}"))
    if security.insecure_plaintext:
        if security.peer_map:
            found.append((("security", "peer_map"), "a peer map is for sealed links: insecure_plaintext excludes it"))
        return found
    if config.peers and not sealed:
        found.append((("peers", 0, "id"), f"peers need keys: {make}; on loopback insecure_plaintext = true will do"))
    if security.peer_map and not sealed:
        found.append((("security", "peer_map"), f"a peer map needs keys: {make}"))
    if security.peer_map and not security.peer_map_key:
        text = "peer_map needs peer_map_key: `zrelay keys show map` prints it where maps are signed"
        found.append((("security", "peer_map"), text))
    for number, peer in enumerate(config.peers):
        if not peer.public_key:
            text = f"peer {peer.id!r} has no public_key: `zrelay keys show` there prints it"
            found.append((("peers", number, "id"), text))
    return found


class _Reader:
    """From TOML's dicts to structs; knows where each key stands."""

    def __init__(self, path: str, text: str) -> None:
        self._path = path
        self._places = _places(text)
        self._from_env: dict[tuple[str | int, ...], str] = {}

    def error(self, where: tuple[str | int, ...], message: str, hint: str = "") -> ConfigError:
        for end in range(len(where), -1, -1):
            if where[:end] in self._from_env:
                return ConfigError(self._from_env[where[:end]], message, hint=hint)
            if where[:end] in self._places:
                return ConfigError(self._path, message, *self._places[where[:end]], hint=hint)
        return ConfigError(self._path, message, hint=hint)

    def override(self, table: dict[str, Any], environ: Mapping[str, str]) -> None:
        for name, text in sorted(environ.items()):
            section, found, key = name.removeprefix(ENV_PREFIX).partition("__")
            if not name.startswith(ENV_PREFIX) or not found:
                continue
            section, key = section.lower(), key.lower()
            self._from_env[section, key] = f"${name}"
            if not isinstance(table.setdefault(section, {}), dict):
                raise ConfigError(f"${name}", f"[{section}] is no table of keys")
            try:
                value = tomllib.loads(f"value = {text}")["value"]
            except tomllib.TOMLDecodeError:
                value = text  # a plain word is a string
            table[section][key] = value

    def struct(self, shape: type[msgspec.Struct], table: Any, where: tuple[str | int, ...]) -> Any:
        place = _section(where)
        if not isinstance(table, dict):
            raise self.error(where, f"{place} must be a table")
        fields = {field.encode_name: field for field in msgspec.structs.fields(shape)}
        values = {}
        for key, value in table.items():
            if key not in fields:
                close = difflib.get_close_matches(key, fields, 1, 0.6)
                hint = f"did you mean {close[0]!r}?" if close else ""
                raise self.error((*where, key), f"unknown key {key!r}" + (f" in {place}" if where else ""), hint)
            values[fields[key].name] = self.value(fields[key].type, value, (*where, key))
        for field in fields.values():
            if field.required and field.name not in values:
                raise self.error(where, f"{place} needs {field.encode_name!r}")
        return shape(**values)

    def value(self, kind: Any, value: Any, where: tuple[str | int, ...]) -> Any:
        for meta in getattr(kind, "__metadata__", ()):
            if isinstance(meta, Parsed):
                return self._parsed(meta, value, where)
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            return self.struct(kind, value, where)
        if get_origin(kind) is list and isinstance(value, list):
            return [self.value(get_args(kind)[0], item, (*where, number)) for number, item in enumerate(value)]
        try:
            return msgspec.convert(value, kind, strict=True)
        except msgspec.ValidationError as error:
            raise self.error(where, f"{where[-1]}: {str(error)[:1].lower()}{str(error)[1:]}") from None

    def _parsed(self, meta: Parsed, value: Any, where: tuple[str | int, ...]) -> Any:
        if not isinstance(value, meta.takes) or isinstance(value, bool):
            wanted = " or ".join(kind.__name__ for kind in meta.takes)
            raise self.error(where, f"{where[-1]}: expected {wanted}, got {type(value).__name__}")
        try:
            return meta.parse(value)
        except ValueError as error:
            raise self.error(where, f"{where[-1]}: {error}") from None


def _section(where: tuple[str | int, ...]) -> str:
    names = [str(part) for part in where if isinstance(part, str)]
    name = ".".join(names)
    return f"[[{name}]]" if where and isinstance(where[-1], int) else f"[{name}]" if name else "the file"


_HEADER = re.compile(r"\s*(\[\[?)\s*([A-Za-z0-9_.\- \"]+?)\s*\]\]?")
_KEY = re.compile(r"\s*([A-Za-z0-9_\-\"]+)\s*=")


def _places(text: str) -> dict[tuple[str | int, ...], tuple[int, int]]:
    """(section…, key) -> (line, col), found by scanning lines; good enough for what people write by hand."""
    found: dict[tuple[str | int, ...], tuple[int, int]] = {}
    counts: dict[str, int] = {}
    section: tuple[str | int, ...] = ()
    for line, row in enumerate(text.splitlines(), 1):
        header = _HEADER.match(row)
        if header is not None and "=" not in row.split("]")[0]:
            name = header[2].replace('"', "")
            section = tuple(name.split("."))
            if header[1] == "[[":
                counts[name] = counts.get(name, -1) + 1
                section = (*section, counts[name])
            elif len(section) > 1 and str(section[0]) in counts:  # [peers.rights] belongs to the last [[peers]]
                section = (section[0], counts[str(section[0])], *section[1:])
            found.setdefault(section, (line, header.start(1) + 1))
            continue
        key = _KEY.match(row)
        if key is not None:
            found.setdefault((*section, key[1].strip('"')), (line, key.start(1) + 1))
    return found
