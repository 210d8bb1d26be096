"""One screen of a relay's status: what ``zrelay status`` prints from ``GET /v1/status``."""

from __future__ import annotations

from typing import Any


def screen(status: dict[str, Any]) -> str:
    """Plain text, at most a line per worker and link; nothing that is not in the answer."""
    lines = [
        f"{status['relay']}  {status['state']}  zrelay {status['version']}  up {_duration(status['uptime_s'])}",
        *(f"  not ready: {reason}" for reason in status["reasons"]),
        "",
        "worker  state  pid      streams  subscribers  busy   restarts",
    ]
    for worker in status["workers"]:
        lines.append(
            f"{worker['worker']:<7} {'up' if worker['up'] else 'DOWN':<6} {worker['pid']:<8} {worker['streams']:<8} "
            f"{worker['subscribers']:<12} {worker['busy_pct']:4.1f} % {worker['restarts']}"
        )
    lines += ["", "link         state      rtt        loss     queue"]
    for link in status["links"]:
        rtt, loss, queue = (
            "-" if link.get(key) is None else f"{link[key]:{layout}} {unit}"
            for key, layout, unit in (("rtt_ms", ".1f", "ms"), ("loss_pct", ".1f", "%"), ("queue_ms", "", "ms"))
        )
        lines.append(f"{link['peer']:<12} {link['state']:<10} {rtt:<10} {loss:<8} {queue}")
    streams = ", ".join(f"{count} {state}" for state, count in sorted(status["streams"].items())) or "none"
    drops = ", ".join(f"{word} {count}" for word, count in sorted(status["drops"].items())) or "none"
    lines += ["", f"streams      {streams}", f"dropped      {drops}"]
    lines += [f"last error   {error}" for error in status["last_errors"]]
    return "\n".join(lines)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
