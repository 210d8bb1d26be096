"""`zrelay doctor` as a command: the screen, the JSON, the script of fixes, exit codes, and a look at this very host."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from relay.config import Config
from relay.doctor import checks, gather, report
from relay.doctor.command import doctor
from relay.doctor.facts import Facts, to_json
from relay.doctor.finding import Finding, ok, skip, sysctl, warn
from relay.hostfiles import cpu_list
from tests.py.test_doctor_checks import CASES, GOOD

OK, FAILED, USAGE, FINDINGS, CONFIG = 0, 1, 2, 3, 78
BAD = [facts for _, level, facts, _ in CASES if level in ("warn", "fail")]


@pytest.fixture
def good(tmp_path: Path) -> str:
    path = tmp_path / "good.json"
    path.write_bytes(to_json(GOOD))
    return str(path)


@pytest.fixture
def bad(tmp_path: Path) -> str:
    """Facts of a host that lacks a lot."""
    path = tmp_path / "bad.json"
    sysctls = {"net.core.rmem_max": "212992", "net.core.wmem_max": "212992", "net.ipv4.udp_mem": "1 2 3"}
    path.write_bytes(to_json(Facts(sysctl=sysctls, kernel="4.17", nics=GOOD.nics, memlock=(65536, 65536))))
    return str(path)


def test_exit_codes_tell_a_good_host_from_one_with_findings_and_from_a_doctor_that_cannot(good: str, bad: str) -> None:
    def code(*words: str) -> int:
        return CliRunner().invoke(doctor, words).exit_code

    assert code("--facts", good) == OK
    assert code("--facts", bad) == FINDINGS
    assert code("--facts", bad, "--check", "clock-source") == OK
    assert code("--facts", __file__) == FAILED
    assert code("--facts", "/nonexistent") == FAILED
    assert code("--facts", good, "--save-facts", "/nonexistent/x") == FAILED
    assert code("--check", "nonsense") == USAGE
    assert code("-c", "/nonexistent.toml") == CONFIG


def test_the_screen_counts_shows_the_worst_first_and_leads_to_the_fixes(bad: str) -> None:
    done = CliRunner().invoke(doctor, ["--facts", bad])
    lines = done.stdout.splitlines()
    assert lines[0].startswith("zrelay doctor — relay  ")
    assert f"{len(checks.CHECKS)} checks: " in lines[0]
    marks = [line.split()[0] for line in lines[1:-1] if not line.startswith("       ")]
    assert marks == sorted(marks, key=["FAIL", "WARN", "ok", "skip"].index)
    assert marks[0] == "FAIL"
    assert "       fix  sysctl -w net.core.rmem_max=67108864   (persist: /etc/sysctl.d/90-zrelay.conf)" in lines
    assert lines[-1] == "       all fixes as a script: zrelay doctor --print-fixes"
    assert "\x1b" not in done.stdout


def test_colour_is_for_terminals() -> None:
    assert "\x1b[33mWARN\x1b[0m" in report.screen([warn("a", "b")], "bj-1", 1.1, colour=True)
    assert "\x1b" not in report.screen([warn("a", "b")], "bj-1", 1.1, colour=False)


def test_the_screen_is_the_one_the_manual_shows() -> None:
    findings = [
        ok("kernel 6.18", "UDP_SEGMENT, UDP_GRO, recvmmsg"),
        warn("nic queues eth0", "1 of 8", "ethtool -L eth0 combined 8", hint="or fewer workers"),
        skip("cpu frequency", "no cpufreq in this machine"),
    ]
    assert report.screen(findings, "bj-1", 1.12, colour=False).splitlines() == [
        "zrelay doctor — bj-1" + "3 checks: 1 ok · 1 warn · 1 skip   1.1 s".rjust(80),
        " WARN  nic queues eth0          1 of 8",
        "       fix  ethtool -L eth0 combined 8",
        "            (or fewer workers)",
        " ok    kernel 6.18              UDP_SEGMENT, UDP_GRO, recvmmsg",
        " skip  cpu frequency            no cpufreq in this machine",
        "       all fixes as a script: zrelay doctor --print-fixes",
    ]


def test_the_json_has_its_stable_shape(bad: str) -> None:
    found = json.loads(CliRunner().invoke(doctor, ["--facts", bad, "--json"]).stdout)
    assert found.keys() == {"version", "relay", "seconds", "counts", "findings"}
    assert found["version"] == 1
    assert found["counts"].keys() == {"ok", "warn", "fail", "skip"}
    assert sum(found["counts"].values()) == len(found["findings"])
    for finding in found["findings"]:
        assert finding.keys() == {"check", "level", "what", "text", "fix", "hint"}
        assert finding["check"] in checks.CHECKS
        assert finding["level"] in found["counts"]
        assert all(isinstance(command, str) for command in finding["fix"])


def _is_sh(text: str) -> bool:
    return subprocess.run(["sh", "-n"], input=text, text=True, capture_output=True, check=False).returncode == 0


def test_the_fixes_of_every_finding_together_are_a_valid_shell_script(bad: str) -> None:
    findings = [finding for facts in BAD for finding in checks.run(facts)]
    for text in (report.script(findings, "bj-1"), CliRunner().invoke(doctor, ["--facts", bad, "--print-fixes"]).stdout):
        assert text.startswith("#!/bin/sh\n")
        assert _is_sh(text)
    commands = [line for line in report.script(findings, "bj-1").splitlines() if line and not line.startswith("#")]
    assert len(commands) == len(set(commands))
    assert not _is_sh("if true; then")  # the judge can say no


def test_nothing_of_a_text_becomes_a_command() -> None:
    odd = Finding("warn", "a\nreboot", "b\n; reboot `reboot`", hint="c\nreboot")
    text = report.script([odd], "x\nreboot")
    assert all(line.startswith("#") or line in ("", "set -u") for line in text.splitlines())
    assert "Nothing to fix" in text


def test_a_sysctl_is_set_kept_and_not_kept_twice(tmp_path: Path) -> None:
    now, keep = sysctl("net.ipv4.udp_mem", "1 2 3")
    assert now == "sysctl -w net.ipv4.udp_mem='1 2 3'"
    kept = tmp_path / "90.conf"
    for _ in range(2):
        subprocess.run(["sh", "-c", keep.replace("/etc/sysctl.d/90-zrelay.conf", str(kept))], check=True)
    assert kept.read_text() == "net.ipv4.udp_mem = 1 2 3\n"


def test_this_host_is_looked_at_without_a_traceback_and_judged_the_same_from_its_facts(tmp_path: Path) -> None:
    path = tmp_path / "facts.json"
    seen = CliRunner().invoke(doctor, ["--save-facts", str(path), "--json"])
    assert seen.exit_code in (OK, FINDINGS), seen.output
    again = CliRunner().invoke(doctor, ["--facts", str(path), "--json"])
    assert json.loads(again.stdout)["findings"] == json.loads(seen.stdout)["findings"]
    facts = json.loads(path.read_text())
    assert facts["kernel"] == os.uname().release
    assert facts["module"]["frame_pointers"]
    assert facts["granted"]["receive"] > 0


def test_a_dropped_datagram_is_seen_as_one_in_the_rates() -> None:
    before = gather.snmp_udp("Udp: InDatagrams RcvbufErrors\nUdp: 10 1\nUdpLite: InDatagrams\nUdpLite: 0\n")
    assert before == {"InDatagrams": 10, "RcvbufErrors": 1}
    assert gather.snmp_udp("") == {}


def test_drops_of_a_port_are_read_from_the_table_of_sockets() -> None:
    text = (
        "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref "
        "pointer drops\n"
        "  123: 0100007F:74CC 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 5 2 0000 17\n"
    )
    assert gather.udp_drops(text) == [(29900, 17)]


@pytest.mark.parametrize(
    ("text", "cpus"), [("0-3,8", (0, 1, 2, 3, 8)), ("5", (5,)), ("", ()), ("a-b", ()), ("1-x", ())]
)
def test_cpu_lists_are_read(text: str, cpus: tuple[int, ...]) -> None:
    assert cpu_list(text) == cpus


def test_frame_pointers_are_known_by_the_compilers_own_note() -> None:
    assert gather.has_frame_pointers(b"\0GNU C11 12.2.0 -g -O2 -fno-omit-frame-pointer -fPIC\0")
    assert not gather.has_frame_pointers(b"\0GNU C11 12.2.0 -g -O2\0-fno-omit-frame-pointer\0")


def test_what_is_gathered_follows_the_configuration() -> None:
    facts = gather.gather(Config(), interval_s=0.01)
    assert (facts.relay.data_port, facts.relay.ingress_ports) == (29900, 1000)
    assert facts.interval_s < 5
