"""Results as files: pytest-benchmark's JSON, so that its tools read ours and ours read its.

    {"machine_info": ..., "commit_info": ..., "datetime": ..., "version": ...,
     "benchmarks": [{"name", "fullname", "group", "params", "stats": {"mean", "median", "rounds", "data", ...},
                     "extra_info": {"unit", "better", "limited_by", "result"}}]}

One figure of ours is one benchmark: `fanout.cpu_us_per_packet`. Each run gives one sample, or one a round where the
verb measures in rounds (`samples` in its JSON, by figure); `stats.data` has them all.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import click

from relay import __version__
from relay.bench.fingerprint import commit_info, fingerprint

Better = Literal["lower", "higher"]

FILE_BYTES_MAX = 256 << 20
# What a verb's JSON has that is a figure: unit, and which way is better.
FIGURES: dict[str, tuple[str, Better]] = {
    "cpu_us_per_packet": ("µs", "lower"),
    "cpu_us_per_egress_packet": ("µs", "lower"),
    "bare_cpu_us_per_packet": ("µs", "lower"),
    "peer_cpu_us_per_packet": ("µs", "lower"),
    "ratio_to_bare": ("", "lower"),
    "ratio_to_peer": ("", "lower"),
    "delivered_pct": ("%", "higher"),
    "missing_pct": ("%", "lower"),
    "syscalls_per_packet": ("", "lower"),
    "packets_per_s": ("1/s", "higher"),
    "overhead": ("", "lower"),
    "reverse": ("", "lower"),
    "p50_ms": ("ms", "lower"),
    "p99_ms": ("ms", "lower"),
    "p999_ms": ("ms", "lower"),
    "max_ms": ("ms", "lower"),
    "p50_us": ("µs", "lower"),
    "p99_us": ("µs", "lower"),
    "p999_us": ("µs", "lower"),
    "heal_ms": ("ms", "lower"),
    "data_kib_per_hour": ("KiB/h", "lower"),
    "python_kib_per_hour": ("KiB/h", "lower"),
    "ns_per_record": ("ns", "lower"),
    "ns_per_record_alone": ("ns", "lower"),
    "ns_per_record_burst": ("ns", "lower"),
    "records_per_s": ("1/s", "higher"),
    "crossing_p50_ns": ("ns", "lower"),
    "crossing_p99_ns": ("ns", "lower"),
    "wake_p50_ns": ("ns", "lower"),
    "wake_p99_ns": ("ns", "lower"),
    "ratio": ("", "lower"),
}
# What a case is called by: two results are of the same thing when these agree. How long a run was does not count.
PARAMS = (
    *("engine", "wheel", "virtual", "subscribers", "publishers", "streams", "pps", "size", "frame", "hold"),
    *("delay_ms", "loss", "rloss", "burst", "deadline_ms", "rate_bps", "slots", "record_bytes", "cores", "workers"),
    *("relays", "sealed", "mode", "sinks_gro", "veth", "record"),
)


class ResultError(Exception):
    """A file that is no result; the message says which file and why."""


@dataclass(frozen=True)
class Measured:
    """One benchmark of a file. `samples` may be fewer than `rounds` when the file has no data."""

    name: str
    group: str
    params: dict[str, Any]
    unit: str
    better: Better
    stats: dict[str, float]
    samples: tuple[float, ...] = ()
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, str]:
        """Equal for two measurements of the same thing."""
        return self.name, json.dumps(self.params, sort_keys=True, default=str)

    @property
    def title(self) -> str:
        """The name with what it was measured at."""
        if not self.params or "[" in self.name:
            return self.name
        return f"{self.name} [{', '.join(f'{name} {value}' for name, value in self.params.items())}]"


@dataclass(frozen=True)
class Result:
    path: str
    machine: dict[str, Any]
    commit: dict[str, Any]
    at: str
    version: str
    measured: list[Measured]


def stats_of(samples: Sequence[float]) -> dict[str, Any]:
    """pytest-benchmark's table of at least one sample."""
    ordered = sorted(samples)
    count = len(ordered)
    mean = math.fsum(ordered) / count
    stddev = statistics.stdev(ordered) if count > 1 else 0.0
    q1, median, q3 = (_quantile(ordered, share) for share in (0.25, 0.5, 0.75))
    low, high = q1 - 1.5 * (q3 - q1), q3 + 1.5 * (q3 - q1)
    inside = [value for value in ordered if low <= value <= high] or ordered
    outliers = (sum(abs(value - mean) > stddev for value in ordered), count - len(inside))
    return {
        "min": ordered[0],
        "max": ordered[-1],
        "mean": mean,
        "stddev": stddev,
        "rounds": count,
        "median": median,
        "iqr": q3 - q1,
        "q1": q1,
        "q3": q3,
        "iqr_outliers": outliers[1],
        "stddev_outliers": outliers[0],
        "outliers": f"{outliers[0]};{outliers[1]}",
        "ld15iqr": inside[0],
        "hd15iqr": inside[-1],
        "ops": 1 / mean if mean else 0.0,
        "total": math.fsum(ordered),
        "iterations": 1,
        "data": list(samples),
    }


def _quantile(ordered: Sequence[float], share: float) -> float:
    at = share * (len(ordered) - 1)
    low = int(at)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (at - low)


