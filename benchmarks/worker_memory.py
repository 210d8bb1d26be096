"""What a worker of 10 000 streams and 50 000 subscribers comes to hold, measured in a process of its own.

    python -m benchmarks.worker_memory        prints JSON

The data plane is the worker's (relay._core.Forwarder, sizes as a worker of these streams has them) on a virtual clock:
each stream gets one packet a second from its own publisher and goes to five subscribers, until the replay caches have
been full for a while. Beside it a worker has its receive areas and batches, added from the plan.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from relay import _core
from relay.commands import encode
from relay.units import Address

STREAMS, SUBSCRIBERS, SECONDS = 10_000, 50_000, 6
SECOND = 1_000_000_000
PAYLOAD = bytes(1100)

#: What a worker has beside its data plane, as `zrelay plan` names it.
BESIDE = (
    *("receive areas", "link messages", "link batch", "egress messages", "egress batch", "fans"),
    *("counters", "rings"),
)


def rss_kib() -> int:
    found = re.search(r"^VmRSS:\s+(\d+)", Path("/proc/self/status").read_text(), re.M)
    assert found is not None
    return int(found[1])


def main() -> int:
    now, base = SECOND, rss_kib()
    fwd = _core.Forwarder(0, now, streams_max=STREAMS, subs_max=SUBSCRIBERS, pkts_max=65536, sessions_max=1024)
    started = rss_kib()

    def tell(op: str, *, addr: Address | None = None, **fields: int) -> None:
        fwd.command(encode(op, 0, addr=addr, **fields))

    publisher = Address("127.0.0.1", 40000)
    for stream in range(STREAMS):
        tell("stream_open", stream=stream, local=1, epoch=1, number=0)
        tell("stream_track", stream=stream, track=0, format=0 | 1 << 8 | 97 << 16, clock_rate=48000, ssrc=0)
        tell("ingress_bind", ingress=stream, stream=stream, learn=1)
        for sub in range(5 * stream, 5 * stream + 5):
            to = Address(f"127.0.{sub >> 12}.1", 1024 + (sub & 4095))
            tell("sub_add", sub=sub, stream=stream, tracks=0xFFFF, layers=255 | 255 << 8, addr=to)
        if stream % 100 == 99:
            fwd.turn(now)
            fwd.events()
    joined, sent = rss_kib(), 0
    for second in range(SECONDS):
        for stream in range(STREAMS):
            now += SECOND // STREAMS
            head = bytes((0x80, 97)) + (second & 0xFFFF).to_bytes(2, "big") + bytes(4) + (stream + 1).to_bytes(4, "big")
            fwd.ingress_input(stream, head + PAYLOAD, publisher.pack(), now)
            if stream % 10 == 9:
                sent += len(fwd.turn(now))
    stats = fwd.stats()
    parts = _core.worker_parts(streams_max=STREAMS)
    beside = sum(parts[name] for name in BESIDE) >> 10
    print(json.dumps({
        "streams": STREAMS, "subscribers": stats["subs"], "packets": STREAMS * SECONDS, "sent": sent,
        "pool_in_use_max": fwd.pool_in_use(), "base_kib": base, "started_kib": started - base,
        "joined_kib": joined - base, "full_kib": rss_kib() - base, "beside_kib": beside,
        "resident_kib": rss_kib() + beside,
    }))  # fmt: skip
    return 0 if stats["streams"] == STREAMS else 1


if __name__ == "__main__":
    sys.exit(main())
