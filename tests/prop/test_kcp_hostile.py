"""Bad input K01 to K28, hardened, against running transfers of every profile; the row is in the test's id.

An authenticated peer may send what it likes: its lies change nothing that an honest datagram would not, memory stays
bounded, and what both ends have sent is delivered in time, once and in one piece. What a violation costs the link comes
with sealed links; here it is refused and named.
"""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.prop.kcp_talk import IN_TIME, MSS, START, WND, Talk, every_profile, mine, running
from tests.prop.kcp_wire import ACK, PUSH, WASK, WINS, Counted, Seg, conf_of, segments
from tests.whitebox import lib

LANE_TESTS = Path(__file__).resolve().parents[1] / "c" / "lane_input_test.c"
VIOLATIONS: list[tuple[str, str, Callable[[int, int, int], Seg]]] = [
    *((f"K03 cmd {cmd}", "kcp_cmd", lambda una, nxt, rcv, cmd=cmd: Seg(cmd, una=una)) for cmd in (0, 80, 85, 255)),
    ("K08", "kcp_len", lambda una, nxt, rcv: Seg(PUSH, sn=rcv, una=una)),
    ("K09", "kcp_len", lambda una, nxt, rcv: Seg(PUSH, sn=rcv, una=una, data=bytes(MSS + 1))),
    ("K10 ACK", "kcp_len", lambda una, nxt, rcv: Seg(ACK, sn=una, una=una, data=b"x")),
    ("K10 WASK", "kcp_len", lambda una, nxt, rcv: Seg(WASK, una=una, data=b"x")),
    ("K10 WINS", "kcp_len", lambda una, nxt, rcv: Seg(WINS, una=una, data=b"x")),
    ("K11 snd_nxt + 1", "kcp_una", lambda una, nxt, rcv: Seg(WINS, una=nxt + 1)),
    ("K11 + 2^31 - 1", "kcp_una", lambda una, nxt, rcv: Seg(WINS, una=nxt + 2**31 - 1)),
    ("K13 snd_nxt", "kcp_ack", lambda una, nxt, rcv: Seg(ACK, sn=nxt, una=una)),
    ("K13 far", "kcp_ack", lambda una, nxt, rcv: Seg(ACK, sn=nxt + 1000, una=una)),
    ("K20 frg 128", "kcp_frg", lambda una, nxt, rcv: Seg(PUSH, frg=128, sn=rcv, una=una, data=b"x")),
    ("K20 frg 255", "kcp_frg", lambda una, nxt, rcv: Seg(PUSH, frg=255, sn=rcv, una=una, data=b"x")),
]


@every_profile
@pytest.mark.parametrize(("row", "word", "make"), VIOLATIONS, ids=[row for row, _, _ in VIOLATIONS])
@pytest.mark.parametrize("start_sn", [0, 2**32 - 10], ids=["from 0", "near the wrap"])
def test_a_violation_is_refused_by_name_and_changes_nothing(
    profile: str, row: str, word: str, make: Callable[[int, int, int], Seg], start_sn: int
) -> None:
    talk = running(profile, start_sn=start_sn)
    bad = make(*mine(talk, 0))
    before = talk.snapshot(0)
    assert talk.refused(0, bad) == word
    # K06: in one datagram with a good one, before or behind it, neither is applied.
    una, _, rcv = mine(talk, 0)
    good = Seg(PUSH, sn=rcv + 5, una=una, data=b"never sent")
    assert talk.refused(0, good, bad) == word
    assert talk.refused(0, bad, good) == word
    assert talk.snapshot(0) == before, row
    talk.run(50, every=5)
    talk.finish(slowest=IN_TIME)


def test_k20_two_segments_are_the_most_of_a_media_message() -> None:
    talk = running("media")
    una, _, rcv = mine(talk, 0)
    assert talk.refused(0, Seg(PUSH, frg=2, sn=rcv, una=una, data=b"x")) == "kcp_frg"
    talk.finish(slowest=IN_TIME)


