"""Run in a network namespace of its own: a worker with one player behind a network card, and one that is not.

    publisher ── lo ──▶ worker ──┬── lo ──▶ near player
                                 └── card ═══ veth ═══ far player

`queue CODEC`: the card's queue holds two packets and gets 1.2 times what it sends on (d13). `flap`: it goes down for
400 ms (d16). Prints what came of it as JSON; `stall_s`: the longest time in which the publisher could not publish.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import socket
import subprocess
import sys
import threading
import time

from relay.bench.veth import THERE, veth
from relay.units import Address
from tests.py.test_udp_loopback import HOST, Rig, rtp, wait_until

BYTES = 1000
RATE_BPS = 8_000_000
EVERY_S = (BYTES + 54) * 8 / RATE_BPS / 1.2  # on the wire: RTP, UDP, IPv4 and Ethernet heads
SETTLE_S, MEASURE_S, WAIT_S = 0.5, 1.0, 3.0
DOWN_S, MEDIA_EVERY_S = 0.4, 0.002


def sh(line: str) -> None:
    subprocess.run(line.split(), check=True)


class Player(threading.Thread):
    """Takes what comes: when each number came."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(daemon=True)
        self.sock, self.came = sock, dict[int, float]()

    def run(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                data = self.sock.recv(2048)
                self.came.setdefault(int.from_bytes(data[2:4], "big"), time.monotonic())


class Bench:
    def __init__(self, stack: contextlib.ExitStack, codec: str = "opus") -> None:
        self.card = f"zrb{os.getpid()}a"
        far = stack.enter_context(veth())
        self.rig = rig = Rig(stack, gso=False, egress="0.0.0.0")
        rig.player.settimeout(None)
        sock = stack.enter_context(far.inside(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)))
        sock.bind((THERE, 0))
        rig.open_stream(codec)
        rig.post("sub_add", sub=1, stream=0, tracks=1, layers=0xFFFF, addr=Address(*sock.getsockname()))
        wait_until(lambda: rig.page.stats()["subs"] == 2)
        self.near, self.far, self.sent = Player(rig.player), Player(sock), list[float]()
        self.near.start()
        self.far.start()
        while not self.far.came:  # addresses are resolved
            self.publish(0.01, 0.01)

    def publish(self, seconds: float, every_s: float) -> None:
        at = time.monotonic()
        ends = at + seconds
        while at < ends:
            self.rig.publisher.sendto(rtp(len(self.sent), BYTES), (HOST, self.rig.ingress))
            self.sent.append(time.monotonic())
            at += every_s
            time.sleep(max(0.0, at - time.monotonic()))

    def told(self, first: int = 0) -> dict[str, object]:
        wait_until(self.rig.conserved)
        gap = max(later - at for at, later in itertools.pairwise(self.sent[first:]))
        return {"stats": self.rig.page.stats(), "drops": self.rig.page.drops(), "stall_s": gap}


def lost(player: Player, numbers: range) -> int:
    """How many of them it does not get, be they late: they may still lie in the worker."""
    ends = time.monotonic() + WAIT_S
    while time.monotonic() < ends and not all(number in player.came for number in numbers):
        time.sleep(0.01)
    return sum(number not in player.came for number in numbers)


def queue(bench: Bench) -> dict[str, object]:
    bench.rig.post("sub_drop", sub=0)  # it would be paced with the other: they share the socket
    wait_until(lambda: bench.rig.page.stats()["subs"] == 1)
    sh(f"tc qdisc add dev {bench.card} root tbf rate {RATE_BPS} burst 5000 limit 3000")
    bench.publish(SETTLE_S, EVERY_S)
    first = len(bench.sent)
    bench.publish(MEASURE_S, EVERY_S)
    numbers = range(first, len(bench.sent))
    return {"published": len(numbers), "lost": lost(bench.far, numbers), **bench.told(first)}


def flap(bench: Bench) -> dict[str, object]:
    media = threading.Thread(target=bench.publish, args=(DOWN_S + 1.0, MEDIA_EVERY_S))
    media.start()
    time.sleep(0.1)
    sh(f"ip link set {bench.card} down")
    time.sleep(DOWN_S)
    before = time.monotonic()
    sh(f"ip link set {bench.card} up")
    up = time.monotonic()
    media.join()
    after = min((at for at in list(bench.far.came.values()) if at > before), default=float("inf"))
    near_lost = lost(bench.near, range(len(bench.sent)))
    return {"resumed_s": after - up, "near_lost": near_lost, **bench.told()}


def main() -> None:
    with contextlib.ExitStack() as stack:
        print(json.dumps({"queue": queue, "flap": flap}[sys.argv[1]](Bench(stack, *sys.argv[2:]))))


if __name__ == "__main__":
    main()
