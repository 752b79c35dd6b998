"""What every unit test is held to."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.open_files import open_below


@pytest.fixture(autouse=True)
def nothing_of_it_stays_open(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What a test leaves to the garbage collector is closed in the midst of another one."""
    top = tmp_path_factory.getbasetemp()
    before = open_below(top)
    yield
    assert open_below(top) <= before, "close what is open, or whatever opened it"
