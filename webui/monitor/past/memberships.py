"""Asks the directory from time to time which users are in which groups, in the background."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from threading import Event

from state.errors import LxcGpuError
from state.model.documents import User
from webui.background import every
from webui.clone.source import StateSource
from webui.monitor.past.history import History

LookUp = Callable[[Mapping[str, User]], Mapping[str, tuple[str, ...]]]


class Memberships:
    """Tells the history the groups of all users. If the directory fails, they stay as they were."""

    def __init__(self, source: StateSource, look_up: LookUp, history: History) -> None:
        self._source = source
        self._look_up = look_up
        self._history = history
        self._stop = Event()
        self.problem: LxcGpuError | None = None
        """Why the last refresh failed; None if it didn't."""

    def watch(self, seconds: float) -> None:
        """Refresh now and every `seconds`, in the background, until `stop`."""
        every(seconds, "groups", self.refresh, self._stop)

    def stop(self) -> None:
        """End `watch`."""
        self._stop.set()

    def refresh(self) -> None:
        """Ask for the groups of all users. LxcGpuError unless the answer is complete."""
        try:
            self._history.belong(self._look_up(self._source.newest().state.users))
        except LxcGpuError as error:
            self.problem = error
            raise
        self.problem = None
