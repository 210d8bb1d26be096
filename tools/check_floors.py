"""Keeps the floors of DESIGN.md: a file includes or imports its own folder and lower floors only.

    python tools/check_floors.py [ROOT]        prints file:line: rule; exits 1 when there is any

A new folder of csrc/ or module of relay/ must be given its floor here first.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

C_FLOORS = [
    ["base"],
    ["mem", "ring", "stat"],
    ["time", "coll"],
    ["wire"],
    ["kcp", "probe", "gate", "sim", "net"],
    ["forward"],
    ["worker", "load"],
]
# Forbidden although the floors alone would allow it, or might one day.
C_NEVER = {folder: {"net"} for folder in ("forward", "kcp", "probe", "gate", "sim", "wire")} | {"net": {"wire"}}
C_CLOCK_FOLDER = "time"
C_SOCKET_FOLDERS = {"net", "worker", "load"}
C_HEAP_FOLDERS = {"worker", "load"}

PY_FLOORS = [
    ["__init__", "errors", "units", "names", "secret", "identity", "peers", "violations"],
    ["_core", "_bench", "_load", "_ring", "config", "settings", "tracks", "requests", "keys", "peermap"],
    (
        "commands hostinfo hostfiles numa sockets messages actions agentlog agenda ctl handles outbox "
        "noise xchacha pace stamp handshake_wire handshake_own keymemory mapfile statedir continuity"
    ).split(),
    (
        "supervisor mailbox processes places spares watchdog worker sessions streams pulls children publications "
        "subscriptions control desk placement mirrors workers validation handshake handshake_peer sealed generations "
        "lanes links hostlimits roster supervisorconf trust views rates assault moves shelters step performer "
        "traffic"
    ).split(),
    "api openapi media_types metrics sdp sites client status report".split(),
    ["node"],
    [
        "ask",
        "cli",
        "linkcmd",
        "__main__",
        "dev",
        "demo",
        "ffmpeg",
        "impair",
        "passage",
        "bench",
        "doctor",
        "flame",
        "plan",
        "keycommand",
    ],
]
# The mains: whoever starts a loop may read a clock and hands `now` to everyone else.
PY_CLOCK_MODULES = {"node", "supervisor", "processes", "spares", "worker", *PY_FLOORS[6]}
BINDING = ("pyx", "pxd", "pxi")
PY_OUTSIDE = {"tools", "tests", "benchmarks", "setup"}

C_FLOOR_OF = {name: floor for floor, names in enumerate(C_FLOORS) for name in names}
PY_FLOOR_OF = {name: floor for floor, names in enumerate(PY_FLOORS) for name in names}

INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"\n]+)[>"]', re.M)
COMMENT_OR_TEXT = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)
C_CLOCK = re.compile(
    r"\b(clock_gettime|clock_nanosleep|gettimeofday|timespec_get|ftime|times?|clock|(?:__)?rdtscp?|"
    r"__builtin_ia32_rdtscp?)\s*\("
)
C_CLOCK_ASM = re.compile(r'"[^"\n]*\brdtscp?\b')
C_HEAP = re.compile(r"\b(malloc|calloc|realloc|reallocarray|free|strdup|aligned_alloc|posix_memalign)\s*\(")
C_SOCKET_HEADERS = re.compile(r"^(sys/socket|sys/epoll|sys/un|sys/poll|poll|netinet/.*|arpa/inet|netdb|linux/udp)\.h$")

PY_TIME_READS = {
    *("monotonic", "monotonic_ns", "time", "time_ns", "perf_counter", "perf_counter_ns"),
    *("process_time", "process_time_ns", "thread_time", "thread_time_ns", "clock_gettime", "clock_gettime_ns"),
    *("gmtime", "localtime", "ctime"),
}
PY_DATE_READS = {"now", "utcnow", "today"}


class Violation(NamedTuple):
    path: Path
    line: int
    rule: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.rule}"


def check(root: Path) -> tuple[list[Violation], int]:
    """Every violation below `root`, and how many files were read."""
    found: list[Violation] = []
    files = 0
    for path in sorted((root / "csrc").rglob("*.[ch]")):
        files += 1
        found += check_c(root, path)
    for path in sorted((root / "relay").rglob("*.py")):
        files += 1
        found += check_python(root, path)
    for path in sorted(path for ending in BINDING for path in (root / "relay").glob(f"*.{ending}")):
        files += 1
        found += check_binding(root, path)
    return found, files


# C


def check_c(root: Path, path: Path) -> Iterator[Violation]:
    """One file of csrc/: where it lies, what it includes, what it calls."""
    name = path.relative_to(root)
    folder = name.parts[1] if len(name.parts) > 2 else ""
    if folder not in C_FLOOR_OF:
        yield Violation(name, 1, f"csrc/{folder}: unknown folder; say in tools/check_floors.py which floor it is on")
        return
    text = path.read_text()
    without_comments = COMMENT_OR_TEXT.sub(_keep_text, text)
    code = COMMENT_OR_TEXT.sub(_blank, text)

    for match in INCLUDE.finditer(without_comments):
        line = _line(without_comments, match.start())
        kind, target = match.groups()
        rule = _system_include(folder, target) if kind == "<" else _own_include(root, folder, target)
        if rule:
            yield Violation(name, line, rule)
    if folder != C_CLOCK_FOLDER:
        for match in C_CLOCK.finditer(code):
            rule = f"{folder} reads a clock ({match[1]}); only csrc/{C_CLOCK_FOLDER}/ does, take `now`"
            yield Violation(name, _line(code, match.start()), rule)
        for match in C_CLOCK_ASM.finditer(without_comments):
            yield Violation(name, _line(without_comments, match.start()), f"{folder} reads a clock (rdtsc)")
    if folder not in C_HEAP_FOLDERS:
        for match in C_HEAP.finditer(code):
            rule = f"{folder} uses the heap ({match[1]}); memory comes from the caller"
            yield Violation(name, _line(code, match.start()), rule)


def _system_include(folder: str, target: str) -> str:
    if target.rpartition("/")[2] == "Python.h":
        return "Python.h in csrc/; only the binding knows Python"
    if C_SOCKET_HEADERS.match(target) and folder not in C_SOCKET_FOLDERS:
        return f"{folder} includes <{target}>: sockets belong to csrc/net/"
    if target.endswith("intrin.h") and folder != C_CLOCK_FOLDER and target == "x86intrin.h":
        return f"{folder} includes <{target}>, which has rdtsc; name the narrower header"
    return ""


def _own_include(root: Path, folder: str, target: str) -> str:
    if target.rpartition("/")[2] == "Python.h":
        return "Python.h in csrc/; only the binding knows Python"
    if ".." in Path(target).parts or not (root / "csrc" / target).is_file():
        return f'"{target}": no such file below csrc/; paths are written from there'
    other = target.partition("/")[0]
    if other not in C_FLOOR_OF:
        return f"csrc/{other}: unknown folder; say in tools/check_floors.py which floor it is on"
    if other in C_NEVER.get(folder, ()):
        return f"{folder} must never include {other}"
    if other != folder and C_FLOOR_OF[other] >= C_FLOOR_OF[folder]:
        return f"{folder} (F{C_FLOOR_OF[folder]}) includes {other} (F{C_FLOOR_OF[other]}): lower floors only"
    return ""


def _blank(match: re.Match[str]) -> str:
    return re.sub(r"[^\n]", " ", match[0])


def _keep_text(match: re.Match[str]) -> str:
    return _blank(match) if match[0].startswith("/") else match[0]


def _line(text: str, offset: int) -> int:
    return text.count("\n", 0, offset) + 1


# Python


def check_python(root: Path, path: Path) -> Iterator[Violation]:
    """One module of relay/: its floor, its imports, the clocks it reads."""
    name = path.relative_to(root)
    module = _module(name)
    if module not in PY_FLOOR_OF:
        yield Violation(name, 1, f"relay.{module}: unknown module; say in tools/check_floors.py which floor it is on")
        return
    tree = ast.parse(path.read_text(), str(path))
    for line, target in _imports(tree, name):
        rule = _import_rule(root, module, target)
        if rule:
            yield Violation(name, line, rule)
    if module not in PY_CLOCK_MODULES:
        for line, what in _clock_reads(tree):
            yield Violation(name, line, f"relay.{module} reads a clock ({what}); only the mains do, take `now`")


def _module(name: Path) -> str:
    """relay/api.py and relay/api/routes.py are both "api"; relay/__init__.py is "__init__"."""
    return name.parts[1] if len(name.parts) > 2 else name.stem


def _imports(tree: ast.Module, name: Path) -> Iterator[tuple[int, str]]:
    """Dotted targets of every import, also of those inside functions and of import_module("...")."""
    package = list(name.with_suffix("").parts[:-1])
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            dotted = ".".join([*base, *([node.module] if node.module else [])])
            if dotted == "relay":
                for alias in node.names:
                    yield node.lineno, f"relay.{alias.name}"
            else:
                yield node.lineno, dotted
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in ("import_module", "__import__") and isinstance(node.args[0].value, str):
                yield node.lineno, node.args[0].value


def _import_rule(root: Path, module: str, target: str) -> str:
    top, *rest = target.split(".")
    if top in PY_OUTSIDE:
        return f"relay.{module} imports {top}: nothing imports it"
    if top != "relay" or not rest or rest[0] == module:
        return ""
    other = rest[0]
    if other not in PY_FLOOR_OF:
        if other.startswith("__") or not _exists(root, other):
            return ""  # `from relay import __version__`: a name of the package itself
        return f"relay.{other}: unknown module; say in tools/check_floors.py which floor it is on"
    if PY_FLOOR_OF[other] > PY_FLOOR_OF[module]:
        return (
            f"relay.{module} (P{PY_FLOOR_OF[module]}) imports relay.{other} (P{PY_FLOOR_OF[other]}): lower floors only"
        )
    return ""


def _exists(root: Path, module: str) -> bool:
    return any((root / "relay").glob(f"{module}.*")) or (root / "relay" / module).is_dir()


def _clock_reads(tree: ast.Module) -> Iterator[tuple[int, str]]:
    time_names, date_names = set(), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            time_names |= {alias.asname or alias.name for alias in node.names if alias.name == "time"}
            date_names |= {alias.asname or alias.name for alias in node.names if alias.name == "datetime"}
        elif isinstance(node, ast.ImportFrom) and node.module == "time":
            for alias in node.names:
                if alias.name in PY_TIME_READS:
                    yield node.lineno, f"time.{alias.name}"
        elif isinstance(node, ast.ImportFrom) and node.module == "datetime":
            date_names |= {alias.asname or alias.name for alias in node.names if alias.name in ("datetime", "date")}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute):
            continue
        owner = ast.unparse(node.value)
        if node.attr in PY_TIME_READS and owner in time_names:
            yield node.lineno, f"time.{node.attr}"
        elif node.attr in PY_DATE_READS and owner.partition(".")[0] in date_names:
            yield node.lineno, f"{owner}.{node.attr}"
        elif node.attr == "time" and re.search(r"loop(\(\))?$", owner):
            yield node.lineno, f"{owner}.time"


def check_binding(root: Path, path: Path) -> Iterator[Violation]:
    """One .pyx, .pxd or .pxi of the binding: headers that exist, imports from P0 only, no clock."""
    name = path.relative_to(root)
    for number, line in enumerate(path.read_text().splitlines(), 1):
        code = line.partition("#")[0]
        header = re.match(r'\s*cdef extern from "([^"]+)"', code)
        if header and not header[1].startswith("<") and not (root / "csrc" / header[1]).is_file():
            yield Violation(name, number, f'"{header[1]}": no such file below csrc/')
        imported = re.match(r"\s*(?:from|import)\s+relay(?:\.(\w+)|\s+import\s+(\w+))", code)
        if imported:
            rule = _import_rule(root, "_core", f"relay.{imported[1] or imported[2]}")
            if rule:
                yield Violation(name, number, rule)
        if re.match(r"\s*(?:import\s+time\b|from\s+time\s+import\b|from\s+libc\.time\s+cimport\b)", code):
            yield Violation(name, number, "the binding reads a clock; zr_clock_now does")


def main(argv: list[str]) -> int:
    root = Path(argv[1]) if len(argv) > 1 else Path(__file__).resolve().parent.parent
    found, files = check(root)
    for violation in found:
        print(violation)
    if not files:
        print(f"floors: no sources below {root}")
        return 1
    print(f"floors: {files} files, {len(found)} violations")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
