"""`[workers] numa = "nic"`: which CPUs are near the card, and that workers stay there."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from relay import numa
from relay.config import loads
from relay.hostfiles import Host
from relay.numa import near_cpus
from relay.supervisorconf import SupervisorConf
from relay.units import Address
from tests.py.test_hangs import CPUS, threads_run_on
from tests.py.test_spares import kill_worker, wait_for_spare
from tests.py.test_supervisor import RUN, Rig

NODES = {0: "0-3", 1: "4-7"}
ADDRESSES = {"eth0": "192.0.2.1", "eth1": "192.0.2.2", "eth2": "192.0.2.3"}


def host(root: Path, cards: dict[str, str], nodes: dict[int, str] = NODES) -> Host:
    """With cards that are up, and the node that each says it is on."""
    files = {f"sys/devices/system/node/node{node}/cpulist": cpus for node, cpus in nodes.items()}
    for name, node in cards.items():
        files |= {f"sys/class/net/{name}/operstate": "up", f"sys/class/net/{name}/device/numa_node": node}
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"{text}\n")
    return Host(root)


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {
        name: [SimpleNamespace(family=2, address=ip), SimpleNamespace(family=10, address=f"fe80::1%{name}")]
        for name, ip in ADDRESSES.items()
    }
    monkeypatch.setattr(psutil, "net_if_addrs", lambda: known)
    monkeypatch.setattr(numa, "os", SimpleNamespace(sched_getaffinity=lambda pid: set(range(7))))


@pytest.mark.parametrize(
    ("ip", "cards", "near"),
    [
        ("192.0.2.2", {"eth0": "0", "eth1": "1"}, (4, 5, 6)),  # 7 is not ours to run on
        ("fe80::1", {"eth1": "1"}, (4, 5, 6)),
        ("0.0.0.0", {"eth0": "0"}, (0, 1, 2, 3)),
        ("0.0.0.0", {"eth0": "1", "eth1": "1", "eth2": "-1"}, (4, 5, 6)),
        ("192.0.2.9", {"eth0": "0"}, (0, 1, 2, 3)),  # a floating address: of one of the cards that are up
        ("0.0.0.0", {"eth0": "-1"}, ()),
        ("0.0.0.0", {}, ()),
    ],
)
def test_near_is_the_node_of_the_card_that_has_the_address(
    tmp_path: Path, ip: str, cards: dict[str, str], near: tuple[int, ...]
) -> None:
    assert near_cpus(Address(ip, 29900), host(tmp_path, cards)) == near


def test_on_a_machine_of_one_node_nothing_is_nearer(tmp_path: Path) -> None:
    assert near_cpus(Address("0.0.0.0", 29900), host(tmp_path, {"eth0": "0"}, {0: "0-7"})) == ()


def test_cards_on_several_nodes_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="eth0 on node 0, eth1 on node 1: listen on one's address"):
        near_cpus(Address("0.0.0.0", 29900), host(tmp_path, {"eth0": "0", "eth1": "1"}))


def conf(text: str) -> SupervisorConf:
    config = f'[listen]\ndata = "127.0.0.1:29900"\n[security]\ninsecure_plaintext = true\n[workers]\n{text}\n'
    return SupervisorConf.of(loads(config, environ={}), None)


def test_what_cannot_be_known_or_is_against_cpus_is_said_and_the_relay_starts(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(numa, "near_cpus", lambda data: (CPUS[0],))
    assert conf("").near == ()
    assert conf('numa = "nic"').near == (CPUS[0],)
    assert capfd.readouterr().err == ""
    if len(CPUS) > 1:
        assert conf(f'numa = "nic"\ncpus = "{CPUS[-1]}"\ncount = 1').near == (CPUS[0],)
        assert f"the card is not on the node of CPU {CPUS[-1]}, which cpus names" in capfd.readouterr().err

    def several(data: Address) -> tuple[int, ...]:
        raise ValueError("cards are everywhere")

    monkeypatch.setattr(numa, "near_cpus", several)
    assert conf('numa = "nic"').near == ()
    assert 'numa = "nic": cards are everywhere' in capfd.readouterr().err


@pytest.mark.net
@pytest.mark.skipif(len(CPUS) < 2, reason="needs two CPUs")
def test_workers_their_spare_and_who_takes_a_place_stay_near(tmp_path: Path) -> None:
    rig = Rig(tmp_path, workers=1, run=RUN.replace("streams_max=16", f"streams_max=16, near=({CPUS[0]},)"))
    try:
        rig.meet_agent()
        rig.hear("worker_up")
        first = rig.page()["pid"]
        assert threads_run_on(first) == threads_run_on(wait_for_spare(rig)) == {(CPUS[0],)}
        kill_worker(rig, 0)
        rig.hear("worker_moved")
        assert rig.page()["pid"] != first
        assert threads_run_on(rig.page()["pid"]) == {(CPUS[0],)}
        assert os.sched_getaffinity(rig.process.pid) == set(CPUS)
    finally:
        rig.close()
