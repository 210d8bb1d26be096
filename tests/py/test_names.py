"""Which ids are taken."""

import pytest

from relay.errors import Problem
from relay.names import check_stream_id, is_name


@pytest.mark.parametrize("text", ["a", "room42/teacher", "~x._-", "a" * 128, "...", "a/..b"])
def test_a_name_is_taken(text):
    assert check_stream_id(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a" * 129,
        ".",
        "..",
        "a//b",
        "/a",
        "a/",
        "a/../b",
        "a/.",
        "a\0",
        "a\n",
        "<script>",
        "\u202eabc",
        "é",
        "a b",
        "a" * 2**20,
    ],
)
def test_what_could_mean_something_else_is_refused(text):
    assert not is_name(text)
    with pytest.raises(Problem) as refused:
        check_stream_id(text)
    assert (refused.value.status, refused.value.code) == (422, "id")
    assert len(str(refused.value)) < 200
