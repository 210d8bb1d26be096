"""The slow ones last: one of them wants a calm machine, and by then the step beside this one has ended."""

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.get_closest_marker("slow") is not None)
