"""A link without dice against a sorted list; with dice, its conservation."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.whitebox import ffi, lib, memory

_steps = st.lists(st.tuples(st.booleans(), st.integers(0, 3_000_000)), max_size=60)


def _link(**conf: float) -> tuple[object, object]:
    made = ffi.new("zr_simlink_conf *", {"packets_max": 8, **conf})
    room = memory(lib.zr_simlink_bytes(made))
    link = ffi.cast("zr_simlink *", room)
    assert lib.zr_simlink_init(link, made) == 0
    return link, room


def _get(link: object, now: int) -> int | None:
    data, tag = ffi.new("const uint8_t **"), ffi.new("uint64_t *")
    return int(tag[0]) if lib.zr_simlink_get(link, data, tag, now) >= 0 else None


@given(_steps, st.integers(0, 5_000_000))
def test_without_dice_packets_leave_in_order_after_the_delay(steps: list[tuple[bool, int]], delay: int) -> None:
    link, _room = _link(delay=delay)
    waiting: list[tuple[int, int]] = []
    now = 0
    for tag, (is_put, gap) in enumerate(steps):
        now += gap
        if is_put:
            assert lib.zr_simlink_put(link, b"x", 1, tag, now) == 0
            if len(waiting) < 8:
                waiting.append((now + delay, tag))
        else:
            due = waiting.pop(0)[1] if waiting and waiting[0][0] <= now else None
            assert _get(link, now) == due
        assert lib.zr_simlink_deadline(link) == (waiting[0][0] if waiting else (1 << 63) - 1)
        assert lib.zr_simlink_check(link)


@given(_steps, st.floats(0, 1), st.floats(0, 20), st.floats(0, 1), st.floats(0, 1), st.integers(0, 1 << 30))
def test_with_any_dice_nothing_is_lost_uncounted(
    steps: list[tuple[bool, int]], loss: float, burst: float, dup: float, reorder: float, rate: int
) -> None:
    dice = {"loss": loss, "burst": burst, "dup": dup, "reorder": reorder}
    link, _room = _link(delay=1_000_000, jitter=500_000, rate_bps=rate, **dice)
    now = 0
    for is_put, gap in steps:
        now += gap
        if is_put:
            lib.zr_simlink_put(link, bytes(100), 100, 0, now)
        else:
            _get(link, now)
        assert lib.zr_simlink_check(link)
    while _get(link, (1 << 63) - 2) is not None:
        pass
    counts = lib.zr_simlink_counted(link)
    came = getattr(counts, "in") + counts.duplicated
    assert came == counts.lost + counts.queue_dropped + counts.overflow + counts.out
