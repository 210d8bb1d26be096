"""Checks of where workers and interrupts run, and of how fast the processor is and tells the time."""

from __future__ import annotations

from relay.doctor.facts import Facts, Nic
from relay.doctor.finding import Finding, ok, skip, warn


def worker_cpus(facts: Facts) -> Finding:
    """A CPU for each worker, which it stays on."""
    what, workers, allowed = "worker cpus", facts.relay.workers, facts.cpu.allowed
    cpus = facts.relay.cpus[:workers]
    shown = ",".join(map(str, allowed[:workers]))
    absent = [cpu for cpu in cpus if cpu not in allowed]
    if absent:
        said = f"CPU {', '.join(map(str, absent))} is offline, or not for this process"
        return warn(what, said, hint=f'workers.cpus = "{shown}"')
    if workers > len(allowed):
        return warn(what, f"{workers} workers for {len(allowed)} CPUs", hint=f"workers.count = {len(allowed)}")
    if workers > 1 and not cpus:
        said = f"{workers} workers, and the scheduler may put two on one CPU"
        return warn(what, said, hint=f'set workers.cpus = "{shown}"')
    if not cpus:
        return ok(what, "one worker, not pinned")
    return ok(what, f"pinned to CPU {', '.join(map(str, cpus))}")


def irq_affinity(facts: Facts, nic: Nic) -> Finding:
    """A card's interrupts beside the workers, not in their way."""
    what = f"irq affinity {nic.name}"
    if not facts.relay.cpus:
        return skip(what, "workers are not pinned", hint="set workers.cpus")
    if not nic.irqs:
        return skip(what, facts.lacks.get(f"irqs {nic.name}", "the card's interrupts are not to be found"))
    pinned = set(facts.relay.cpus[: facts.relay.workers])
    rest = sorted(set(facts.cpu.allowed) - pinned)
    if not rest:
        return skip(what, "every CPU has a worker")
    in_the_way = [irq for irq in nic.irqs if set(irq.cpus) <= pinned]
    if in_the_way:
        numbers = ", ".join(str(irq.number) for irq in in_the_way[:8])
        fixes = [
            f"echo {rest[at % len(rest)]} >/proc/irq/{irq.number}/smp_affinity_list"
            for at, irq in enumerate(in_the_way)
        ]
        return warn(what, f"{len(in_the_way)} of {len(nic.irqs)} on workers' CPUs only ({numbers})", *fixes)
    return ok(what, f"{len(nic.irqs)} interrupts, none bound to a worker's CPU")


def irqbalance(facts: Facts) -> Finding:
    """It moves interrupts onto pinned workers' CPUs."""
    what = "irqbalance"
    if not facts.cpu.irqbalance:
        return ok(what, "not running")
    if not facts.relay.cpus:
        return ok(what, "running, and no worker is pinned")
    return warn(what, "running: it moves interrupts onto the workers' CPUs", "systemctl disable --now irqbalance")


def numa(facts: Facts, nic: Nic) -> Finding:
    """Workers on the card's side of the machine."""
    what = f"numa {nic.name}"
    if len(facts.cpu.nodes) < 2 or nic.numa_node is None:
        return ok(what, "one node")
    there = facts.cpu.nodes.get(nic.numa_node, ())
    said = f"the card is on node {nic.numa_node}"
    cpus = ",".join(map(str, there))
    if not facts.relay.cpus and facts.relay.numa == "nic":
        return ok(what, f'{said}, workers stay there (numa = "nic")')
    if not facts.relay.cpus:
        return warn(what, f"{said}, workers are not pinned", hint=f'workers.cpus = "{cpus}", or numa = "nic"')
    far = [cpu for cpu in facts.relay.cpus if cpu not in there]
    if far:
        return warn(what, f"{said}, workers on CPU {', '.join(map(str, far))} are not", hint=f'workers.cpus = "{cpus}"')
    return ok(what, f"{said}, so are all workers")


def governor(facts: Facts) -> Finding:
    """The processor at its full pace: one that follows the load does so too late for a packet."""
    what, cpu = "cpu frequency", facts.cpu
    if not cpu.governors:
        return skip(what, "no cpufreq in this machine")
    watched = facts.relay.cpus or cpu.allowed
    slow = sorted({cpu.governors[at] for at in watched if at in cpu.governors} - {"performance"})
    if slow:
        return warn(
            what, f"governor {', '.join(slow)}",
            "for f in /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor; do echo performance >$f; done",
        )  # fmt: skip
    return ok(what, "governor performance")


def smt(facts: Facts) -> Finding:
    """Two workers on one core share it, and neither is as fast as it should be."""
    what, cpus = "smt siblings", facts.relay.cpus[: facts.relay.workers]
    if not cpus:
        return skip(what, "workers are not pinned", hint="set workers.cpus")
    cores: dict[tuple[int, ...], list[int]] = {}
    for cpu in cpus:
        cores.setdefault(facts.cpu.siblings.get(cpu, (cpu,)), []).append(cpu)
    shared = [on for on in cores.values() if len(on) > 1]
    if shared:
        said = "; ".join("CPU " + " and ".join(map(str, on)) for on in shared)
        one_each = sorted({min(core) for core in facts.cpu.siblings.values()})
        return warn(what, f"workers share a core: {said}", hint=f'workers.cpus = "{",".join(map(str, one_each))}"')
    return ok(what, f"{len(cpus)} workers, a core each")


def isolated(facts: Facts) -> Finding:
    """CPUs kept from the scheduler, which serve pinned workers alone."""
    what, cpus = "isolated cpus", facts.relay.cpus
    lonely = set(facts.cpu.isolated)
    if not lonely:
        return ok(what, "none isolated; only needed for the last microseconds")
    if not cpus:
        said = ",".join(map(str, sorted(lonely)))
        return warn(what, f"CPU {said} isolated, workers are not pinned there", hint=f'set workers.cpus = "{said}"')
    shared = [cpu for cpu in cpus if cpu not in lonely]
    if shared:
        return warn(
            what, f"workers on CPU {', '.join(map(str, shared))}, which is not isolated as others are",
            hint="add them to isolcpus= on the kernel's command line",
        )  # fmt: skip
    return ok(what, "all workers on isolated CPUs")


def clocksource(facts: Facts) -> Finding:
    """A clock that is read without a system call: it is, several times a turn."""
    what, now = "clock source", facts.cpu.clocksource
    if not now:
        return skip(what, "/sys does not say")
    if now in ("tsc", "arch_sys_counter"):
        return ok(what, now)
    better = next((name for name in ("tsc", "arch_sys_counter") if name in facts.cpu.clocksources), None)
    if now == "kvm-clock" and better is None:
        return ok(what, "kvm-clock, read without a system call")
    if better is None:
        return warn(what, f"{now}: reading the time is slow", hint="the machine offers no better one")
    path = "/sys/devices/system/clocksource/clocksource0/current_clocksource"
    return warn(what, f"{now}, although {better} is there", f"echo {better} >{path}")
