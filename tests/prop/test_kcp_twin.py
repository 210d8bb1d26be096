"""Lock-step with two stock engines: the same calls, datagrams and clock to ours and to theirs.

Two pairs of twins talk over one link that loses, repeats and reorders. After every step both twins of a pair have put
out the same datagrams, byte for byte, and agree in every state word and return code. The link carries the (identical)
datagrams to both twins of the other pair. Hardening is off: it departs on purpose.

    siokcp 0.0.5   the conservative fast resend rule; stream mode through the wheel's own class
    kcp 0.1.6      the plain rule; message mode only, since nothing the wheel exports sets stream mode

Return codes, ours and theirs:

    send    ZR_OK          >= 0 (bytes taken, or 0)
            ZR_E_oversize  -2: more than 127 segments
            ZR_E_full      none: stock has no bound; also ZR_E_oversize for what a short queue could never take
    input   ZR_OK          0; or -1, shorter than a segment: nothing to apply is no error here
            ZR_E_oversize  -2: the payload passes the end
            ZR_E_malformed -3: no such command
            -              -1, another conversation: whoever owns the conversations has sorted that out before
    recv    ZR_E_again     -1 nothing there, -2 not yet complete
            ZR_E_oversize  -3: the buffer is too small
    check   zr_kcp_deadline: the same flush, but it does not ask to be called for a resend that the grid delays
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st

from tests.prop.kcp_end import End
from tests.prop.kcp_stock import WORDS, Class, Exported, Stock, stock_end
from tests.whitebox import lib

FULL = bool(os.environ.get("ZR_FULL"))
EXAMPLES, STEPS_MIN, STEPS_MAX = (2000 if FULL else 200), 100, 200
CONV, MASK, HEADER = 0x1122_3344, 0xFFFF_FFFF, 24
CODES = {0: lib.ZR_OK, -1: lib.ZR_OK, -2: lib.ZR_E_oversize, -3: lib.ZR_E_malformed}  # theirs -> ours


def without_leftovers(datagram: bytes) -> bytes:
    """WASK and WINS carry the ts and sn of the flush's last ACK, which mean nothing there: blanked."""
    plain, pos = bytearray(datagram), 0
    while pos < len(plain):
        if plain[pos + 4] in (83, 84):
            plain[pos + 8 : pos + 16] = bytes(8)
        pos += HEADER + int.from_bytes(plain[pos + 20 : pos + HEADER], "little")
    return bytes(plain)


def up_to_another_conversation(datagram: bytes) -> bytes:
    """What ours is ever given: segments of one conversation."""
    pos = 0
    while pos + HEADER <= len(datagram) and struct.unpack_from("<I", datagram, pos)[0] == CONV:
        pos += HEADER + int(struct.unpack_from("<I", datagram, pos + 20)[0])
    return datagram if pos + HEADER > len(datagram) else datagram[:pos]


