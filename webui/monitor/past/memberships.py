"""Who is in which groups is asked of the directory from time to time, in the background."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from threading import Event

from state.errors import LxcGpuError
from state.model.documents import User
from webui.background import every
from webui.clone.source import Source
from webui.monitor.past.history import History

LookUp = Callable[[Mapping[str, User]], Mapping[str, tuple[str, ...]]]


class Memberships:
    """Tells the history who is in which groups. What can't be asked stays as it was."""

    def __init__(self, source: Source, look_up: LookUp, history: History) -> None:
        self._source = source
        self._look_up = look_up
        self._history = history
        self._stop = Event()
        self.problem: LxcGpuError | None = None
        """Why the last look came to nothing."""

    def watch(self, seconds: float) -> None:
        """Ask now and every so many seconds, until `stop`."""
        every(seconds, "groups", self.refresh, self._stop)

    def stop(self) -> None:
        """Ask no more."""
        self._stop.set()

    def refresh(self) -> None:
        """Ask once, of everybody. LxcGpuError if there is no whole answer."""
        try:
            self._history.belong(self._look_up(self._source.newest().state.users))
        except LxcGpuError as error:
            self.problem = error
            raise
        self.problem = None
