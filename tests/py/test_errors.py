"""Core errors come from the core's list; problems are RFC 9457."""

import pytest

from relay import errors

TABLE = [("testfull", -1002, "no room"), ("testagain", -1003, "nothing there")]


def test_each_row_is_a_class_of_its_own_and_stays_it():
    made = errors.bind(TABLE)
    assert errors.bind(TABLE) == made
    with pytest.raises(made["testfull"], match=r"posting: testfull \(-1002\): no room") as raised:
        raise errors.error_for(-1002, "posting")
    assert raised.value.code == -1002
    assert not isinstance(errors.error_for(-1003), made["testfull"])


def test_a_code_outside_the_list_is_a_plain_core_error():
    error = errors.error_for(-4242)
    assert type(error) is errors.CoreError
    assert error.rc == -4242


def test_a_problem_has_the_members_of_rfc_9457_and_cannot_be_forged_by_extras():
    problem = errors.Problem(409, "stale-epoch", "Newer", "6 < 7", extra={"current_epoch": 7, "status": 200})
    assert problem.to_dict("r1") == {
        "type": "https://zrelay.dev/problems/stale-epoch", "code": "stale-epoch", "title": "Newer", "status": 409,
        "detail": "6 < 7", "current_epoch": 7, "request_id": "r1",
    }  # fmt: skip
