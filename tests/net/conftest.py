"""Last what wants a calm machine, or takes a core of it: by then the step beside this one has ended."""

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: "flood" in item.nodeid or item.get_closest_marker("slow") is not None)
