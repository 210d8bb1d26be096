"""The compiler flags, in one place: setup.py and the tools import this file, nothing else names a flag.

Switches come from the environment, are read once and printed by whoever builds:

    ZR_SANITIZE=address|undefined|thread   instrument the C core
    ZR_DEBUG=1                             costly checks (ZR_DEBUG_CHECK), less optimisation
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

STRICT = (
    "-std=c11 -O2 -g -fno-omit-frame-pointer -fvisibility=hidden -Wall -Wextra -Wpedantic -Wconversion "
    "-Wsign-conversion -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Werror"
).split()
DEFINES = ["-D_GNU_SOURCE"]
INCLUDES = ["-Icsrc"]
STACK_PROTECTOR = ["-fstack-protector-strong"]
# Some distributions define it already; -U first keeps ours without a warning.
FORTIFY = ["-U_FORTIFY_SOURCE", "-D_FORTIFY_SOURCE=2"]
# The packet path crosses many small files; one look at the whole program saves a fifth of its instructions.
WHOLE_PROGRAM = ["-flto=auto"]
LIBRARIES = ["-lcrypto"]
LINK_HARDENING = ["-Wl,-z,relro,-z,now", "-Wl,-z,noexecstack"]

# clang alone has libFuzzer: what tells it where an input leads, in each object; and its main.
LIBFUZZER_OBJECT = ["-fsanitize=fuzzer-no-link"]
LIBFUZZER = ["-fsanitize=fuzzer"]

SANITIZERS = {
    "address": ["-fsanitize=address"],
    "undefined": ["-fsanitize=undefined", "-fno-sanitize-recover=all"],
    "address,undefined": ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"],  # one build for both
    "thread": ["-fsanitize=thread"],
}


@dataclass(frozen=True)
class Switches:
    """What the environment asked for."""

    sanitize: str | None = None
    debug: bool = False

    @classmethod
    def read(cls, environ: Mapping[str, str] = os.environ) -> Switches:
        """Reads ZR_SANITIZE and ZR_DEBUG; SystemExit names a value that is not one of theirs."""
        sanitize = environ.get("ZR_SANITIZE") or None
        if sanitize is not None and sanitize not in SANITIZERS:
            raise SystemExit(f"ZR_SANITIZE={sanitize}: not one of {', '.join(SANITIZERS)}")
        debug = environ.get("ZR_DEBUG") or "0"
        if debug not in ("0", "1"):
            raise SystemExit(f"ZR_DEBUG={debug}: not 0 or 1")
        return cls(sanitize, debug == "1")

    @property
    def variant(self) -> str:
        """Names the folder of this build: "plain", "address", "thread-debug", ..."""
        return (self.sanitize or "plain") + ("-debug" if self.debug else "")

    def __str__(self) -> str:
        return f"ZR_SANITIZE={self.sanitize or ''} ZR_DEBUG={int(self.debug)}"


def core_cflags(switches: Switches) -> list[str]:
    """Flags for every file below csrc/ and tests/c/."""
    return [*STRICT, *DEFINES, *INCLUDES, *_common(switches), *_whole_program(switches)]


def binding_cflags(switches: Switches) -> list[str]:
    """Flags for the generated C of the binding: the hardening, not the strict set."""
    plain = ["-std=c11", "-O2", "-g1", "-DNDEBUG", "-fwrapv", "-fno-omit-frame-pointer", "-fvisibility=hidden"]
    return [*plain, *DEFINES, *INCLUDES, *_common(switches)]


def link_flags(switches: Switches) -> list[str]:
    """Flags for linking a library or a program."""
    sanitizer = SANITIZERS[switches.sanitize] if switches.sanitize else []
    return [*LINK_HARDENING, *sanitizer, *_whole_program(switches), "-pthread", *LIBRARIES]


def _whole_program(switches: Switches) -> list[str]:
    return [] if switches.sanitize or switches.debug else ["-O2", *WHOLE_PROGRAM]


def _common(switches: Switches) -> list[str]:
    flags = ["-fPIC", *STACK_PROTECTOR]
    if switches.sanitize:
        # The sanitizers' own interceptors replace fortified calls; together they hide each other's reports.
        flags += SANITIZERS[switches.sanitize]
    else:
        flags += FORTIFY
    if switches.debug:
        flags += ["-Og", "-DZR_DEBUG"]
    return flags