def benchmarks(verb: str, runs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The figures of one case, run once or more: a run is what the verb's --json prints."""
    first = runs[0]
    params = {name: first[name] for name in PARAMS if first.get(name) is not None}
    made = []
    for name, (unit, better) in FIGURES.items():
        samples = [sample for run in runs for sample in _samples(run, name)]
        if not samples:
            continue
        extra = {"unit": unit, "better": better, "limited_by": first.get("limited_by", ""), "bar": _bar(first, name)}
        if name == next(key for key in FIGURES if _number(first.get(key))):
            extra["result"] = first  # once, with the case's first figure
        made.append(
            {
                "group": f"bench {verb}",
                "name": f"{verb}.{name}",
                "fullname": f"zrelay bench {verb}::{name}",
                "params": params or None,
                "param": None,
                "extra_info": extra,
                "options": {"disable_gc": False, "timer": "clock_monotonic", "min_rounds": 1, "warmup": False},
                "stats": stats_of(samples),
            }
        )
    return made


def _samples(run: dict[str, Any], name: str) -> list[float]:
    rounds = run.get("samples")
    found = rounds.get(name) if isinstance(rounds, dict) else None
    return [float(value) for value in found or [run.get(name)] if _number(value)]


def _bar(run: dict[str, Any], name: str) -> float | None:
    bars = run.get("bars")
    bar = bars.get(name) if isinstance(bars, dict) else None
    return float(bar) if bar is not None and _number(bar) else None


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def document(entries: list[dict[str, Any]]) -> dict[str, Any]:
    """The whole file of these benchmarks, measured here and now."""
    return {
        "machine_info": fingerprint(),
        "commit_info": commit_info(),
        "benchmarks": entries,
        "datetime": datetime.now(UTC).isoformat(),
        "version": f"zrelay {__version__}",
    }


def save(path: str, verb: str, *runs: dict[str, Any]) -> None:
    """Writes the file. click.ClickException when it cannot; nothing half-written stays."""
    target = Path(path)
    part = target.with_name(target.name + ".part")
    try:
        part.write_text(json.dumps(document(benchmarks(verb, runs)), indent=1, allow_nan=False) + "\n")
        part.replace(target)
    except OSError as error:
        raise click.ClickException(f"{path}: {error.strerror}") from None


def save_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--save FILE` for a bench verb; its function gets `save_to`."""
    return click.option(
        "--save", "save_to", default=None, metavar="FILE", help="Keep the result for bench compare and report."
    )(command)


def limit_line(made: dict[str, Any]) -> str:
    """The last line of every result for people."""
    took = f"; {made['wall_s']:.1f} s" if "wall_s" in made else ""
    return f"what limited this run: {made['limited_by']}{took}"


def load(path: str) -> Result:
    """A file of ours or of pytest-benchmark. ResultError."""
    try:
        if Path(path).stat().st_size > FILE_BYTES_MAX:
            raise ResultError(f"{path}: more than {FILE_BYTES_MAX >> 20} MiB: no result")
        whole = json.loads(Path(path).read_bytes(), parse_constant=_no_constant)
    except OSError as error:
        raise ResultError(f"{path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise ResultError(f"{path}: not JSON: {error}") from None
    if not isinstance(whole, dict) or not isinstance(whole.get("benchmarks"), list):
        raise ResultError(f'{path}: no list "benchmarks": write a result with zrelay bench ... --save FILE')
    measured = [_measured(path, number, row) for number, row in enumerate(whole["benchmarks"])]
    if not measured:
        raise ResultError(f"{path}: no benchmark in it")
    return Result(
        path=path,
        machine=_dict(whole.get("machine_info")),
        commit=_dict(whole.get("commit_info")),
        at=str(whole.get("datetime", "")),
        version=str(whole.get("version", "")),
        measured=measured,
    )


def _measured(path: str, number: int, row: Any) -> Measured:
    where = f"{path}: benchmarks[{number}]"
    if not isinstance(row, dict) or not isinstance(row.get("name"), str) or not isinstance(row.get("stats"), dict):
        raise ResultError(f'{where}: needs "name" and "stats"')
    stats = {name: float(value) for name, value in row["stats"].items() if _number(value)}
    missing = [name for name in ("mean", "stddev", "median", "rounds", "min", "max") if name not in stats]
    if missing:
        raise ResultError(f"{where}: stats has no number {missing[0]!r}")
    data = row["stats"].get("data") or []
    if not isinstance(data, list) or not all(_number(value) for value in data):
        raise ResultError(f"{where}: stats.data is no list of numbers")
    if stats["rounds"] < 1 or stats["stddev"] < 0:
        raise ResultError(f"{where}: rounds {stats['rounds']:g}, stddev {stats['stddev']:g}: no measurement")
    extra = _dict(row.get("extra_info"))
    return Measured(
        name=row["name"],
        group=str(row.get("group") or ""),
        params=_dict(row.get("params")),
        unit=str(extra.get("unit", "s")),  # pytest-benchmark's are seconds, and less is better
        better="higher" if extra.get("better") == "higher" else "lower",
        stats=stats,
        samples=tuple(float(value) for value in data),
        extra=extra,
    )


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no number")