@pytest.mark.parametrize("row", ["K01", "K02", "K04", "K05 2^31", "K05 2^32-1", "K07 1 byte", "K07 23 bytes"])
def test_rows_of_the_datagram_as_a_whole_are_the_lanes(row: str) -> None:
    """Where segments end and whose they are is decided before any conversation sees them: lane_input_test.c."""
    assert re.search(rf'"{re.escape(row)}"', LANE_TESTS.read_text())


@every_profile
def test_k12_an_old_una_is_ignored(profile: str) -> None:
    talk = running(profile)
    una = mine(talk, 0)[0]
    for by in (1, una, 2**30):
        assert talk.refused(0, Seg(WINS, una=una - by, wnd=WND)) is None
    assert mine(talk, 0)[0] == una
    talk.finish(slowest=IN_TIME)


@every_profile
def test_k14_an_ack_repeated_ten_thousand_times_resends_nothing_and_costs_little(profile: str) -> None:
    talk = running(profile)
    una, nxt, _ = mine(talk, 0)
    sent, began = talk.ends[0].counts().segs_sent, time.process_time()
    newest = Seg(ACK, sn=nxt - 1, una=una, ts=talk.now - 1, wnd=WND).pack()
    for _ in range(10_000):
        assert talk.ends[0].input(newest, talk.now) == lib.ZR_OK
    assert time.process_time() - began < 2
    talk.turn()
    assert talk.ends[0].counts().segs_sent <= sent + (nxt - una)
    assert talk.ends[0].blocks() <= 4
    # The lie acknowledged one segment; the peer has it all the same. Everything else is delivered.
    talk.run(50, every=5)
    talk.finish(slowest=IN_TIME)


@every_profile
@pytest.mark.parametrize(
    ("row", "ago"), [("K15", 7), ("K15 future", -5), ("K16", 2_000_000_000)], ids=lambda value: str(value)
)
def test_an_ack_with_a_time_at_which_nothing_was_sent_is_no_sample(profile: str, row: str, ago: int) -> None:
    talk = Talk(profile)
    talk.send(0)
    talk.run(12)
    before = talk.ends[0].estimates().srtt_ms, lib.wb_kcp_timer_ms(talk.ends[0].raw)
    sent_ms = next(seg.ts for _, _, to, data in talk.link if to == 1 for seg in segments(data))
    ts = talk.now - ago if row != "K15" else sent_ms + ago - 5  # between the only sending and now
    assert talk.refused(0, Seg(ACK, sn=0, una=0, ts=ts, wnd=WND)) is None
    assert talk.ends[0].counts().ack_ts == 1
    assert (talk.ends[0].estimates().srtt_ms, lib.wb_kcp_timer_ms(talk.ends[0].raw)) == before
    talk.finish(slowest=IN_TIME)


@pytest.mark.parametrize("profile", ["control", "media"])
def test_k17_a_shut_window_is_asked_for_from_50_ms_on_and_opens_within_a_round_trip(profile: str) -> None:
    talk = Talk(profile, deadline_ms=0)
    talk.run(100, every=5)
    assert talk.refused(0, Seg(WINS, una=mine(talk, 0)[1], wnd=0)) is None
    talk.link.clear()
    talk.send(0)
    asked = []
    for _ in range(4_000):
        end = talk.ends[0]
        if (at := end.deadline()) is not None and at <= talk.now:
            end.on_deadline(talk.now)
        asked += [talk.now for data in end.output(talk.now) for seg in segments(data) if seg.cmd == WASK]
        talk.now += 1
    gaps = [later - earlier for earlier, later in itertools.pairwise(asked)]
    assert gaps[0] <= 101
    assert max(gaps) <= 1_001
    assert len(gaps) >= 4
    una = mine(talk, 0)[0]
    assert talk.refused(0, Seg(WINS, una=una, wnd=WND)) is None
    assert PUSH in [seg.cmd for data in talk.ends[0].output(talk.now) for seg in segments(data)]
    for end in talk.ends:
        end.close()


