"""The middle relay of three starts anew on links without loss: what the origin's cache still holds is not missed.

Media comes on first arrival: what a parent replays before its child has the answer is not acknowledged and comes again,
while live packets overtake it. So numbers are compared in order of number: each once, none missing.
"""

from __future__ import annotations

import pytest

from tests.sim.world import AUDIO, MS, SECOND, VIDEO, LinkConf, Sink, World

STREAM = "cam/1"
VIDEO_COUNT, AUDIO_COUNT = 300, 150
OUTAGE_MAX = 600 * MS
VIDEO_SSRC, AUDIO_SSRC = 1000 + VIDEO.payload_type, 1000 + AUDIO.payload_type


def run_restart(seed: int, restart_at: int, key_every: int, *, ahead: bool) -> tuple[Sink, int]:
    """What the far subscriber got in the whole run, and the last video number it had before its outage.

    ``ahead``: the relay that starts anew has a viewer and is nearer to the origin, so that it has media again, in its
    cache, before the far relay asks. Else the far relay asks first and gets all by fan-out.
    """
    world = World(seed)
    near, far_off = LinkConf(delay_ns=(1 + seed % 12) * MS, jitter_ns=0), LinkConf(delay_ns=45 * MS, jitter_ns=0)
    world.chain(["a", "b", "c"], near, last=far_off if ahead else None, workers=1 + seed % 2)
    world.run(world.now + 500 * MS)
    world.publish("a", STREAM)
    far = world.subscribe("c", STREAM)
    while not world.relays["c"].control.subscribe_answer(STREAM, "one").confirmed:
        assert world.now < 20 * SECOND, "the way never stood"
        world.run(world.now + 20 * MS)
    worker, slot = world.ingress_of("a", STREAM)
    started = world.now
    for track, count, every, size in ((VIDEO, VIDEO_COUNT, 10 * MS, 1000), (AUDIO, AUDIO_COUNT, 20 * MS, 120)):
        for number in range(count):
            world.at(
                started + number * every,
                lambda track=track, number=number, size=size: world.rtp(
                    "a", worker, slot, track, number, size, key_every=key_every
                ),
            )

    def restart() -> None:
        world.boot("b")
        if ahead:
            world.subscribe("b", STREAM)

    world.at(started + restart_at, restart)
    world.run(started + restart_at + 50 * MS)  # what had left b is there
    last = max(far.numbers[VIDEO_SSRC])
    world.run(started + restart_at + OUTAGE_MAX)
    assert max(far.numbers[VIDEO_SSRC]) > last, "media does not flow again"
    world.run(started + VIDEO_COUNT * 10 * MS + SECOND)
    world.check()
    return far, last


@pytest.mark.parametrize("ahead", [True, False])
@pytest.mark.parametrize("seed", range(10))
def test_nothing_is_missing_after_a_restart_that_the_cache_of_the_origin_covers(seed: int, ahead: bool) -> None:
    only_the_first = 1000  # is a key frame
    far, _ = run_restart(seed, (700 + 53 * seed) * MS, only_the_first, ahead=ahead)
    assert sorted(far.numbers[VIDEO_SSRC]) == list(range(VIDEO_COUNT))
    assert sorted(far.numbers[AUDIO_SSRC]) == list(range(AUDIO_COUNT))


@pytest.mark.parametrize("seed", range(6))
def test_a_key_frame_in_the_outage_is_where_media_begins_again(seed: int) -> None:
    """The relay that started anew knows of no number before it: it joins at the latest key frame."""
    key = 100
    far, last = run_restart(seed, (900 + 11 * seed) * MS, key, ahead=False)
    assert last < key
    assert sorted(far.numbers[VIDEO_SSRC]) == [*range(last + 1), *range(key, VIDEO_COUNT)]
    assert len(set(far.numbers[AUDIO_SSRC])) == len(far.numbers[AUDIO_SSRC])
    assert set(range(key // 2, AUDIO_COUNT)) <= set(far.numbers[AUDIO_SSRC])
