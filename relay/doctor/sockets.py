"""Checks of what lies between a socket and the card: buffers, drops, the kernel's queues, conntrack."""

from __future__ import annotations

from relay.doctor.facts import Counted, Facts
from relay.doctor.finding import Finding, fail, mib, ok, skip, sysctl, warn

LOST_SHARE_MAX = 1e-4  # of all datagrams since boot, when none is lost now
BACKLOG_MIN = 5000
_HINT = "then raise sockets.receive_buffer and send_buffer"
_BUFFERS = ((1_000, 16 << 20), (10_000, 64 << 20), (0, 128 << 20))  # up to that many Mbit/s; 0: faster


def udp_receive_drops(facts: Facts) -> Finding:
    """Datagrams that found no room in a socket's buffer, on the whole host."""
    return _udp_drops(facts, "udp receive drops", "RcvbufErrors", "rmem_max", "InDatagrams")


def udp_send_drops(facts: Facts) -> Finding:
    return _udp_drops(facts, "udp send drops", "SndbufErrors", "wmem_max", "OutDatagrams")


def _udp_drops(facts: Facts, what: str, word: str, limit: str, of: str) -> Finding:
    count, whole = facts.udp.get(word), facts.udp.get(of)
    if count is None or whole is None:
        return skip(what, "/proc/net/snmp does not say")
    rate = count.more / facts.interval_s
    said = f"{count.total:,} {word} since boot"
    fix = _raise_limit(facts, limit)
    if rate > 0:
        return fail(what, f"{said}, {rate:,.0f}/s now", *fix, hint=_HINT)
    share = count.total / max(1, count.total + whole.total)
    if share > LOST_SHARE_MAX:
        return warn(what, f"{said}, {100 * share:.2g} % of all, none now", *fix, hint=_HINT)
    return ok(what, f"{said}, none now")


def udp_checksums(facts: Facts) -> Finding:
    count = facts.udp.get("InCsumErrors")
    what = "udp checksums"
    if count is None:
        return skip(what, "/proc/net/snmp does not say")
    if count.more:
        rate = count.more / facts.interval_s
        return warn(
            what, f"{count.total:,} wrong since boot, {rate:,.0f}/s now", hint="look at cables, switches, tunnels"
        )
    return ok(what, f"{count.total:,} wrong since boot, none now")


def own_sockets(facts: Facts) -> Finding:
    """Drops of the relay's own ports, of those that are open."""
    what = "relay sockets"
    if not facts.sockets:
        return skip(what, "no relay has its ports open here")
    lost = {port: count for port, count in facts.sockets.items() if count.total}
    if not lost:
        return ok(what, f"{len(facts.sockets)} open, nothing dropped")
    port, most = max(lost.items(), key=lambda pair: pair[1].total)
    said = f"port {port} dropped {most.total:,} datagrams"
    fix, more = _raise_limit(facts, "rmem_max"), sum(count.more for count in lost.values())
    if more:
        return fail(what, f"{said}, {more / facts.interval_s:,.0f}/s now", *fix, hint=_HINT)
    return warn(what, f"{said} since it was opened, none now", *fix, hint=_HINT)


def buffers_granted(facts: Facts) -> Finding:
    """What a socket asked for against what it got. Root's sockets may exceed the limits."""
    what, asked, granted = "socket buffers", facts.relay, facts.granted
    if granted is None:
        return skip(what, facts.lacks.get("granted", "no socket could be opened"))
    short = []
    for name, wanted, got, limit in (
        ("receive", asked.receive_buffer, granted.receive, "rmem_max"),
        ("send", asked.send_buffer, granted.send, "wmem_max"),
    ):
        if got < wanted:
            short.append((f"{name}: asked {mib(wanted)}, granted {mib(got)}", _raise_limit(facts, limit)))
    if not short:
        return ok(what, f"asked {mib(asked.receive_buffer)} and {mib(asked.send_buffer)}, granted")
    fixes = [command for _, fix in short for command in fix]
    return warn(what, "; ".join(said for said, _ in short), *fixes)


def buffer_limits(facts: Facts) -> Finding:
    """net.core.rmem_max and wmem_max by the fastest card: 16, 64, 128 MiB for 1, 10, 40 Gbit/s."""
    what, wanted = "buffer limits", _buffer_wanted(facts)
    low: list[str] = []
    fixes: list[str] = []
    for name in ("rmem_max", "wmem_max"):
        value = facts.sysctl_int(f"net.core.{name}")
        if value is None:
            return skip(what, f"net.core.{name} cannot be read")
        if value < wanted:
            low.append(f"{name} {mib(value)}")
            fixes += _raise_limit(facts, name)
    if low:
        return warn(what, f"{', '.join(low)}: want {mib(wanted)} at {_speed(facts)}", *fixes)
    return ok(what, f"rmem_max and wmem_max at least {mib(wanted)}, for {_speed(facts)}")