@every_profile
def test_k17_whose_window_is_shut_is_heard_and_acknowledged_as_ever(profile: str) -> None:
    talk = Talk(profile, rcv_wnd=16, deadline_ms=0)
    talk.deaf = {1}
    for count in (16, 24):  # what the window takes, and what waits for it
        for _ in range(count):
            talk.send(0)
        talk.run(100)
    end, peer = talk.ends
    assert end.words().rmt_wnd == 0
    unsent, acks = end.waiting(), end.counts().acks_sent
    assert unsent == 24
    for _ in range(300):
        talk.send(1)
        talk.run(10)
    talk.run(3 * IN_TIME)
    assert talk.got[0] == talk.sent[1]
    assert talk.slowest <= IN_TIME
    assert peer.waiting() == 0, "acknowledged"
    assert end.counts().acks_sent - acks >= 100
    assert (end.words().rmt_wnd, end.waiting()) == (0, unsent)
    assert peer.counts().retrans_timeout == peer.counts().retrans_fast == 0
    talk.sent_at.clear()  # those that wait have taken as long as nobody read
    talk.deaf.clear()
    talk.turn()  # the peer reads, and says so
    opened = talk.now
    while not talk.got[1][16:]:
        talk.turn()
        talk.now += 1
    assert talk.now - opened <= 2 * IN_TIME, "a round trip after the window opened"
    talk.finish(slowest=IN_TIME)


@every_profile
def test_k18_an_overtaken_window_of_nothing_is_ignored(profile: str) -> None:
    talk = running(profile)
    una = mine(talk, 0)[0]
    assert talk.refused(0, Seg(WINS, una=una - 1, wnd=0)) is None
    assert talk.ends[0].words().rmt_wnd > 0
    talk.run(50, every=5)
    talk.finish(slowest=IN_TIME)


@every_profile
def test_k19_a_window_of_65535_is_bounded_by_our_own(profile: str) -> None:
    talk = Talk(profile, snd_wnd=32)
    assert talk.refused(0, Seg(WINS, una=0, wnd=65_535)) is None
    for _ in range(60):
        talk.send(0)
    talk.ends[0].flush()
    pushes = [seg for data in talk.ends[0].output(talk.now) for seg in segments(data) if seg.cmd == PUSH]
    assert len(pushes) <= 32
    for end in talk.ends:
        end.close()


@every_profile
def test_k21_behind_the_window_nothing_is_kept_or_acknowledged(profile: str) -> None:
    talk = running(profile)
    una, _, rcv = mine(talk, 0)
    packets = talk.ends[0].packets()
    for sn in (rcv + WND, rcv + WND + 1, rcv + 2**31 - 1):
        assert talk.refused(0, Seg(PUSH, sn=sn, una=una, data=b"far")) is None
    assert talk.ends[0].counts().window_drops == 3
    assert talk.ends[0].packets() == packets
    talk.run(50, every=5)
    talk.finish(slowest=IN_TIME)


@every_profile
def test_k22_a_flood_of_old_segments_grows_nothing_and_is_answered_once_in_ten_ms(profile: str) -> None:
    talk = Talk(profile)
    talk.run(300, every=5)
    talk.run(600)
    end, una, rcv = talk.ends[0], mine(talk, 0)[0], mine(talk, 0)[2]
    acks, began = end.counts().acks_sent, time.process_time()
    for n in range(20_000):
        data = Seg(PUSH, sn=rcv - 1 - n % 50, una=una, ts=talk.now, data=b"x").pack()
        assert end.input(data, talk.now) == lib.ZR_OK
        assert lib.wb_kcp_owed(end.raw) <= 1
        if n % 20 == 19:  # 20 000 in a second
            talk.turn()
            talk.link.clear()
            talk.now += 1
    assert time.process_time() - began < 10
    assert end.counts().acks_sent - acks <= 3 * 1000 // 10
    assert (end.packets(), end.blocks()) == (0, 0)
    talk.finish(slowest=IN_TIME)


@every_profile
def test_k23_a_window_of_4096_in_descending_order_is_no_square(profile: str) -> None:
    def cost(count: int) -> float:
        conf = conf_of(profile, snd_wnd=4096, rcv_wnd=4096)
        end = Counted(conf, START, packets=8192, blocks=200)
        datagrams = [Seg(PUSH, sn=sn, ts=START, data=sn.to_bytes(4, "little")).pack() for sn in range(count)]
        began = time.process_time()
        for data in reversed(datagrams):
            assert lib.wb_kcp_input(end.raw, data, len(data), START * 1_000_000, end.drop) == lib.ZR_OK
        spent = time.process_time() - began
        got = [end.recv() for _ in range(count)]
        order = range(count) if profile != "media" else reversed(range(count))
        assert got == [sn.to_bytes(4, "little") for sn in order]
        assert end.blocks() <= 4096 // 64 + 16
        assert end.close() == 0
        return spent

    cost(512)
    assert min(cost(4096) for _ in range(3)) < 0.25, "a square of 4 096 would be seconds"


