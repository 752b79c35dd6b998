"""A history that hears loads by a clock of the test's, and what it says."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.unit.webui.monitor.small_loads import load
from webui.monitor.past.history import History
from webui.monitor.past.records import Used

MONDAY = 1_795_392_000.0  # 2026-11-23, midnight UTC: the week 2026-W48 begins


class Clock:
    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


Opened = Callable[..., History]
"""Begins a history: its path, and its settings."""


def asked(path: Path, words: str) -> list[Any]:
    """What another program reads; `with` alone doesn't close a connection."""
    with closing(sqlite3.connect(path)) as database:
        return database.execute(words).fetchall()


def hear(
    history: History, clock: Clock, seconds: float, *gpus: Any, server: str = "gpu17", **more: Any
) -> None:
    """A load each five seconds."""
    end = clock.now + seconds
    while clock.now < end:
        clock.now += 5
        history.note(server, load(server, *gpus, **more), clock.now)


def ann(history: History, week: str) -> Used:
    (found,) = [used for used in history.used(week) if used.user == "ann"]
    return found
