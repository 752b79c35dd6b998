"""Which tests run, where and when: the longest begin, so that two workers end together."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

TESTS = Path(__file__).parent
FIRST = ("vm", "lab")
"""Rooms whose tests begin; they make machines, which only root can."""


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
    for item in items:
        if os.geteuid() != 0 and place(item)[0] < len(FIRST):
            item.add_marker(pytest.mark.skip(reason="machines need root: sudo setup/test"))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """A file is one worker's; all of tests/vm, too: there is one virtual machine for them."""
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return "tests/vm" if nodeid.startswith("tests/vm/") else super()._split_scope(nodeid)

    return Scheduling(config, log)
