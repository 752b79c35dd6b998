"""The order of the tests: what takes longest begins first, so that two workers end together."""

from __future__ import annotations

from pathlib import Path

import pytest

TESTS = Path(__file__).parent
FIRST = ("vm", "lab")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The virtual machine, then the lab, then all the rest.

    The tests of the lab itself begin: they install everything again, which starts rounds that
    the other tests of the lab have to do without.
    """

    def place(item: pytest.Item) -> tuple[int, bool]:
        room = item.path.relative_to(TESTS).parts[0]
        rank = FIRST.index(room) if room in FIRST else len(FIRST)
        return rank, item.path.name != "test_lab.py"

    items.sort(key=place)
