"""What the doctor finds on a host whose /proc and /sys are folders of ours: each trouble by itself, with its fix."""

from __future__ import annotations

import os
import time
from pathlib import Path
from types import SimpleNamespace, TracebackType
from typing import Any

import pytest

from relay.config import load
from relay.doctor import checks, gather
from relay.doctor.facts import Granted
from relay.hostfiles import Host

CONFIG = '[node]\nid = "bj-1"\n[workers]\ncount = 2\ncpus = "2-3"\n'
UDP = ("InDatagrams", "NoPorts", "InErrors", "OutDatagrams", "RcvbufErrors", "SndbufErrors", "InCsumErrors")
MIB = 1 << 20
CPU = "/sys/devices/system/cpu"
CLOCK = "/sys/devices/system/clocksource/clocksource0"
CARD = "/sys/devices/pci0000:00/0000:00:05.0"
CONNTRACK = "/proc/sys/net/netfilter/nf_conntrack_count"


def snmp(**counts: int) -> str:
    numbers = {"InDatagrams": 10**6, "OutDatagrams": 10**6} | counts
    return f"Ip: Forwarding\nIp: 1\nUdp: {' '.join(UDP)}\nUdp: {' '.join(str(numbers.get(word, 0)) for word in UDP)}\n"


def sockets(**drops: int) -> str:
    """`p29901=7`: that port's socket has dropped seven."""
    lines = ["  sl  local_address rem_address st tx:rx tr:when retrnsmt uid timeout inode ref pointer drops"]
    for name, count in ({"p29900": 0, "p29901": 0, "p29902": 0} | drops).items():
        where = f"0100007F:{int(name[1:]):04X} 00000000:0000 07 00000000:00000000 00:00000000 00000000"
        lines.append(f"  1: {where} 0 0 5 2 0000 {count}")
    return "\n".join(lines) + "\n"


def softnet(dropped: int = 0, squeezed: int = 0) -> str:
    return f"00000100 {dropped:08x} {squeezed:08x} " + "00000000 " * 10 + "\n"


INTERRUPTS = """           CPU0       CPU1
  9:          0          0   IO-APIC   9-fasteoi   acpi
 40:       1000          0   PCI-MSI 81920-edge      eth0-rx-0
 41:          0       1000   PCI-MSI 81921-edge      eth0-rx-1
NMI:          0          0   Non-maskable interrupts
"""
FILES = {
    "/proc/net/snmp": snmp(), "/proc/net/udp": sockets(), "/proc/net/softnet_stat": softnet(),
    "/proc/interrupts": INTERRUPTS, "/proc/irq/40/smp_affinity_list": "0", "/proc/irq/41/smp_affinity_list": "1",
    "/proc/self/status": "Name:\tx\nCpus_allowed_list:\t0-7\n", "/proc/77/comm": "systemd",
    "/proc/sys/kernel/osrelease": "6.1.0-18-amd64",
    "/proc/sys/kernel/perf_event_paranoid": "1", "/proc/sys/kernel/kptr_restrict": "0",
    "/proc/sys/net/core/rmem_max": str(64 * MIB), "/proc/sys/net/core/wmem_max": str(64 * MIB),
    "/proc/sys/net/core/netdev_max_backlog": "1000", "/proc/sys/net/core/netdev_budget": "300",
    "/proc/sys/net/ipv4/udp_mem": "100000 200000 400000",
    f"{CARD}/numa_node": "0", f"{CARD}/msi_irqs/40": "", f"{CARD}/msi_irqs/41": "",
    "/sys/class/net/eth0/operstate": "up", "/sys/class/net/eth0/speed": "10000",
    "/sys/class/net/eth0/statistics/rx_dropped": "0", "/sys/class/net/eth0/statistics/rx_missed_errors": "0",
    "/sys/class/net/lo/operstate": "unknown", "/sys/class/net/br0/operstate": "up",
    "/sys/devices/system/node/node0/cpulist": "0-3", "/sys/devices/system/node/node1/cpulist": "4-7",
    f"{CPU}/isolated": "2-3", f"{CLOCK}/current_clocksource": "tsc", f"{CLOCK}/available_clocksource": "tsc hpet",
} | {f"{CPU}/cpu{n}/cpufreq/scaling_governor": "performance" for n in range(8)} | {
    f"{CPU}/cpu{n}/topology/thread_siblings_list": f"{n % 4},{n % 4 + 4}" for n in range(8)
}  # fmt: skip
LINKS = {
    "/sys/class/net/eth0/device": CARD, f"{CARD}/driver": "/sys/bus/pci/drivers/ice",
}  # fmt: skip


