"""Run in a network namespace whose loopback is slow: what an egress socket with a tiny buffer does not take is kept.

Prints packets published and received in order, the worker's counters and its share of a core, as JSON.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import socket
import time

from test_udp_loopback import HOST, Rig, rtp, wait_until

PACKETS, BYTES = 60, 1000  # they take 250 ms: what waits for 400 is shed


def main() -> None:
    with contextlib.ExitStack() as stack:
        rig = Rig(stack)
        with socket.socket(fileno=os.dup(rig.egress_fd)) as egress:
            egress.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        rig.open_stream()
        packets = [rtp(seq, BYTES) for seq in range(PACKETS)]
        began, used = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF)
        for packet in packets:
            rig.publisher.sendto(packet, (HOST, rig.ingress))
        in_order = rig.received(PACKETS) == packets
        took, now = time.monotonic() - began, resource.getrusage(resource.RUSAGE_SELF)
        wait_until(rig.conserved)
        busy = (now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime) / took
        print(json.dumps({"in_order": in_order, "busy": busy, "stats": rig.page.stats(), "drops": rig.page.drops()}))


if __name__ == "__main__":
    main()