@every_profile
def test_k24_of_two_contents_of_one_number_the_first_stands(profile: str) -> None:
    talk = Talk(profile)
    una, _, rcv = mine(talk, 0)
    for data in (b"first", b"other"):  # behind a gap, so that it is still remembered
        assert talk.refused(0, Seg(PUSH, sn=rcv + 1, una=una, ts=talk.now, data=data)) is None
    assert talk.ends[0].counts().conflict == 1
    assert talk.refused(0, Seg(PUSH, sn=rcv, una=una, ts=talk.now, data=b"gap")) is None
    got = [talk.ends[0].recv(), talk.ends[0].recv()]
    assert sorted(message or b"" for message in got) == [b"first", b"gap"]
    assert talk.ends[0].recv() is None
    for end in talk.ends:
        end.close()


@every_profile
@pytest.mark.parametrize("start_sn", [2**32 - 1000, 2**32 - 100, 2**31 - 100])
def test_k25_the_wrap_of_the_numbers_under_load_is_seamless(profile: str, start_sn: int) -> None:
    talk = Talk(profile, start_sn=start_sn)
    talk.run(1_500, every=1)
    assert len(talk.sent[0]) == 1_500
    talk.finish(slowest=IN_TIME)


@every_profile
def test_k26_a_datagram_of_58_segments_is_taken_and_answered_in_bounds(profile: str) -> None:
    talk = running(profile)
    una = mine(talk, 0)[0]
    acks = talk.ends[0].counts().acks_sent
    for cmd in (WASK, WINS, ACK):
        many = [Seg(cmd, sn=una - 1, una=una, wnd=WND, ts=talk.now)] * 58
        assert talk.refused(0, *many) is None
    talk.turn()
    assert talk.ends[0].counts().acks_sent - acks <= 8
    talk.run(50, every=5)
    talk.finish(slowest=IN_TIME)


@every_profile
def test_k27_a_flood_of_window_questions_gets_one_answer_in_ten_ms(profile: str) -> None:
    talk = Talk(profile)
    answers = 0
    for _ in range(1_000):
        for _ in range(10):
            assert talk.refused(0, Seg(WASK, wnd=WND)) is None
        if (at := talk.ends[0].deadline()) is not None and at <= talk.now:
            talk.ends[0].on_deadline(talk.now)
        answers += sum(seg.cmd == WINS for data in talk.ends[0].output(talk.now) for seg in segments(data))
        talk.now += 1
    assert 90 <= answers <= 100
    talk.finish(slowest=IN_TIME)


def test_k28_what_comes_for_a_hole_already_given_up_is_acknowledged_dropped_and_counted() -> None:
    talk = Talk("media")
    end = talk.ends[0]
    assert talk.refused(0, Seg(PUSH, sn=1, ts=talk.now, data=b"behind")) is None
    for _ in range(600):  # nobody has sent these: what it answers goes nowhere
        talk.turn()
        talk.link.clear()
        talk.now += 1
    assert end.words().rcv_nxt == 2
    acks = end.counts().acks_sent
    assert talk.refused(0, Seg(PUSH, sn=0, ts=talk.now, data=b"late")) is None
    talk.turn()
    assert end.counts().acks_sent == acks + 1
    assert (end.counts().late, end.counts().holes) == (1, 1)
    assert talk.got[0] == [b"behind"]
    assert (end.packets(), end.held()) == (0, 0)
    for each in talk.ends:
        each.close()


def test_every_row_is_here() -> None:
    rows = set(re.findall(r"[kK](\d\d)", Path(__file__).read_text()))
    assert {f"{n:02}" for n in range(1, 29)} - {"06"} <= rows
