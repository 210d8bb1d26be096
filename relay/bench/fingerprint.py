"""What a result must say of the machine it was measured on, and in what two machines differ."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import shutil
import socket
import ssl
import subprocess
from pathlib import Path
from typing import Any

from relay import __version__

_UDP_SEGMENT, _UDP_GRO = 103, 104  # linux/udp.h
# Differences in these make two results hardly comparable; the load average and the like are only shown.
COMPARED = (
    *("cpu_model", "cores", "arch", "kernel", "governor", "virtualised", "memory_gib"),
    *("libc", "gcc", "python", "openssl", "gso", "gro"),
)


def fingerprint() -> dict[str, Any]:
    """Of this machine, without its name, and this program, now.

    `governor` and `gcc` are "" where there is none; memory in GiB, one decimal.
    """
    cpuinfo = _text("/proc/cpuinfo")
    model = re.search(r"^model name\s*:\s*(.+)$", cpuinfo, re.M)
    memory = re.search(r"^MemTotal:\s+(\d+) kB", _text("/proc/meminfo"), re.M)
    made = {
        "zrelay": __version__,
        "cpu_model": model[1].strip() if model else platform.machine(),
        "cores": os.cpu_count() or 1,
        "cores_ours": len(os.sched_getaffinity(0)),
        "arch": platform.machine(),
        "kernel": platform.release(),
        "governor": _text("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor").strip(),
        "virtualised": re.search(r"^flags\s*:.*\bhypervisor\b", cpuinfo, re.M) is not None,
        "memory_gib": round(int(memory[1]) / (1 << 20), 1) if memory else 0.0,
        "libc": _libc(),
        "gcc": _gcc(),
        "python": platform.python_version(),
        "openssl": ssl.OPENSSL_VERSION,
        "gso": _takes(_UDP_SEGMENT, 1200),
        "gro": _takes(_UDP_GRO, 1),
        "load_average": [round(load, 2) for load in os.getloadavg()],
    }
    # The names pytest-benchmark gives to the same things, for its tools.
    made["cpu"] = {"brand_raw": made["cpu_model"], "count": made["cores"], "arch": made["arch"]}
    made["machine"] = made["arch"]
    made["release"] = made["kernel"]
    made["python_version"] = made["python"]
    made["system"] = platform.system()
    return made


def commit_info() -> dict[str, Any]:
    """Of the checkout this package lies in; id "unversioned" outside of one."""
    folder = Path(__file__).resolve().parent
    found = _git(folder, "log", "-1", "--format=%H %cI")
    if not found:
        return {"id": "unversioned", "dirty": False}
    commit, _, at = found.partition(" ")
    dirty = bool(_git(folder, "status", "--porcelain", "--untracked-files=no"))
    return {"id": commit, "time": at, "branch": _git(folder, "rev-parse", "--abbrev-ref", "HEAD"), "dirty": dirty}


def normal(machine_info: dict[str, Any]) -> dict[str, Any]:
    """A machine_info of ours or of pytest-benchmark under our names; what it does not say is left out."""
    cpu = machine_info.get("cpu")
    cpu = cpu if isinstance(cpu, dict) else {}
    theirs = {
        "cpu_model": cpu.get("brand_raw"),
        "cores": cpu.get("count"),
        "arch": machine_info.get("machine"),
        "kernel": machine_info.get("release"),
        "python": machine_info.get("python_version"),
    }
    return {key: value for key, value in {**theirs, **machine_info}.items() if value is not None}


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """What differs of what both say: "kernel: 6.1 -> 6.18"."""
    a, b = normal(old), normal(new)
    return [f"{key}: {a[key]} -> {b[key]}" for key in COMPARED if key in a and key in b and a[key] != b[key]]


def _text(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""


def _libc() -> str:
    with contextlib.suppress(ValueError, OSError):
        return os.confstr("CS_GNU_LIBC_VERSION") or ""
    return " ".join(platform.libc_ver())


def _gcc() -> str:
    gcc = shutil.which("gcc")
    return _run([gcc, "-dumpfullversion"]) if gcc else ""


def _git(folder: Path, *words: str) -> str:
    git = shutil.which("git")
    return _run([git, "-C", str(folder), *words]) if git else ""


def _run(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _takes(option: int, value: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.setsockopt(socket.IPPROTO_UDP, option, value)
        except OSError:
            return False
    return True
