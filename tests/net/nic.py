"""Run in a network namespace of its own: a worker with one player behind a network card, and one that is not.

    publisher ── lo ──▶ worker ──┬── lo ──▶ near player
                                 └── card ═══ veth ═══ far player

`queue CODEC`: the card's queue holds two packets and gets 1.2 times what it sends on (d13). `flap`: it goes down for
400 ms (d16). `full [calm]`: a socket with little room and a card of 1 Mbit/s whose queue is deep, for audio and
twice as much video as fits (d12); calm: they take it all. Prints what came of it as JSON; `stall_s`: the longest time
in which the publisher could not publish.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import defaultdict

from relay.bench.veth import THERE, veth
from relay.units import Address
from tests.py.test_udp_loopback import HOST, Rig, rtp, wait_until

BYTES = 1000
RATE_BPS = 8_000_000
EVERY_S = (BYTES + 54) * 8 / RATE_BPS / 1.2  # on the wire: RTP, UDP, IPv4 and Ethernet heads
SETTLE_S, MEASURE_S, WAIT_S = 0.5, 1.0, 3.0
DOWN_S, MEDIA_EVERY_S = 0.4, 0.002
FULL_S, FULL_BPS, SNDBUF = 1.6, 1_000_000, 4096
AUDIO_EVERY_S, AUDIO_BYTES = 0.01, 160
FRAME_EVERY_S, FRAME_PACKETS, KEY_PACKETS, KEY_EVERY = 0.04, 10, 20, 25
AUDIO_SSRC, VIDEO_SSRC, H264 = 7, 8, 1


def sh(line: str) -> None:
    subprocess.run(line.split(), check=True)


class Player(threading.Thread):
    """Takes what comes: when each number came."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(daemon=True)
        self.sock, self.came = sock, dict[int, float]()
        self.tracks = defaultdict[int, set[int]](set)

    def run(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                data = self.sock.recv(2048)
                seq, _, ssrc = struct.unpack_from(">HII", data, 2)
                self.came.setdefault(seq, time.monotonic())
                self.tracks[ssrc].add(seq)


class Bench:
    def __init__(self, stack: contextlib.ExitStack, codec: str = "opus") -> None:
        self.card = f"zrb{os.getpid()}a"
        far = stack.enter_context(veth())
        self.rig = rig = Rig(stack, gso=False, egress="0.0.0.0")
        rig.player.settimeout(None)
        sock = stack.enter_context(far.inside(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)))
        sock.bind((THERE, 0))
        self.far_at = sock.getsockname()
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


def video(seq: int, frame: int, left: int) -> bytes:
    """A packet of a frame with `left` more behind it."""
    marker, nal = 0x80 * (left == 0), 0x65 if frame % KEY_EVERY == 0 else 0x41
    head = struct.pack(">BBHII", 0x80, 97 | marker, seq & 0xFFFF, frame * 3600, VIDEO_SSRC)
    return head + bytes((nal, 0x88)) + bytes(BYTES - len(head) - 2)


def publish_both(rig: Rig) -> tuple[int, int, float]:
    """Audio and video for FULL_S; how many packets of each, and the longest stall."""
    audio = seq = frame = 0
    began = before = time.monotonic()
    stall = 0.0
    while (now := time.monotonic()) < began + FULL_S:
        stall = max(stall, now - before)
        before = now
        if now >= began + audio * AUDIO_EVERY_S:
            rig.publisher.sendto(rtp(audio, AUDIO_BYTES - 12), (HOST, rig.ingress))
            audio += 1
        if now >= began + frame * FRAME_EVERY_S:
            for left in reversed(range(FRAME_PACKETS if frame % KEY_EVERY else KEY_PACKETS)):
                rig.publisher.sendto(video(seq, frame, left), (HOST, rig.ingress))
                seq += 1
            frame += 1
        time.sleep(0.001)
    return audio, seq, stall


def full(bench: Bench, calm: str = "") -> dict[str, object]:
    rig = bench.rig
    rig.post("sub_drop", sub=0)
    rig.post("stream_track", stream=0, track=1, format=1 | H264 << 8 | 97 << 16, clock_rate=90000)
    rig.post("sub_add", sub=2, stream=0, tracks=3, layers=0xFFFF, addr=Address(*bench.far_at))
    rig.post("sub_drop", sub=1)
    wait_until(lambda: rig.page.stats()["subs"] == 1)
    wait_until(rig.conserved)
    if not calm:
        with socket.socket(fileno=os.dup(rig.egress_fd)) as egress:
            egress.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SNDBUF)
        sh(f"tc qdisc add dev {bench.card} root tbf rate {FULL_BPS} burst 2000 limit 10000000")
    bench.far.tracks.clear()
    before, cpu = rig.page.stats(), cpu_ns(rig)
    audio, seq, stall = publish_both(rig)
    cpu = cpu_ns(rig) - cpu
    wait_until(lambda: rig.conserved() and rig.page.stats()["held_packets"] == rig.page.stats()["tx_waiting"] == 0)
    after = rig.page.stats()
    time.sleep(0.2)  # the card's own queue
    came = bench.far.tracks
    return {
        "audio": audio,
        "audio_came": len(came[AUDIO_SSRC]),
        "video": seq,
        "video_came": len(came[VIDEO_SSRC]),
        "cpu_share": cpu / 1e9 / FULL_S,
        "did": {name: after[name] - before[name] for name in after},
        "drops": rig.page.drops(),
        "stall_s": stall,
    }


def cpu_ns(rig: Rig) -> int:
    """Of the worker's thread."""
    return time.clock_gettime_ns(time.pthread_getcpuclockid(rig.thread.ident))


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
        what, *how = sys.argv[1:]
        if what == "full":
            print(json.dumps(full(Bench(stack), *how)))
        else:
            print(json.dumps({"queue": queue, "flap": flap}[what](Bench(stack, *how))))


if __name__ == "__main__":
    main()
