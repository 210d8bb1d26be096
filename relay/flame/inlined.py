"""Names of inlined functions, asked of addr2line: Debian's perf is built without what it would need to name them.

With the whole program optimised at once, most of the core's functions lie inside of others.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable

from relay.flame.stacks import Places

TIMEOUT_S = 60.0


def names_at(places: Iterable[tuple[str, int]]) -> Places:
    """For each (file, address) that has any: the functions inlined there, the innermost first.

    Files without debug information have none. LookupError when addr2line is missing.
    """
    program = shutil.which("addr2line")
    if program is None:
        raise LookupError("--inline needs addr2line, which is not installed: apt install binutils")
    by_file: dict[str, set[int]] = {}
    for file, address in places:
        by_file.setdefault(file, set()).add(address)
    found: Places = {}
    for file, addresses in by_file.items():
        if not os.path.isfile(file):  # the kernel, [vdso], what has been deleted
            continue
        asked = "".join(f"{address:#x}\n" for address in sorted(addresses))
        try:
            done = subprocess.run(
                [program, "-a", "-i", "-f", "-e", file], input=asked, capture_output=True, text=True, errors="replace",
                timeout=TIMEOUT_S, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            continue  # its functions keep the names they have
        for address, names in parse(done.stdout.splitlines()):
            if len(names) > 1:
                found[file, address] = tuple(names[:-1])
    return found


def parse(lines: Iterable[str]) -> Iterable[tuple[int, list[str]]]:
    """Of ``addr2line -a -i -f``: an address line, then pairs of a function and its place, the innermost first."""
    address, names, is_name = None, list[str](), True
    for line in lines:
        if line.startswith("0x"):
            if address is not None:
                yield address, names
            address, names, is_name = int(line, 16), [], True
        else:
            if is_name:
                names.append(line)
            is_name = not is_name
    if address is not None:
        yield address, names
