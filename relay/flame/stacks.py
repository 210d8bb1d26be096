"""Samples as stacks: the text of ``perf script`` or py-spy folded into counts, and the ``.folded`` file.

A stack is a tuple of frame names, the outermost first; the first is the thread's name. Marks at the end of a name:
``_[k]`` the kernel's, ``_[i]`` inlined. A frame without a name is ``[file]``, where its code lies, or ``[unknown]``.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

KERNEL, INLINED = "_[k]", "_[i]"
UNKNOWN = "[unknown]"
DEPTH_MAX = 200  # frames of one stack; what lies deeper is cut off at the outer end

Stack = tuple[str, ...]
Places = dict[tuple[str, int], tuple[str, ...]]  # (file, address) -> functions inlined there, the innermost first

_HEAD = re.compile(r"^(?P<comm>\S.*?)\s+(?:\d+/)?\d+\s+(?:\[\d+\]\s+)?[\d.]+:\s+(?:\d+\s+)?(?P<event>[^\s:]\S*?):+\s*$")
_FRAME = re.compile(r"^\s+(?P<ip>[0-9a-f]+)\s+(?P<name>.*?)\s+\((?P<file>[^()]*(?:\([^()]*\))?[^()]*)\)\s*$")
_OFFSET = re.compile(r"\+0x[0-9a-f]+$")


@dataclass
class Stacks:
    """How many samples each stack got. `event`: what was sampled, "" when the text does not say."""

    counts: Counter[Stack] = field(default_factory=Counter)
    event: str = ""

    @property
    def samples(self) -> int:
        return self.counts.total()

    def resolved(self) -> int:
        """Samples taken in a function that has a name."""
        return sum(count for stack, count in self.counts.items() if len(stack) > 1 and is_named(stack[-1]))

    def in_kernel(self) -> tuple[int, int]:
        """Samples taken in the kernel: all of them, and those without a name."""
        all_of_them = nameless = 0
        for stack, count in self.counts.items():
            if stack[-1].endswith(KERNEL) or stack[-1] == "[kernel]":
                all_of_them += count
                nameless += 0 if is_named(stack[-1]) else count
        return all_of_them, nameless

    def drop_thread(self, comm: str) -> None:
        """Forgets the samples of threads of that name."""
        for stack in [stack for stack in self.counts if stack[0] == comm]:
            del self.counts[stack]

    def has_inlined(self) -> bool:
        return any(frame.endswith(INLINED) for stack in self.counts for frame in stack)

    def without_inlined(self) -> Stacks:
        """The same samples as if nobody had asked for inlined functions."""
        counts: Counter[Stack] = Counter()
        for stack, count in self.counts.items():
            counts[tuple(frame for frame in stack if not frame.endswith(INLINED))] += count
        return Stacks(counts, self.event)

    def resolved_pct(self) -> float:
        """0 to 100; 0 without samples. Rounded down, so that 95.00 is never less than 95 %."""
        return int(10_000 * self.resolved() / self.samples) / 100 if self.samples else 0.0


def is_named(frame: str) -> bool:
    return not frame.startswith("[")


def places_in(lines: Iterable[str]) -> set[tuple[str, int]]:
    """Where the frames lie: (file, address), as `from_perf` looks them up."""
    found = set()
    leaf = True
    for line in lines:
        frame = _FRAME.match(line)
        if frame:
            found.add((frame["file"], _address(frame["ip"], leaf)))
        leaf = frame is None
    return found


def from_perf(lines: Iterable[str], inlined: Places | None = None) -> Stacks:
    """Of ``perf script -F comm,pid,tid,time,event,ip,sym,dso``: a head line, frames from the innermost on, a blank."""
    stacks = Stacks()
    comm, frames = "", list[str]()

    def close() -> None:
        if comm:
            stacks.counts[(comm, *reversed(frames[:DEPTH_MAX]))] += 1

    for line in lines:
        if line.startswith("#"):
            continue
        head = _HEAD.match(line)
        if head:
            close()
            comm, frames = _clean(head["comm"]), []
            stacks.event = stacks.event or head["event"]
        elif comm:
            frame = _FRAME.match(line)
            if frame:
                if inlined:
                    inside = inlined.get((frame["file"], _address(frame["ip"], not frames)), ())
                    frames += [_clean(name) + INLINED for name in inside]
                name = _frame_name(frame["name"], frame["file"])
                if is_named(name) or not frames or frames[-1] != name:  # a row of nameless ones says no more than one
                    frames.append(name)
            elif not line.strip():
                close()
                comm = ""
    close()
    return stacks


def _address(ip: str, leaf: bool) -> int:
    """Of a caller, perf gives where its callee returns to: the call itself lies before that."""
    return int(ip, 16) - (0 if leaf else 1)


def _frame_name(name: str, file: str) -> str:
    name = _OFFSET.sub("", name)
    kernel = _in_kernel(file)
    if name in ("", UNKNOWN):
        if kernel:
            return "[kernel]"
        base = file.rsplit("/", 1)[-1].strip("[]")
        return f"[{_clean(base)}]" if base and base != "unknown" else UNKNOWN
    if file == "inlined":
        return _clean(name) + INLINED
    return _clean(name) + (KERNEL if kernel else "")


def _in_kernel(file: str) -> bool:
    """perf names the kernel ``[kernel.kallsyms]`` and a module of it ``[name]``, but also what is no file at all."""
    if file.endswith((".ko", ".ko.xz", ".ko.zst")):
        return True
    return file.startswith("[") and not file.startswith(("[vdso]", "[vsyscall]", "[heap]", "[stack", "[anon", UNKNOWN))


def _clean(name: str) -> str:
    """What may stand between the semicolons of a line."""
    return " ".join(name.replace(";", ":").split())


def folded(stacks: Stacks) -> Iterator[str]:
    """The lines of a ``.folded`` file: ``comm;outer;inner 12``, sorted, so that equal runs give equal files."""
    for stack, count in sorted(stacks.counts.items()):
        yield f"{';'.join(stack)} {count}"


def from_folded(lines: Iterable[str]) -> Stacks:
    """The reverse; also what py-spy writes as "raw". ValueError names the first line that is none."""
    stacks = Stacks()
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        names, _, count = line.strip().rpartition(" ")
        if not names or not (count.isascii() and count.isdigit()):
            raise ValueError(f"line {number} is not 'outer;inner count'")
        stacks.counts[tuple(_clean(name) or UNKNOWN for name in names.split(";"))] += int(count)
    return stacks