def udp_memory(facts: Facts) -> Finding:
    """net.ipv4.udp_mem, in pages: all UDP sockets together. Each worker has a link, an egress and ingress sockets."""
    what, pages = "udp memory", facts.sysctl_ints("net.ipv4.udp_mem")
    if len(pages) != 3:
        return skip(what, "net.ipv4.udp_mem cannot be read")
    relay = facts.relay
    wanted = (2 * relay.workers + 1) * (relay.receive_buffer + relay.send_buffer)
    most = pages[2] * facts.page_bytes
    if most < wanted:
        least = -(-wanted // facts.page_bytes)
        values = f"{max(pages[0], least // 2)} {max(pages[1], least * 3 // 4)} {least}"
        return warn(
            what, f"{mib(most)} for all sockets, {mib(wanted)} for full buffers of {relay.workers} workers",
            *sysctl("net.ipv4.udp_mem", values),
        )  # fmt: skip
    return ok(what, f"{mib(most)} for all sockets")


def softnet(facts: Facts) -> Finding:
    """Packets dropped, and turns cut short, between the card's driver and the protocol."""
    what, dropped, squeezed = "softnet", facts.softnet_dropped, facts.softnet_squeezed
    if dropped is None or squeezed is None:
        return skip(what, "/proc/net/softnet_stat cannot be read")
    backlog = max(BACKLOG_MIN, 2 * (facts.sysctl_int("net.core.netdev_max_backlog") or 0))
    if dropped.more:
        rate = dropped.more / facts.interval_s
        return fail(
            what, f"{_since(dropped, 'dropped')}, {rate:,.0f}/s now", *sysctl("net.core.netdev_max_backlog", backlog)
        )
    if squeezed.more:
        budget = 2 * (facts.sysctl_int("net.core.netdev_budget") or 300)
        rate = squeezed.more / facts.interval_s
        return warn(
            what, f"{_since(squeezed, 'turns cut short')}, {rate:,.0f}/s now", *sysctl("net.core.netdev_budget", budget)
        )
    return ok(what, f"{_since(dropped, 'dropped')}, none now; {squeezed.total:,} turns cut short")


def conntrack(facts: Facts) -> Finding:
    """Connection tracking costs every packet, and drops them all when its table is full."""
    what, relay = "conntrack", facts.relay
    if facts.conntrack is None:
        return skip(what, facts.lacks.get("conntrack", "cannot be looked at"))
    if not facts.conntrack:
        return ok(what, "not in use")
    if facts.conntrack_ports is None:
        return skip(what, facts.lacks.get("conntrack_ports", "its table cannot be read"), hint="run as root")
    if not facts.conntrack_ports:
        return ok(what, "in use, but it follows none of the relay's ports")
    ports = f"{relay.data_port}:{relay.data_port + relay.workers}"
    tables = "ip6tables" if ":" in relay.data_ip else "iptables"
    rules = (f"PREROUTING -p udp --dport {ports} -j NOTRACK", f"OUTPUT -p udp --sport {ports} -j NOTRACK")
    return warn(
        what, f"follows the relay's port {', '.join(map(str, facts.conntrack_ports))}",
        *(f"{tables} -t raw -C {rule} 2>/dev/null || {tables} -t raw -A {rule}" for rule in rules),
    )  # fmt: skip


def _raise_limit(facts: Facts, name: str) -> tuple[str, ...]:
    """To what the card's speed and the configuration want; twice of it when it is there already."""
    asked = facts.relay.receive_buffer if name == "rmem_max" else facts.relay.send_buffer
    wanted, now = max(_buffer_wanted(facts), asked), facts.sysctl_int(f"net.core.{name}") or 0
    return sysctl(f"net.core.{name}", wanted if now < wanted else min(2 * now, 1 << 30))


def _buffer_wanted(facts: Facts) -> int:
    speed = max((nic.speed_mbps or 0 for nic in facts.nics), default=0)
    return next(size for most, size in _BUFFERS if not most or speed <= most)


def _speed(facts: Facts) -> str:
    speed = max((nic.speed_mbps or 0 for nic in facts.nics), default=0)
    return f"{speed / 1000:g} Gbit/s" if speed else "a card of unknown speed"


def _since(count: Counted, word: str) -> str:
    return f"{count.total:,} {word} since boot"