class Ethtool:
    """What the kernel would say of eth0; `answers` of a case stand above these."""

    answers: dict[str, Any] = {}  # noqa: RUF012

    def __enter__(self) -> Ethtool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def features(self, name: str) -> Any:
        on = {"tx-udp-segmentation": (True, True), "rx-gro": (True, True), "rx-ntuple-filter": (True, True)}
        return on | self.answers.get("features", {})

    def queues(self, name: str) -> Any:
        return self.answers.get("queues", (8, 8))

    def rings(self, name: str) -> Any:
        return self.answers.get("rings", ((4096, 8192), (4096, 8192)))

    def hashes_ports(self, name: str) -> Any:
        return self.answers.get("hashes_ports", True)

    def rules(self, name: str) -> Any:
        return self.answers.get("rules", [(29901, 0), (29902, 1)])


def plant(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *, files: dict[str, str] | None = None,
    later: dict[str, str] | None = None, ethtool: dict[str, Any] | None = None, granted: int = 16 * MIB,
    config: str = CONFIG,
) -> dict[str, Any]:  # fmt: skip
    """The findings by check. `later`: files that change while the doctor looks."""
    root = tmp_path / "host"
    plant(root, FILES | (files or {}))
    for name, target in LINKS.items():
        link = root / name.lstrip("/")
        (root / target.lstrip("/")).mkdir(parents=True, exist_ok=True)
        link.symlink_to(root / target.lstrip("/"))
    (tmp_path / "relay.toml").write_text(config)
    monkeypatch.setattr(Ethtool, "answers", ethtool or {})
    monkeypatch.setattr(gather, "Ethtool", Ethtool)
    monkeypatch.setattr(gather, "_granted", lambda relay, lacks: Granted(receive=granted, send=granted))
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))  # the configuration names CPUs of that host
    clock = SimpleNamespace(monotonic=time.monotonic, sleep=lambda seconds: plant(root, later or {}))
    monkeypatch.setattr(gather, "time", clock)
    facts = gather.gather(load(str(tmp_path / "relay.toml")), 0.001, Host(root))
    return {finding.check: finding for finding in checks.run(facts)}