class Pair:
    """One end of the conversation, twice."""

    def __init__(self, which: str, conf: dict[str, Any], now: int) -> None:
        self.conf = dict(conf, conv=CONV, fragments_max=127, profile=lib.ZR_KCP_COMPAT, harden=False)
        self.conf["conservative"] = which == "siokcp"
        self.batch = self.conf.pop("datagrams")
        self.ours = End(self.conf, now, datagrams=self.batch)
        self.sent: list[bytes] = []
        self.stock = stock_end(which, CONV, conf, self.sent)
        self.update(now)

    def send(self, data: bytes, now: int) -> None:
        if not data and not self.stock.empty_messages:
            return
        rc = self.ours.send(data, now)
        if rc == lib.ZR_E_oversize and -(-len(data) // (self.conf["mtu"] - HEADER)) > 127:
            assert self.conf["stream"] or self.stock.send(data) == -2
        elif rc not in (lib.ZR_E_full, lib.ZR_E_oversize):  # these two are checked in the C tests
            assert rc == lib.ZR_OK
            assert self.stock.send(data) >= 0
        self.agree(now)

    def input(self, data: bytes, now: int, rc: int = lib.ZR_OK, their_rc: int = 0) -> None:
        assert self.ours.input(data, now) == rc
        assert self.stock.input(data) == their_rc
        self.agree(now)

    def input_any(self, data: bytes, now: int) -> int:
        """Whatever it is; theirs says what is wrong with it."""
        their_rc = self.stock.input(data)
        assert self.ours.input_stock(data, now) == CODES[their_rc]
        self.agree(now)
        return their_rc

    def recv(self, now: int) -> bytes | None:
        got = self.ours.recv()
        assert got == self.stock.recv()
        self.agree(now)
        return got

    def recv_code(self, size: int, now: int) -> None:
        theirs = self.stock.recv_code(size)
        if theirs is not None:
            ours = {-1: lib.ZR_E_again, -2: lib.ZR_E_again, -3: lib.ZR_E_oversize}.get(theirs, theirs)
            assert self.ours.recv_code(size) == ours
            self.agree(now)

    def update(self, now: int) -> list[bytes]:
        self.ours.on_deadline(now)
        self.stock.update(now)
        return self.put_out(now)

    def flush(self, now: int) -> list[bytes]:
        self.ours.flush()
        self.stock.flush()
        return self.put_out(now)

    def put_out(self, now: int) -> list[bytes]:
        theirs = self.sent[:]
        self.sent.clear()
        ours = self.ours.output(now)
        if len(ours) < self.batch:
            assert ours == theirs
        else:  # a flush in pieces
            assert [without_leftovers(datagram) for datagram in ours] == [without_leftovers(d) for d in theirs]
        self.agree(now)
        return ours

    def agree(self, now: int) -> None:
        words, theirs = self.ours.words(), self.stock.words()
        assert {name: getattr(words, name) for name in WORDS} == {name: theirs[their] for name, their in WORDS.items()}
        assert self.ours.waiting() == self.stock.waitsnd()
        assert self.ours.check()
        if (deadline := self.ours.deadline()) is not None:
            ahead = (self.stock.check(now & MASK) - now) & MASK
            assert ahead <= max(deadline - now, 0)

    def wrapped(self) -> bool:
        return bool(self.ours.words().snd_nxt < self.conf["start_sn"])

    def close(self) -> None:
        assert self.ours.close() == 0
        self.stock.close()


class Talk:
    """Two pairs and the link between them; each method but the last two is a step."""

    def __init__(self, which: str, conf: dict[str, Any], now: int) -> None:
        conf = dict(conf)
        self.hostile, self.now = conf.pop("hostile"), now
        self.ends = [Pair(which, conf, now), Pair(which, conf, now)]
        self.link: list[list[bytes]] = [[], []]  # datagrams on their way to each end
        self.seed = 0

    def send(self, end: int, size: int, count: int) -> None:
        for _ in range(count):
            self.seed += 1
            self.ends[end].send(bytes((self.seed * 7 + i) & 0xFF for i in range(size)), self.now)

    def wait(self, by: int) -> None:
        self.now += by
        for end, pair in enumerate(self.ends):
            self.link[1 - end] += pair.update(self.now)

    def turn(self, by: int, percent_lost: int, read: int) -> None:
        """What makes a talk get on: time passes, most of what is on the link arrives, and somebody may read."""
        self.wait(by)
        for end in range(2):
            random, arriving = Random(self.now), self.link[end]
            self.link[end] = []
            for datagram in arriving:
                if random.randrange(100) >= percent_lost:
                    self.ends[end].input(datagram, self.now)
            self.recv(end, read)

    def deliver(self, end: int, count: int) -> None:
        for _ in range(min(count, len(self.link[end]))):
            self.ends[end].input(self.link[end].pop(0), self.now)

    def deliver_out_of_order(self, end: int, pick: int) -> None:
        if self.link[end]:
            self.ends[end].input(self.link[end].pop(pick % len(self.link[end])), self.now)

    def deliver_twice(self, end: int, pick: int) -> None:
        if self.link[end]:
            self.ends[end].input(self.link[end][pick % len(self.link[end])], self.now)

    def deliver_bad(self, end: int, how: int) -> None:
        """The first segment is wrong, so that the engines agree about what was applied before it: nothing."""
        good = self.link[end][0] if self.link[end] else struct.pack("<IBBHIIII", CONV, 84, 0, 1, 0, 0, 0, 0)
        if how < HEADER:
            self.ends[end].input(good[:how], self.now, lib.ZR_OK, -1)
        elif how < 2 * HEADER:
            wrong = good[:4] + bytes([how + 20]) + good[5:]  # no command of KCP's
            self.ends[end].input(wrong, self.now, lib.ZR_E_malformed, -3)
        else:
            wrong = good[:20] + struct.pack("<I", len(good) - HEADER + how) + good[HEADER:]
            self.ends[end].input(wrong, self.now, lib.ZR_E_oversize, -2)

    def deliver_mutated(self, end: int, seed: int) -> None:
        """Two datagrams of the link in one, and a byte of a header changed, mostly of the second or a later segment.

        Of an honest peer the command, window and length; else any that `forge` may choose, and so far.
        """
        random, link = Random(seed), self.link[end]
        data = bytearray(b"".join(random.choice(link) for _ in range(2)) if link else self.random_segment(random))
        heads, pos = [], 0
        while pos + HEADER <= len(data):
            heads.append(pos)
            pos += HEADER + int.from_bytes(data[pos + 20 : pos + HEADER], "little")
        at = random.choice([4, 4, 4, 6, 7, 20, 21, 22, 23, *([5, 8, 9, 10, *range(12, 20)] if self.hostile else [])])
        data[random.choice(heads[1:] or heads) + at] = random.choice(
            [0, 1, 81, 82, 83, 84, 85, 255, random.randrange(256)]
        )
        self.ends[end].input_any(up_to_another_conversation(bytes(data))[:1500], self.now)

    def deliver_random(self, end: int, seed: int) -> None:
        """Bytes of no meaning, but for the conversation; of a hostile peer's some are good enough to be applied."""
        random = Random(seed)
        data = self.random_segment(random) + random.randbytes(random.choice([0, 0, 5, 30, 300]))
        self.ends[end].input_any(up_to_another_conversation(data), self.now)

    def random_segment(self, random: Random) -> bytes:
        cmd = random.choice([random.randrange(256), random.randrange(81, 85)])
        wnd, sn, una = random.randrange(65536), random.randrange(2**32), random.randrange(2**32)
        ts = (self.now - random.randrange(2**24)) & MASK
        length = random.randrange(30) if self.hostile else random.randrange(2000, 2**32)
        return struct.pack("<IBBHIIII", CONV, cmd, random.randrange(256), wnd, ts, sn, una, length) + random.randbytes(
            20
        )

    def forge(self, end: int, cmd: int, wnd: int, sn: int, una: int, ago: int) -> None:
        """Of an honest peer only the window and times are doubtful; the others acknowledge what never arrived.

        `ago` is kept below 2^28 ms: an ACK gives a PUSH's time back, and stock counts in 32 bits that then overflow.
        At a distance of exactly 2^31 the engines may also differ about which time is the later one.
        """
        words = self.ends[end].ours.words()
        if not self.hostile:
            cmd, una = (84 if cmd == 81 else cmd), min(una, 0)
            sn = -1 - abs(sn)
        base = words.rcv_nxt if cmd == 81 else words.snd_una
        fields = ((base + sn) & MASK, (words.snd_una + una) & MASK)
        frg, payload = (abs(sn) % 3, b"forged") if cmd == 81 else (0, b"")
        head = struct.pack("<IBBHIIII", CONV, cmd, frg, wnd, (self.now - ago) & MASK, *fields, len(payload))
        self.ends[end].input(head + payload, self.now)

    def lose(self, end: int, pick: int, count: int) -> None:
        for _ in range(min(count, len(self.link[end]))):
            self.link[end].pop(pick % len(self.link[end]))

    def recv(self, end: int, most: int) -> None:
        for _ in range(most):
            if self.ends[end].recv(self.now) is None:
                break

    def recv_code(self, end: int, size: int) -> None:
        self.ends[end].recv_code(size, self.now)

    def flush(self, end: int) -> None:
        self.link[1 - end] += self.ends[end].flush(self.now)

    def wrapped(self) -> bool:
        return any(pair.wrapped() for pair in self.ends)

    def close(self) -> None:
        for pair in self.ends:
            pair.close()


Make = Callable[[Random], tuple[int, ...]]


def of_end(*ranges: tuple[int, int]) -> Make:
    """An end, and a number of each range."""
    return lambda r: (r.randrange(2), *(r.randint(*bounds) for bounds in ranges))


#: Step, weight, arguments.
STEPS: list[tuple[str, float, Make]] = [
    ("send", 8, of_end((1, 60), (1, 6))),
    ("send", 3, of_end((0, 3000), (1, 3))),
    ("send", 1, of_end((3000, 8000), (1, 2))),
    ("turn", 30, lambda r: (r.randint(5, 40), r.choice([0, 0, 10, 50]), r.choice([0, 10, 100]))),
    ("wait", 8, lambda r: (r.randint(0, 40),)),
    ("wait", 4, lambda r: (r.randint(0, 400),)),
    ("wait", 0.5, lambda r: (r.choice([1500, 7000, 9999, 10_000, 30_000]),)),
    ("wait", 0.3, lambda r: (r.choice([-9000, -10_001, -30_000]),)),  # a clock set back
    ("deliver", 12, of_end((1, 20))),
    ("deliver", 6, of_end((20, 200))),
    ("deliver_out_of_order", 6, of_end((0, 1000))),
    ("deliver_twice", 4, of_end((0, 1000))),
    ("deliver_bad", 2, of_end((0, 3 * HEADER))),
    ("deliver_mutated", 4, of_end((0, 2**32))),
    ("deliver_random", 2, of_end((0, 2**32))),
    ("lose", 4, of_end((0, 1000), (1, 4))),
    ("recv", 8, of_end((1, 40))),
    ("recv_code", 2, of_end((0, 1500))),
    ("flush", 3, of_end()),
    ("forge", 2, lambda r: (
        r.randrange(2), r.randint(81, 84), r.choice([0, 1, 8, 128, 65535]), r.randint(-5, 40), r.randint(-5, 5),
        r.choice([r.randint(-100, 3000), 2**27, -(2**27)]),
    )),
]  # fmt: skip


def script(random: Random) -> list[tuple[str, tuple[int, ...]]]:
    """At least STEPS_MIN steps, each script with a taste of its own: some lose much, some hardly ever read."""
    weights = [weight * random.choice([0.2, 1, 1, 3]) for _, weight, _ in STEPS]
    chosen = random.choices(STEPS, weights, k=random.randint(STEPS_MIN, STEPS_MAX))
    return [(name, make(random)) for name, _, make in chosen]


def confs(which: str) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {
            "mtu": st.sampled_from([50, 100, 576, 1400]),
            "snd_wnd": st.sampled_from([4, 32, 128, 1024]),
            "rcv_wnd": st.sampled_from([8, 32, 128]),
            # Three of four begin so that the first few segments, or the first messages, wrap.
            "start_sn": st.one_of(
                st.integers(2**32 - 4, 2**32 - 1),
                st.integers(2**32 - 10, 2**32 - 1),
                st.integers(2**32 - 30, 2**32 - 1),
                st.sampled_from([0, 5, 2**31 - 10]),
            ),
            "interval_ms": st.sampled_from([10, 20, 100]),
            "nodelay": st.integers(0, 2),
            "resend": st.sampled_from([0, 1, 2]),
            "nc": st.integers(0, 1),
            "stream": st.integers(0, 1) if which == "siokcp" else st.just(0),
            "datagrams": st.sampled_from([64, 2, 1]),  # that ours puts out at once: a flush cut short goes on
            "hostile": st.sampled_from([False, False, False, True]),
        }
    )


