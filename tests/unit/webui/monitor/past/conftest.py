"""Histories in a folder of their own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.unit.webui.monitor.past.histories import MONDAY, Clock, Opened
from webui.monitor.past.history import History


@pytest.fixture
def clock() -> Clock:
    return Clock(MONDAY)


@pytest.fixture
def opened(tmp_path: Path, clock: Clock) -> Iterator[Opened]:
    """Begins a history; each is closed when the test ends."""
    with ExitStack() as closed:

        def opened(path: str = "history.db", **settings: Any) -> History:
            history = History(tmp_path / path, **{"clock": clock, **settings})
            closed.callback(history.stop)
            return history

        yield opened


@pytest.fixture
def history(opened: Opened) -> History:
    return opened()
