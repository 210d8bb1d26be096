"""Stamps only grow: through restarts, clocks that go back, lost files and full disks."""

import os
import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.stamp import AHEAD_NS, Stamps, load_bound, open_stamps, pack_stamp, save_bound, unpack_stamp

SECOND = 1_000_000_000
WALL = 1_800_000_000 * SECOND
DAY = 86400 * SECOND


@given(st.lists(st.tuples(st.integers(-DAY, DAY), st.lists(st.integers(0, DAY), max_size=5)), max_size=8))
def test_whatever_the_clock_says_at_each_start_every_stamp_is_larger(lives):
    saved, last = [0], 0
    for wall, times in lives:
        stamps = Stamps(WALL + wall, 0, saved[-1], saved.append)
        for now in sorted(times):
            stamp = stamps.next(now)
            assert last < stamp <= saved[-1]
            last = stamp


@given(st.integers(0, 1 << 62), st.integers(0, 1 << 62))
def test_packed_stamps_compare_as_stamps_do(a, b):
    assert (pack_stamp(a) < pack_stamp(b)) == (a < b)
    assert unpack_stamp(pack_stamp(a)) == a


@pytest.mark.parametrize("data", [bytes(12), b"\xff" * 12, pack_stamp(WALL)[:8] + b"\xff" * 4, b"\x50" + bytes(11)])
def test_bytes_that_are_no_time_of_ours_are_no_stamp(data):
    assert unpack_stamp(data) is None


def test_stamps_follow_the_clock_and_are_saved_an_hour_ahead(tmp_path):
    path = str(tmp_path / "stamp")
    stamps = open_stamps(path, WALL, 0)
    assert stamps.next(5) == WALL + 5
    assert stamps.next(5) == WALL + 6
    assert load_bound(path) == WALL + 5 + AHEAD_NS
    written = os.stat(path)
    stamps.next(3599 * SECOND)
    assert os.stat(path).st_ino == written.st_ino
    stamps.next(3601 * SECOND)
    assert load_bound(path) == WALL + 7201 * SECOND
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert os.listdir(tmp_path) == ["stamp"]
    assert open_stamps(path, WALL - DAY, 0).next(0) == WALL + 7201 * SECOND + 1


def test_what_one_responder_says_moves_its_own_stamps_alone():
    saved = []
    stamps = Stamps(WALL, 0, 0, saved.append)
    assert stamps.next(0, floor=WALL + DAY) == WALL + DAY + 1
    assert stamps.next(0) == WALL + 1
    assert saved == [WALL + AHEAD_NS]


def test_a_disk_that_takes_nothing_costs_the_file_not_the_stamps():
    def full(bound):
        raise OSError(28, "no space")

    stamps = Stamps(WALL, 0, 0, full)
    assert [stamps.next(0), stamps.next(0)] == [WALL, WALL + 1]
    assert stamps.failures == 2


@pytest.mark.parametrize("content", [b"", b"x", b"-5", b"9" * 30, b"\xff\xfe", b"1.5"])
def test_a_file_that_says_nothing_sensible_is_no_file(tmp_path, content):
    path = tmp_path / "stamp"
    path.write_bytes(content)
    assert load_bound(str(path)) == 0


def test_a_link_in_the_place_of_the_temporary_file_is_not_followed(tmp_path):
    target = tmp_path / "target"
    target.write_text("mine")
    (tmp_path / "stamp.new").symlink_to(target)
    with pytest.raises(OSError):
        save_bound(str(tmp_path / "stamp"), WALL)
    assert target.read_text() == "mine"