CLOCKS = st.sampled_from([0, 1000, 2**31 - 3000, 2**31 - 200, 2**32 - 3000, 2**32 - 200])
WHEELS = pytest.mark.parametrize("which", ["siokcp", "kcp"])


@WHEELS
@pytest.mark.timeout(1800 if FULL else 240)
def test_the_twins_agree_after_every_step_of_any_talk(which: str) -> None:
    ran: list[tuple[int, bool]] = []  # steps, and whether numbers wrapped

    # Hypothesis picks what shrinks well; the steps come from a generator, since lists of its own that are this long
    # turn out alike, and most of them idle.
    @settings(max_examples=EXAMPLES, deadline=None)
    @given(confs(which), CLOCKS, st.integers(0, 2**32))
    def talk(conf: dict[str, Any], now: int, seed: int) -> None:
        talk = Talk(which, conf, now)
        steps = script(Random(repr((conf, now, seed))))
        for number, (name, arguments) in enumerate(steps):
            note(f"{number}: {name}{arguments}")
            getattr(talk, name)(*arguments)
        ran.append((len(steps), talk.wrapped()))
        talk.close()

    talk()
    assert len(ran) >= EXAMPLES
    assert min(steps for steps, _ in ran) >= STEPS_MIN
    assert sum(wrapped for _, wrapped in ran) > EXAMPLES / 2


