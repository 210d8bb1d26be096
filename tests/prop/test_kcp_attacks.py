"""What one datagram does to stock KCP, and does not do here: the eight attacks, against running transfers.

Nothing happens to the transfer, both ends; memory stays bounded. The number is the one in the table of threats.
"""

from __future__ import annotations

import pytest

from tests.prop.kcp_talk import DELAY, IN_TIME, WND, Talk, every_profile, mine, running
from tests.prop.kcp_wire import ACK, PUSH, WINS, Seg
from tests.whitebox import lib


@every_profile
def test_attack_1_una_far_above_frees_nothing(profile: str) -> None:
    talk = running(profile)
    for number in range(2):
        waiting, nxt = talk.ends[number].waiting(), mine(talk, number)[1]
        for above in (1, 1_000, 2**30):
            assert talk.refused(number, Seg(WINS, una=nxt + above, wnd=WND)) == "kcp_una"
        assert talk.ends[number].waiting() == waiting
    talk.run(200, every=5)
    talk.finish(slowest=IN_TIME)


@every_profile
@pytest.mark.parametrize("every", [1_000, 100], ids=["once", "ten a second"])
def test_attack_2_a_window_of_nothing_without_being_the_newest_stops_nothing(profile: str, every: int) -> None:
    talk = running(profile)
    for tick in range(300):
        if tick % every == 0:
            for number in range(2):
                una = mine(talk, number)[0]
                assert talk.refused(number, Seg(WINS, una=una - 1, wnd=0)) is None
        talk.run(1, every=5 if tick % 5 == 0 else None)
    talk.finish(slowest=IN_TIME)


@every_profile
def test_attack_2_a_window_of_nothing_with_the_newest_una_lasts_until_the_next_honest_word(profile: str) -> None:
    talk = running(profile)
    for number in range(2):
        una = mine(talk, number)[0]
        assert talk.refused(number, Seg(WINS, una=una, wnd=0)) is None
    talk.run(200, every=5)
    talk.finish(slowest=IN_TIME + 2 * DELAY + 20)


@every_profile
def test_attack_3_an_old_time_stamp_leaves_the_time_out_as_it_was(profile: str) -> None:
    talk = running(profile)
    for number in range(2):
        una, nxt, _ = mine(talk, number)
        before = lib.wb_kcp_timer_ms(talk.ends[number].raw)
        for ago in (2_000, 60_001, 2_000_000_000, 2**31 - 1):
            for sn in (una, nxt - 1, una - 1):
                assert talk.refused(number, Seg(ACK, sn=sn, una=una, ts=talk.now - ago, wnd=WND)) is None
        assert lib.wb_kcp_timer_ms(talk.ends[number].raw) == before
    talk.run(200, every=5)
    talk.finish(slowest=IN_TIME)


@every_profile
def test_attack_4_fragments_that_never_complete_block_nothing(profile: str) -> None:
    talk = running(profile)
    for number in range(2):
        una, _, rcv = mine(talk, number)
        for frg in (255, 128, 127):
            assert talk.refused(number, Seg(PUSH, frg=frg, sn=rcv, una=una, data=b"x")) == "kcp_frg"
    talk.run(200, every=5)
    talk.finish(slowest=IN_TIME)


@every_profile
def test_attack_5_a_flood_of_stale_segments_reflects_next_to_nothing(profile: str) -> None:
    talk = running(profile)
    end, una = talk.ends[0], mine(talk, 0)[0]
    flood = b"".join(Seg(PUSH, sn=2**32 - 1 - i, una=una, data=b"x").pack() for i in range(50))
    acks = end.counts().acks_sent
    for _ in range(1_000):  # between two outputs
        assert end.input(flood, talk.now) == lib.ZR_OK
    assert lib.wb_kcp_owed(end.raw) <= WND
    assert end.blocks() <= 8
    talk.turn()
    assert end.counts().acks_sent - acks <= WND
    talk.run(200, every=5)
    talk.finish(slowest=IN_TIME)


@every_profile
def test_attack_6_segments_without_bytes_pin_nothing(profile: str) -> None:
    talk = running(profile)
    packets, (una, _, rcv) = talk.ends[0].packets(), mine(talk, 0)
    for sn in range(rcv, rcv + WND):
        assert talk.refused(0, Seg(PUSH, sn=sn, una=una)) == "kcp_len"
    assert talk.ends[0].packets() == packets
    talk.run(200, every=5)
    talk.finish(slowest=IN_TIME)


@every_profile
def test_attack_7_a_silent_peer_makes_send_say_full(profile: str) -> None:
    talk = Talk(profile)
    end, taken = talk.ends[0], 0
    for _ in range(5_000):
        rc = end.send(bytes(1300), talk.now)
        assert rc in (lib.ZR_OK, lib.ZR_E_full)
        taken += rc == lib.ZR_OK
    assert taken == 2 * WND
    assert end.packets() == 2 * WND
    for each in talk.ends:
        each.close()


@pytest.mark.parametrize(("profile", "probes_max"), [("media", 21), ("control", 4)])
def test_attack_8_into_the_void_only_probes_are_sent_once_it_is_dark(profile: str, probes_max: int) -> None:
    """After a deadline, or a second, of silence. Media has then given everything up, but for the newest, its probe."""
    talk = running(profile)
    end = talk.ends[0]
    for _ in range(WND):
        assert end.send(bytes(1300), talk.now) == lib.ZR_OK
    waiting = end.waiting()
    sent = []
    for _ in range(25):
        before = end.counts().segs_sent
        for _ in range(1_000):
            if (at := end.deadline()) is not None and at <= talk.now:
                end.on_deadline(talk.now)
                end.output(talk.now)
            talk.now += 1
        sent.append(end.counts().segs_sent - before)
    assert sent[0] <= 1_000 / end.estimates().timer_ms * waiting
    assert max(sent[1:]) <= probes_max
    assert end.estimates().dark
    if profile == "media":
        assert (end.waiting(), end.packets()) == (1, 1)
    for each in talk.ends:
        each.close()
