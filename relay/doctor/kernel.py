"""Checks of the kernel and of the limits it sets a process."""

from __future__ import annotations

import re

from relay.doctor.facts import Facts
from relay.doctor.finding import Finding, fail, ok, skip, warn

GSO, GRO = (4, 18), (5, 0)
PER_WORKER_FILES, SPARE_FILES = 16, 256
PER_WORKER_LOCKED = 138 << 20  # packets, streams, rings of a worker, all of it locked
DROP_IN = "/etc/systemd/system/zrelay.service.d/limits.conf"


def version(facts: Facts) -> Finding:
    """UDP_SEGMENT came with 4.18, UDP_GRO with 5.0."""
    found = re.match(r"(\d+)\.(\d+)", facts.kernel)
    if found is None:
        return skip("kernel", f"{facts.kernel!r} is no version known here")
    at = (int(found[1]), int(found[2]))
    what = f"kernel {found[0]}"
    if at < GSO:
        return fail(what, "no UDP_SEGMENT (4.18) and no UDP_GRO (5.0)", hint="run a kernel from 5.0 on")
    if at < GRO:
        return warn(what, "UDP_SEGMENT, but no UDP_GRO (5.0)", hint="run a kernel from 5.0 on")
    return ok(what, "UDP_SEGMENT, UDP_GRO, recvmmsg")


def open_files(facts: Facts) -> Finding:
    """One for each publisher's socket, some for each worker, and the API's connections."""
    what, (soft, hard) = "open files", facts.nofile
    relay = facts.relay
    wanted = relay.ingress_ports + PER_WORKER_FILES * relay.workers + SPARE_FILES
    if soft == -1 or soft >= wanted:
        return ok(what, f"{'no limit' if soft == -1 else soft}, {wanted} may be wanted")
    fix = _unit("LimitNOFILE", max(65536, wanted)) if hard != -1 and hard < wanted else (f"ulimit -n {wanted}",)
    return warn(what, f"limit {soft}, {wanted} may be wanted for {relay.ingress_ports} ingress ports", *fix)


def locked_memory(facts: Facts) -> Finding:
    """Memory that must not be paged out."""
    what, (soft, _) = "locked memory", facts.memlock
    wanted = PER_WORKER_LOCKED * facts.relay.workers
    if soft == -1 or facts.root or soft >= wanted:
        return ok(what, "no limit" if soft == -1 or facts.root else f"{soft >> 20} MiB")
    said = f"limit {soft >> 10} KiB, {facts.relay.workers} workers lock up to {wanted >> 20} MiB"
    return warn(what, said, *_unit("LimitMEMLOCK", "infinity"))


def _unit(word: str, value: int | str) -> tuple[str, ...]:
    """For a relay that systemd starts; a shell's own limit is raised in /etc/security/limits.conf."""
    folder = DROP_IN.rsplit("/", 1)[0]
    line = f"{word}={value}"
    return (
        f"mkdir -p {folder}",
        f"grep -qxF '[Service]' {DROP_IN} 2>/dev/null || echo '[Service]' >>{DROP_IN}",
        f"grep -qxF '{line}' {DROP_IN} || echo '{line}' >>{DROP_IN}",
        "systemctl daemon-reload",
    )