@WHEELS
@pytest.mark.parametrize("loss", [0.1, 0.6])
@pytest.mark.parametrize("nodelay", [0, 1, 2])
def test_the_twins_agree_over_a_long_bad_talk_with_shut_windows(which: str, loss: float, nodelay: int) -> None:
    """What random steps reach too rarely: many fast resends of one segment, back-off, several probes in a row."""
    random, now = Random(int(loss * 10) + nodelay), 2**32 - 20_000
    conf = {"mtu": 100, "snd_wnd": 32, "rcv_wnd": 16, "start_sn": 2**32 - 100, "interval_ms": 10, "nodelay": nodelay,
            "resend": 1, "nc": nodelay % 2, "stream": 0, "datagrams": 4}  # fmt: skip
    ends, link = [Pair(which, conf, now), Pair(which, conf, now)], [[], []]  # type: ignore[var-annotated]
    for turn in range(6000):
        now += 10
        stalled = turn % 3000 > 1500  # nobody reads for 15 s
        for number, end in enumerate(ends):
            # First the clock: stock measures by the time of its last update.
            lossy = loss if not stalled else 0
            arriving = [(now + 30, datagram) for datagram in end.update(now) if random.random() >= lossy]
            link[1 - number] += arriving
            if random.random() < 0.3:
                end.send(bytes(random.randrange(1, 200)), now)
            while link[number] and link[number][0][0] <= now:
                end.input(link[number].pop(0)[1], now)
            while not stalled and end.recv(now) is not None:
                pass
    for end in ends:
        end.close()


def test_the_words_read_from_memory_are_those_the_wheel_names() -> None:
    sent: list[bytes] = []
    conf = {"mtu": 576, "snd_wnd": 32, "rcv_wnd": 64, "start_sn": 2**32 - 3, "interval_ms": 20, "nodelay": 1,
            "resend": 2, "nc": 0, "stream": 0, "datagrams": 64}  # fmt: skip
    twins: list[Stock] = [Class(CONV, conf, sent), Exported("siokcp", CONV, conf, sent)]
    for twin in twins:
        for now in range(100, 3000, 10):
            twin.update(now)
            twin.send(bytes(now))
        twin.input(struct.pack("<IBBHIIII", CONV, 82, 0, 0, 2950, 2**32 - 3, 2**32 - 3, 0))
        twin.update(3000)
    named, read = (twin.words() for twin in twins)
    assert named == {name: read[name] for name in named}
    assert min(read[name] for name in ("snd_una", "snd_nxt", "rto", "srtt", "incr", "nsnd_que", "xmit", "probe_wait"))
