"""Stacks in the file format of https://www.speedscope.app: one "sampled" profile per thread name.

Its schema: github.com/jlfwong/speedscope, src/lib/file-format-spec.ts.
"""

from __future__ import annotations

from typing import Any

from relay import __version__
from relay.flame.stacks import Stacks

SCHEMA = "https://www.speedscope.app/file-format-schema.json"


def document(stacks: Stacks, name: str, hz: float) -> dict[str, Any]:
    """The whole file. Weights are seconds: a sample at `hz` stands for 1 / hz."""
    frames: dict[str, int] = {}
    profiles = []
    for comm in sorted({stack[0] for stack in stacks.counts}):
        samples, weights = [], []
        for stack, count in sorted(stacks.counts.items()):
            if stack[0] == comm:
                samples.append([frames.setdefault(frame, len(frames)) for frame in stack])
                weights.append(count / hz)
        profiles.append({
            "type": "sampled", "name": comm, "unit": "seconds", "startValue": 0, "endValue": sum(weights),
            "samples": samples, "weights": weights,
        })  # fmt: skip
    return {
        "$schema": SCHEMA,
        "name": name,
        "exporter": f"zrelay@{__version__}",
        "activeProfileIndex": 0,
        "shared": {"frames": [{"name": frame} for frame in frames]},
        "profiles": profiles,
    }
