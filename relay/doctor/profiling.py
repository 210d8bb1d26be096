"""Checks of what a flame graph needs."""

from __future__ import annotations

from relay.doctor.facts import Facts
from relay.doctor.finding import Finding, ok, skip, sysctl, warn


def perf_events(facts: Facts) -> Finding:
    what, level = "perf events", facts.sysctl_int("kernel.perf_event_paranoid")
    if level is None:
        return skip(what, "this kernel has none")
    said = f"perf_event_paranoid {level}"
    if facts.root or level <= 1:
        return ok(what, said)
    lost = "nothing may be sampled" if level > 2 else "the kernel's share cannot be sampled"
    return warn(what, f"{said}: {lost} without root", *sysctl("kernel.perf_event_paranoid", 1))


def kernel_names(facts: Facts) -> Finding:
    what, level = "kernel names", facts.sysctl_int("kernel.kptr_restrict")
    if level is None:
        return skip(what, "kernel.kptr_restrict cannot be read")
    if level == 0 or (level == 1 and facts.root):
        return ok(what, f"kptr_restrict {level}")
    return warn(what, f"kptr_restrict {level}: kernel functions have no names", *sysctl("kernel.kptr_restrict", 0))


def frame_pointers(facts: Facts) -> Finding:
    """Of the built module: stacks are walked by them, names come from its symbols."""
    what, module = "frame pointers", facts.module
    if module is None:
        return skip(
            what, facts.lacks.get("module", "the module is not built"), hint="python setup.py build_ext --inplace"
        )
    lacks = [
        name for name, there in (("frame pointers", module.frame_pointers), ("symbols", module.symbols)) if not there
    ]
    if lacks:
        return warn(
            what, f"{module.path} has no {' and no '.join(lacks)}",
            hint="build it again with -fno-omit-frame-pointer -g and do not strip it",
        )  # fmt: skip
    return ok(what, "and symbols, in the built module")
