"""Checks of the network cards, each of every card that is up."""

from __future__ import annotations

from collections.abc import Callable

from relay.doctor.facts import Facts, Nic
from relay.doctor.finding import Finding, fail, ok, skip, warn

_OFFLOADS = ("tx-udp-segmentation", "rx-gro")


def of_each(check: Callable[[Facts, Nic], Finding], what: str) -> Callable[[Facts], list[Finding]]:
    """A check of one card as a check of all."""

    def all_of_them(facts: Facts) -> list[Finding]:
        if not facts.nics:
            return [skip(what, facts.lacks.get("nics", "no network card is up: only loopback and virtual devices"))]
        return [check(facts, nic) for nic in facts.nics]

    all_of_them.__doc__ = check.__doc__
    return all_of_them


def offloads(facts: Facts, nic: Nic) -> Finding:
    """Segmentation of UDP on the card (or at least late in the stack), and receive coalescing."""
    what = f"offloads {nic.name}"
    if nic.features is None:
        return skip(what, facts.lacks.get(f"features {nic.name}", "the driver does not say"))
    off = [name for name in _OFFLOADS if nic.features.get(name) is False and name not in nic.fixed]
    never = [name for name in _OFFLOADS if nic.features.get(name) is False and name in nic.fixed]
    unknown = [name for name in _OFFLOADS if name not in nic.features]
    if off:
        return warn(what, f"{', '.join(off)} off", *(f"ethtool -K {nic.name} {name} on" for name in off))
    if never:
        return skip(what, f"the card has no {', '.join(never)}: the kernel does it")
    if unknown:
        return skip(what, f"this kernel knows no {', '.join(unknown)}")
    return ok(what, ", ".join(_OFFLOADS))


def queues(facts: Facts, nic: Nic) -> Finding:
    """As many queues as workers, where the card has them."""
    what = f"nic queues {nic.name}"
    if nic.queues is None:
        return skip(what, facts.lacks.get(f"queues {nic.name}", "the driver does not say"))
    now, most = nic.queues
    wanted = min(most, facts.relay.workers)
    workers = facts.relay.workers
    said = f"{now} of {most} combined queues in use, {workers} worker{'s' if workers > 1 else ''}"
    if now < wanted:
        return warn(what, said, f"ethtool -L {nic.name} combined {most}")
    return ok(what, said)


def flow_hash(facts: Facts, nic: Nic) -> Finding:
    """Whether ports take part in choosing a queue: all links between two relays have the same addresses."""
    what = f"rx hash {nic.name}"
    if nic.queues is not None and nic.queues[0] == 1:
        return ok(what, "one queue: nothing to spread")
    if nic.hashes_ports is None:
        return skip(what, facts.lacks.get(f"hash {nic.name}", "the driver does not say"))
    if not nic.hashes_ports:
        return warn(
            what, "UDP is spread by addresses alone: all links of a peer land on one queue",
            f"ethtool -N {nic.name} rx-flow-hash udp4 sdfn", f"ethtool -N {nic.name} rx-flow-hash udp6 sdfn",
        )  # fmt: skip
    return ok(what, "UDP is spread by addresses and ports")


def lane_rules(facts: Facts, nic: Nic) -> Finding:
    """A rule per worker's port that brings its packets to a queue of its own, served by its CPU."""
    what = f"lane rules {nic.name}"
    if nic.queues is None or nic.queues[0] < 2 or facts.relay.workers < 2:
        return ok(what, "one queue or one worker: no rules needed")
    on = (nic.features or {}).get("rx-ntuple-filter")
    if nic.rules is None or on is None or (not on and "rx-ntuple-filter" in nic.fixed):
        return skip(what, facts.lacks.get(f"rules {nic.name}", "the card has no ntuple rules"))
    steered = {rule.port: rule.queue for rule in nic.rules}
    missing = [port for port in facts.relay.lane_ports if port not in steered]
    if missing:
        switch = [] if on else [f"ethtool -K {nic.name} ntuple on"]
        first = facts.relay.lane_ports.start
        rules = [
            f"ethtool -N {nic.name} flow-type udp4 dst-port {port} action {(port - first) % nic.queues[0]}"
            for port in missing
        ]
        said = f"{len(missing)} of {facts.relay.workers} workers' ports have no rule"
        return warn(what, said, *switch, *rules)
    lanes = [steered[port] for port in facts.relay.lane_ports]
    if len(set(lanes)) < min(len(lanes), nic.queues[0]):
        return warn(what, "several workers' ports go to one queue", hint=f"ethtool -n {nic.name} lists the rules")
    return ok(what, f"{len(lanes)} workers' ports, each to its queue")


def rings(facts: Facts, nic: Nic) -> Finding:
    """The card's descriptor rings: at half of what is possible or above."""
    what = f"nic rings {nic.name}"
    if nic.rx_ring is None or nic.tx_ring is None or not nic.rx_ring[1]:
        return skip(what, facts.lacks.get(f"rings {nic.name}", "the driver does not say"))
    said = f"rx {nic.rx_ring[0]} of {nic.rx_ring[1]}, tx {nic.tx_ring[0]} of {nic.tx_ring[1]}"
    small = [
        (way, most) for way, (now, most) in (("rx", nic.rx_ring), ("tx", nic.tx_ring)) if now < min(2048, most // 2)
    ]
    if small:
        return warn(what, said, f"ethtool -G {nic.name} " + " ".join(f"{way} {min(4096, most)}" for way, most in small))
    return ok(what, said)


def card_drops(facts: Facts, nic: Nic) -> Finding:
    """What the card or its driver threw away."""
    what = f"nic drops {nic.name}"
    if not nic.drops:
        return skip(what, facts.lacks.get(f"drops {nic.name}", "the driver does not count them"))
    now = {word: count.more / facts.interval_s for word, count in nic.drops.items() if count.more}
    since = {word: count.total for word, count in nic.drops.items() if count.total}
    if now:
        said = ", ".join(f"{word} {rate:,.0f}/s" for word, rate in now.items())
        most = nic.rx_ring[1] if nic.rx_ring is not None and nic.rx_ring[0] < nic.rx_ring[1] else 0
        hint = "" if most else "give the card more queues, or the interrupts their own CPUs"
        return fail(what, f"{said} now", *([f"ethtool -G {nic.name} rx {most}"] if most else []), hint=hint)
    return ok(what, (", ".join(f"{word} {n:,}" for word, n in since.items()) or "none") + " since boot, none now")