def test_a_host_that_lacks_nothing_has_no_finding(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    findings = found(monkeypatch, tmp_path)
    own = {"open-files", "locked-memory", "frame-pointers"}  # limits and the build are this process's
    assert {check: finding.level for check, finding in findings.items() if finding.level != "ok"}.keys() <= own
    assert findings["nic-queues"].what == "nic queues eth0"  # neither the loopback nor the bridge
    assert findings["irq-affinity"].text == "2 interrupts, none bound to a worker's CPU"
    assert findings["lane-rules"].text == "2 workers' ports, each to its queue"
    assert findings["worker-cpus"].text == "pinned to CPU 2, 3"


SYSCTL = "sysctl -w net.core."
TROUBLES: dict[str, tuple[str, dict[str, Any], str, str]] = {
    # check: what is otherwise, what is said, the fix or the hint begins with
    "socket buffers not granted": (
        "socket-buffers", {"granted": 4 * MIB}, "receive: asked 16 MiB, granted 4 MiB", f"{SYSCTL}rmem_max=",
    ),
    "a low limit of buffers": (
        "buffer-limits", {"files": {"/proc/sys/net/core/rmem_max": "212992"}}, "want 64 MiB at 10 Gbit/s",
        f"{SYSCTL}rmem_max=67108864",
    ),
    "little memory for UDP": (
        "udp-memory", {"files": {"/proc/sys/net/ipv4/udp_mem": "1 2 3"}}, "for full buffers of 2 workers",
        "sysctl -w net.ipv4.udp_mem=",
    ),
    "datagrams dropped now": (
        "udp-receive-drops", {"later": {"/proc/net/snmp": snmp(RcvbufErrors=50)}}, "/s now", f"{SYSCTL}rmem_max=",
    ),
    "datagrams not sent now": (
        "udp-send-drops", {"later": {"/proc/net/snmp": snmp(SndbufErrors=50)}}, "/s now", f"{SYSCTL}wmem_max=",
    ),
    "wrong checksums": (
        "udp-checksums", {"later": {"/proc/net/snmp": snmp(InCsumErrors=50)}}, "/s now", "look at cables",
    ),
    "a lane's socket that drops": (
        "relay-sockets", {"later": {"/proc/net/udp": sockets(p29902=7)}}, "port 29902 dropped 7",
        f"{SYSCTL}rmem_max=",
    ),
    "a publisher's socket that drops": (
        "relay-sockets", {"files": {"/proc/net/udp": sockets(p30017=9)}}, "port 30017 dropped 9",
        f"{SYSCTL}rmem_max=",
    ),
    "a backlog that overflows": (
        "softnet", {"later": {"/proc/net/softnet_stat": softnet(dropped=3)}}, "3 dropped",
        f"{SYSCTL}netdev_max_backlog=5000",
    ),
    "turns cut short": (
        "softnet", {"later": {"/proc/net/softnet_stat": softnet(squeezed=3)}}, "turns cut short",
        f"{SYSCTL}netdev_budget=600",
    ),
    "connections followed": (
        "conntrack",
        {"files": {CONNTRACK: "3", "/proc/net/nf_conntrack": "ipv4 2 udp 17 29 src=10.0.0.1 sport=7 dport=29901\n"}},
        "follows the relay's port 29901", "iptables -t raw",
    ),
    "a card that drops": (
        "nic-drops", {"later": {"/sys/class/net/eth0/statistics/rx_missed_errors": "9"}}, "rx_missed_errors",
        "ethtool -G eth0 rx 8192",
    ),
    "coalescing switched off": (
        "offloads", {"ethtool": {"features": {"rx-gro": (False, True)}}}, "rx-gro off", "ethtool -K eth0 rx-gro on",
    ),
    "segmentation switched off": (
        "offloads", {"ethtool": {"features": {"tx-udp-segmentation": (False, True)}}}, "tx-udp-segmentation off",
        "ethtool -K eth0 tx-udp-segmentation on",
    ),
    "one queue": ("nic-queues", {"ethtool": {"queues": (1, 8)}}, "1 of 8", "ethtool -L eth0 combined 8"),
    "a hash of addresses alone": (
        "rx-hash", {"ethtool": {"hashes_ports": False}}, "by addresses alone", "ethtool -N eth0 rx-flow-hash udp4 sdfn",
    ),
    "no rule of a lane's port": (
        "lane-rules", {"ethtool": {"rules": [(29901, 0)]}}, "1 of 2 workers' ports have no rule",
        "ethtool -N eth0 flow-type udp4 dst-port 29902 action 1",
    ),
    "no rules at all, switched off": (
        "lane-rules", {"ethtool": {"rules": [], "features": {"rx-ntuple-filter": (False, True)}}}, "2 of 2",
        "ethtool -K eth0 ntuple on",
    ),
    "small rings": (
        "nic-rings", {"ethtool": {"rings": ((256, 8192), (4096, 8192))}}, "rx 256 of 8192", "ethtool -G eth0 rx 4096",
    ),
    "a worker's CPU that is not ours": (
        "worker-cpus", {"files": {"/proc/self/status": "Cpus_allowed_list:\t0-2\n"}}, "CPU 3 is offline",
        'workers.cpus = "0,1"',
    ),
    "workers that are not pinned": (
        "worker-cpus", {"config": CONFIG.replace('cpus = "2-3"\n', "")}, "may put two on one CPU",
        'set workers.cpus = "0,1"',
    ),
    "an interrupt on a worker's CPU": (
        "irq-affinity", {"files": {"/proc/irq/40/smp_affinity_list": "2"}}, "1 of 2 on workers' CPUs only (40)",
        "echo 0 >/proc/irq/40/smp_affinity_list",
    ),
    "irqbalance": ("irqbalance", {"files": {"/proc/88/comm": "irqbalance"}}, "running", "systemctl disable --now"),
    "the card on another node": (
        "numa", {"files": {f"{CARD}/numa_node": "1"}}, "workers on CPU 2, 3 are not", 'workers.cpus = "4,5,6,7"',
    ),
    "a governor that follows the load": (
        "governor", {"files": {f"{CPU}/cpu3/cpufreq/scaling_governor": "powersave"}}, "powersave", "for f in /sys",
    ),
    "two workers on one core": (
        "smt", {"files": {f"{CPU}/cpu{n}/topology/thread_siblings_list": "2-3" for n in (2, 3)}}, "CPU 2 and 3",
        'workers.cpus = "0,1,2',
    ),
    "isolated CPUs not used": (
        "isolated-cpus", {"files": {f"{CPU}/isolated": "3"}}, "workers on CPU 2, which is not isolated",
        "add them to isolcpus=",
    ),
    "a slow clock": (
        "clock-source", {"files": {f"{CLOCK}/current_clocksource": "hpet"}}, "although tsc is there", "echo tsc >",
    ),
    "an old kernel": ("kernel", {"files": {"/proc/sys/kernel/osrelease": "4.17.3"}}, "no UDP_SEGMENT", ""),
}  # fmt: skip


@pytest.mark.parametrize("trouble", TROUBLES)
def test_one_trouble_is_found_with_its_fix(trouble: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    check, otherwise, said, remedy = TROUBLES[trouble]
    finding = found(monkeypatch, tmp_path, **otherwise)[check]
    assert finding.level in ("warn", "fail"), finding
    assert said in finding.text
    assert finding.fix or finding.hint
    assert any(text.startswith(remedy) for text in (*finding.fix, finding.hint)), finding


def test_every_check_of_the_data_path_has_a_trouble_of_its_own() -> None:
    tried = {check for check, _, _, _ in TROUBLES.values()}
    elsewhere = {"open-files", "locked-memory", "perf-events", "kernel-names", "frame-pointers"}  # by facts alone
    assert tried | elsewhere == set(checks.CHECKS)


def test_what_cannot_be_read_is_no_finding_and_no_traceback(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("snmp", "udp", "softnet_stat"):
        monkeypatch.setitem(FILES, f"/proc/net/{name}", "")
    findings = found(monkeypatch, tmp_path)
    for check in ("udp-receive-drops", "relay-sockets", "softnet"):
        assert findings[check].level == "skip"
