"""Every check of the doctor from recorded facts: ok, warn, fail and skip, and a fix or a hint for each finding."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from relay.doctor.checks import CHECKS, chosen, run
from relay.doctor.facts import Counted, Cpu, Facts, Granted, Irq, Module, Nic, Relay, Rule, from_json, to_json
from relay.doctor.finding import Finding

MIB = 1 << 20
FEATURES = {"tx-udp-segmentation": True, "rx-gro": True, "rx-ntuple-filter": True}
NIC = Nic(
    name="eth0", driver="ice", speed_mbps=10_000, numa_node=0, features=FEATURES, queues=(8, 8), rx_ring=(4096, 8192),
    tx_ring=(4096, 8192), hashes_ports=True, rules=[Rule(port=29901, queue=0), Rule(port=29902, queue=1)],
    drops={"rx_dropped": Counted(total=7)}, irqs=[Irq(number=40, cpus=(0,)), Irq(number=41, cpus=(1,))],
)  # fmt: skip
CPU = Cpu(
    allowed=tuple(range(8)), siblings={cpu: (cpu % 4, cpu % 4 + 4) for cpu in range(8)},
    nodes={0: (0, 1, 2, 3, 4, 5, 6, 7), 1: (8, 9)}, governors=dict.fromkeys(range(8), "performance"),
    isolated=(2, 3), clocksource="tsc", clocksources=["tsc", "hpet"],
)  # fmt: skip
GOOD = Facts(
    relay=Relay(workers=2, cpus=(2, 3)),
    kernel="6.1.0-18-amd64",
    sysctl={
        "net.core.rmem_max": str(64 * MIB), "net.core.wmem_max": str(64 * MIB), "net.core.netdev_max_backlog": "1000",
        "net.ipv4.udp_mem": "100000 200000 400000", "kernel.perf_event_paranoid": "1", "kernel.kptr_restrict": "0",
    },
    granted=Granted(receive=16 * MIB, send=16 * MIB),
    udp={word: Counted(total=0) for word in ("RcvbufErrors", "SndbufErrors", "InCsumErrors")}
    | {word: Counted(total=1_000_000, more=1000) for word in ("InDatagrams", "OutDatagrams")},
    sockets={29900: Counted(total=0), 29901: Counted(total=0)},
    softnet_dropped=Counted(total=0), softnet_squeezed=Counted(total=3), conntrack=True, conntrack_ports=[],
    nics=[NIC], cpu=CPU, nofile=(65536, 65536), memlock=(-1, -1),
    module=Module(path="_core.so", frame_pointers=True, symbols=True),
)  # fmt: skip


def but(**changes: Any) -> Facts:
    """Good facts with these instead. `relay`, `cpu`, `nic`, `udp`, `sysctl` are merged into what is there."""
    for name in ("relay", "cpu"):
        if name in changes:
            changes[name] = msgspec.structs.replace(getattr(GOOD, name), **changes[name])
    for name in ("udp", "sysctl"):
        if name in changes:
            changes[name] = {k: v for k, v in {**getattr(GOOD, name), **changes[name]}.items() if v is not None}
    if "nic" in changes:
        changes["nics"] = [msgspec.structs.replace(NIC, **changes.pop("nic"))]
    return msgspec.structs.replace(GOOD, **changes)


SOME = Counted(total=1_251_535, more=840)
PAST = Counted(total=1_251_535)
CASES: list[tuple[str, str, Facts, str]] = [
    ("udp-receive-drops", "fail", but(udp={"RcvbufErrors": SOME}), "1,251,535 RcvbufErrors since boot, 840/s now"),
    ("udp-receive-drops", "warn", but(udp={"RcvbufErrors": PAST}), "none now"),
    ("udp-receive-drops", "ok", but(udp={"RcvbufErrors": Counted(total=9)}), "9 RcvbufErrors"),
    ("udp-receive-drops", "skip", but(udp={"RcvbufErrors": None}), "does not say"),
    ("udp-send-drops", "fail", but(udp={"SndbufErrors": SOME}), "840/s now"),
    ("udp-send-drops", "warn", but(udp={"SndbufErrors": PAST}), "none now"),
    ("udp-send-drops", "skip", but(udp={"SndbufErrors": None}), "does not say"),
    ("udp-checksums", "warn", but(udp={"InCsumErrors": SOME}), "840/s"),
    ("udp-checksums", "ok", but(udp={"InCsumErrors": PAST}), "none now"),
    ("udp-checksums", "skip", but(udp={"InCsumErrors": None}), "does not say"),
    ("relay-sockets", "fail", but(sockets={29901: SOME}), "port 29901"),
    ("relay-sockets", "warn", but(sockets={29901: PAST}), "none now"),
    ("relay-sockets", "skip", but(sockets={}), "no relay"),
    ("socket-buffers", "warn", but(granted=Granted(receive=4 * MIB, send=16 * MIB)), "asked 16 MiB, granted 4 MiB"),
    ("socket-buffers", "skip", but(granted=None, lacks={"granted": "no socket: no"}), "no socket: no"),
    ("buffer-limits", "warn", but(sysctl={"net.core.rmem_max": str(16 * MIB)}), "want 64 MiB at 10 Gbit/s"),
    ("buffer-limits", "warn", but(nic={"speed_mbps": 40_000}), "want 128 MiB at 40 Gbit/s"),
    ("buffer-limits", "ok", but(nic={"speed_mbps": 1000}), "16 MiB, for 1 Gbit/s"),
    ("buffer-limits", "ok", but(nic={"speed_mbps": None}), "unknown speed"),
    ("buffer-limits", "skip", but(sysctl={"net.core.wmem_max": None}), "cannot be read"),
    ("udp-memory", "warn", but(sysctl={"net.ipv4.udp_mem": "1000 2000 4000"}), "160 MiB for full buffers of 2 workers"),
    ("udp-memory", "skip", but(sysctl={"net.ipv4.udp_mem": None}), "cannot be read"),
    ("softnet", "fail", but(softnet_dropped=SOME), "840/s now"),
    ("softnet", "warn", but(softnet_squeezed=SOME), "840/s now"),
    ("softnet", "skip", but(softnet_dropped=None), "cannot be read"),
    ("conntrack", "warn", but(conntrack_ports=[29900]), "port 29900"),
    ("conntrack", "ok", but(conntrack=False, conntrack_ports=None), "not in use"),
    ("conntrack", "skip", but(conntrack_ports=None), "cannot be read"),
    ("conntrack", "skip", but(conntrack=None), "cannot be looked at"),
    ("nic-drops", "fail", but(nic={"drops": {"rx_missed_errors": SOME}}), "rx_missed_errors 840/s now"),
    ("nic-drops", "fail", but(nic={"drops": {"rx_dropped": SOME}, "rx_ring": (8192, 8192)}), "rx_dropped"),
    ("nic-drops", "skip", but(nic={"drops": {}}), "does not count"),
    ("offloads", "warn", but(nic={"features": {**FEATURES, "rx-gro": False}}), "rx-gro off"),
    ("offloads", "skip", but(nic={"features": {**FEATURES, "tx-udp-segmentation": False},
                                  "fixed": ["tx-udp-segmentation"]}), "the card has no tx-udp-segmentation"),
    ("offloads", "skip", but(nic={"features": {"rx-gro": True}}), "knows no tx-udp-segmentation"),
    ("offloads", "skip", but(nic={"features": None}), "driver"),
    ("nic-queues", "warn", but(nic={"queues": (1, 8)}), "1 of 8 combined queues in use, 2 workers"),
    ("nic-queues", "ok", but(nic={"queues": (1, 1)}), "1 of 1"),
    ("nic-queues", "skip", but(nic={"queues": None}), "driver"),
    ("rx-hash", "warn", but(nic={"hashes_ports": False}), "addresses alone"),
    ("rx-hash", "ok", but(nic={"hashes_ports": None, "queues": (1, 8)}), "one queue"),
    ("rx-hash", "skip", but(nic={"hashes_ports": None}), "driver"),
    ("lane-rules", "warn", but(nic={"rules": [Rule(port=29901, queue=0)]}), "1 of 2 workers' ports have no rule"),
    ("lane-rules", "warn", but(nic={"rules": [Rule(port=port, queue=3) for port in (29901, 29902)]}), "to one queue"),
    ("lane-rules", "ok", but(relay={"workers": 1, "cpus": (2,)}, nic={"rules": []}), "no rules needed"),
    ("lane-rules", "skip", but(nic={"rules": None}), "no ntuple"),
    ("lane-rules", "skip", but(nic={"features": {**FEATURES, "rx-ntuple-filter": False},
                                    "fixed": ["rx-ntuple-filter"]}), "no ntuple"),
    ("nic-rings", "warn", but(nic={"rx_ring": (512, 8192)}), "rx 512 of 8192"),
    ("nic-rings", "ok", but(nic={"rx_ring": (256, 256)}), "rx 256 of 256"),
    ("nic-rings", "skip", but(nic={"rx_ring": None}), "driver"),
    ("worker-cpus", "warn", but(relay={"cpus": (2, 64)}), "CPU 64 is offline"),
    ("worker-cpus", "warn", but(relay={"workers": 9, "cpus": ()}), "9 workers for 8 CPUs"),
    ("worker-cpus", "warn", but(relay={"cpus": ()}), "may put two on one CPU"),
    ("worker-cpus", "ok", but(relay={"cpus": (), "workers": 1}), "not pinned"),
    ("irq-affinity", "warn", but(nic={"irqs": [Irq(number=40, cpus=(2,)), Irq(number=41, cpus=(1,))]}), "1 of 2"),
    ("irq-affinity", "skip", but(relay={"cpus": ()}), "not pinned"),
    ("irq-affinity", "skip", but(nic={"irqs": []}), "not to be found"),
    ("irq-affinity", "skip", but(cpu={"allowed": (2, 3)}), "every CPU has a worker"),
    ("irqbalance", "warn", but(cpu={"irqbalance": True}), "running"),
    ("irqbalance", "ok", but(cpu={"irqbalance": True}, relay={"cpus": ()}), "no worker is pinned"),
    ("numa", "warn", but(nic={"numa_node": 1}), "workers on CPU 2, 3 are not"),
    ("numa", "warn", but(nic={"numa_node": 1}, relay={"cpus": ()}), "not pinned"),
    ("numa", "ok", but(nic={"numa_node": 1}, relay={"cpus": (), "numa": "nic"}), "workers stay there"),
    ("numa", "ok", but(cpu={"nodes": {0: (0, 1)}}), "one node"),
    ("governor", "warn", but(cpu={"governors": {2: "powersave", 3: "performance"}}), "powersave"),
    ("governor", "ok", but(cpu={"governors": {0: "powersave", 2: "performance", 3: "performance"}}), "performance"),
    ("governor", "skip", but(cpu={"governors": {}}), "no cpufreq"),
    ("smt", "warn", but(relay={"cpus": (2, 6)}), "CPU 2 and 6"),
    ("smt", "skip", but(relay={"cpus": ()}), "not pinned"),
    ("isolated-cpus", "warn", but(relay={"cpus": (2, 5)}), "CPU 5"),
    ("isolated-cpus", "warn", but(relay={"cpus": ()}), "not pinned there"),
    ("isolated-cpus", "ok", but(cpu={"isolated": ()}), "none isolated"),
    ("clock-source", "warn", but(cpu={"clocksource": "hpet"}), "hpet, although tsc is there"),
    ("clock-source", "warn", but(cpu={"clocksource": "xen", "clocksources": ["xen"]}), "xen"),
    ("clock-source", "ok", but(cpu={"clocksource": "kvm-clock", "clocksources": ["kvm-clock"]}), "kvm-clock"),
    ("clock-source", "skip", but(cpu={"clocksource": ""}), "does not say"),
    ("kernel", "fail", but(kernel="4.17.3"), "no UDP_SEGMENT"),
    ("kernel", "warn", but(kernel="4.19.0-26-amd64"), "no UDP_GRO"),
    ("kernel", "ok", but(kernel="5.0.0"), "UDP_GRO"),
    ("kernel", "skip", but(kernel="odd"), "'odd'"),
    ("open-files", "warn", but(nofile=(1024, 524288)), "limit 1024, 1288 may be wanted"),
    ("open-files", "warn", but(nofile=(1024, 1024)), "limit 1024"),
    ("open-files", "ok", but(nofile=(-1, -1)), "no limit"),
    ("locked-memory", "warn", but(memlock=(8 * MIB, 8 * MIB)), "limit 8192 KiB"),
    ("locked-memory", "ok", but(memlock=(8 * MIB, 8 * MIB), root=True), "no limit"),
    ("perf-events", "warn", but(sysctl={"kernel.perf_event_paranoid": "3"}), "nothing may be sampled"),
    ("perf-events", "warn", but(sysctl={"kernel.perf_event_paranoid": "2"}), "the kernel's share"),
    ("perf-events", "ok", but(sysctl={"kernel.perf_event_paranoid": "3"}, root=True), "paranoid 3"),
    ("perf-events", "skip", but(sysctl={"kernel.perf_event_paranoid": None}), "none"),
    ("kernel-names", "warn", but(sysctl={"kernel.kptr_restrict": "1"}), "kptr_restrict 1"),
    ("kernel-names", "ok", but(sysctl={"kernel.kptr_restrict": "1"}, root=True), "kptr_restrict 1"),
    ("kernel-names", "skip", but(sysctl={"kernel.kptr_restrict": None}), "cannot be read"),
    ("frame-pointers", "warn", but(module=Module(path="x.so", frame_pointers=False, symbols=True)), "no frame p"),
    ("frame-pointers", "warn", but(module=Module(path="x.so", frame_pointers=True, symbols=False)), "no symbols"),
    ("frame-pointers", "skip", but(module=None), "not built"),
]  # fmt: skip
NEEDS_FAIL = {"udp-receive-drops", "udp-send-drops", "relay-sockets", "softnet", "nic-drops", "kernel"}


def one(check: str, facts: Facts) -> Finding:
    (finding,) = run(facts, [check])
    return finding


@pytest.mark.parametrize("check", CHECKS)
def test_good_facts_give_ok(check: str) -> None:
    finding = one(check, GOOD)
    assert (finding.level, finding.check) == ("ok", check)


@pytest.mark.parametrize(("check", "level", "facts", "said"), CASES)
def test_facts_give_their_finding(check: str, level: str, facts: Facts, said: str) -> None:
    finding = one(check, facts)
    assert finding.level == level, finding
    assert said in finding.text
    if level in ("warn", "fail"):
        assert finding.fix or finding.hint
    else:
        assert not finding.fix


def test_every_check_has_a_case_for_each_level_it_knows() -> None:
    tried: dict[str, set[str]] = {check: set() for check in CHECKS}
    for check, level, _, _ in CASES:
        tried[check].add(level)
    assert all(levels & {"warn", "fail"} for levels in tried.values())
    assert {check for check, levels in tried.items() if "fail" in levels} == NEEDS_FAIL
    never_skip = {
        "worker-cpus",
        "irqbalance",
        "numa",
        "isolated-cpus",
        "open-files",
        "locked-memory",
    }  # their facts are always there
    assert {check for check, levels in tried.items() if "skip" not in levels} == never_skip


@pytest.mark.parametrize("check", [name for name, check in CHECKS.items() if check.__name__ == "all_of_them"])
def test_checks_of_cards_look_at_each_and_are_skipped_without_one(check: str) -> None:
    assert [finding.level for finding in run(but(nics=[]), [check])] == ["skip"]
    both = run(but(nics=[NIC, msgspec.structs.replace(NIC, name="eth1")]), [check])
    assert [finding.what.split()[-1] for finding in both] == ["eth0", "eth1"]


def test_the_fixes_are_the_commands_for_this_host() -> None:
    assert one("nic-queues", but(nic={"queues": (1, 8)})).fix == ("ethtool -L eth0 combined 8",)
    assert one("offloads", but(nic={"features": {**FEATURES, "rx-gro": False}})).fix == ("ethtool -K eth0 rx-gro on",)
    assert one("lane-rules", but(nic={"rules": []})).fix == (
        "ethtool -N eth0 flow-type udp4 dst-port 29901 action 0",
        "ethtool -N eth0 flow-type udp4 dst-port 29902 action 1",
    )
    switched_off = but(nic={"rules": [], "features": {**FEATURES, "rx-ntuple-filter": False}})
    assert one("lane-rules", switched_off).fix[0] == "ethtool -K eth0 ntuple on"
    bound = but(nic={"irqs": [Irq(number=40, cpus=(2,))]})
    assert one("irq-affinity", bound).fix == ("echo 0 >/proc/irq/40/smp_affinity_list",)
    assert one("rx-hash", but(nic={"hashes_ports": False})).fix[0] == "ethtool -N eth0 rx-flow-hash udp4 sdfn"
    low = one("buffer-limits", but(sysctl={"net.core.rmem_max": "212992"})).fix
    assert low[0] == "sysctl -w net.core.rmem_max=67108864"
    assert "/etc/sysctl.d/90-zrelay.conf" in low[1]
    enough = one("udp-receive-drops", but(udp={"RcvbufErrors": SOME})).fix
    assert enough[0] == "sysctl -w net.core.rmem_max=134217728"  # the limit is where it should be: more of it


def test_facts_survive_as_json_and_other_versions_are_refused() -> None:
    assert from_json(to_json(GOOD)) == GOOD
    with pytest.raises(ValueError, match="version 9"):
        from_json(to_json(but(version=9)))


def test_a_check_is_chosen_by_number_name_or_beginning() -> None:
    names = list(CHECKS)
    assert chosen("1") == names[:1]
    assert chosen(str(len(names))) == names[-1:]
    assert chosen("kernel") == ["kernel"]
    assert chosen("nic-") == ["nic-drops", "nic-queues", "nic-rings"]
    for wrong in ("0", str(len(names) + 1), "", "nonsense", "-1", "²"):
        with pytest.raises(ValueError, match="is no check"):
            chosen(wrong)
