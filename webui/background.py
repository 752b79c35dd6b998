"""Work in the background: in a thread of its own, once or every so many seconds.

A loop that ended with the first mistake in it would leave a page that looks well and does half of
its work. So nothing ends one but `stop`, and the journal says what went wrong.
"""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Callable
from threading import Event, Thread

from state.errors import LxcGpuError, Remedy
from webui import events
from webui.events import Code

log = logging.getLogger(__name__)

SAY_AGAIN = 3600.0
"""Seconds after which the journal hears again of a failure that lasts."""

Work = Callable[[], object]


def every(
    seconds: float, name: str, work: Work, stop: Event, at_end: Work = lambda: None
) -> Thread:
    """Do `work` now, and again `seconds` after each time, in a thread `name` until `stop` is set.

    `at_end` is done once after that. LxcGpuError if the thread can't be started. Whatever `work`
    raises later goes to the journal and ends nothing, but for what isn't an Exception: SystemExit
    ends this thread as it ends any.
    """
    attempts = Attempts(name)

    def loop() -> None:
        while not stop.is_set():
            attempts.make(work)
            stop.wait(seconds)
        attempts.make(at_end)

    return start(name, loop)


def start(name: str, work: Work) -> Thread:
    """Do `work` once, in a thread `name` that doesn't keep the program from ending.

    LxcGpuError if it can't be started: then nothing of `work` was done, nor will be.
    """
    thread = Thread(target=work, name=name, daemon=True)
    try:
        thread.start()
    except RuntimeError as error:
        raise LxcGpuError(
            "no-thread",
            "The web page can't start another thread at the moment.",
            "`systemctl status lxc-gpu-web` shows its tasks and memory, and their limits.",
            Remedy.WAIT,
            f"{name}: {error}",
        ) from error
    return thread


class Attempts:
    """Makes attempts at one work, and tells the journal when they begin or cease to fail.

    Each kind of failure is told at most once in `SAY_AGAIN`, also if all goes well in between.
    """

    def __init__(self, name: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._name = name
        self._clock = clock
        self._failures = 0
        self._telling = False
        """Whether the journal's last word is that it fails."""
        self._told: dict[str, float] = {}

    def make(self, work: Work) -> None:
        """Do `work`. Only what isn't an Exception is raised."""
        try:
            work()
        except Exception as error:
            self._failed(error)
        else:
            self._succeeded()

    def _failed(self, error: Exception) -> None:
        self._failures += 1
        kind, now = _kind(error), self._clock()
        if kind in self._told and now - self._told[kind] < SAY_AGAIN:
            return
        self._told[kind], self._telling = now, True
        if isinstance(error, LxcGpuError):
            said = {"code": error.code, "details": error.details or error.message}
            events.warning(log, Code.BACKGROUND_FAILED, work=self._name, **said)
        else:
            events.crashed(log, self._name, error)

    def _succeeded(self) -> None:
        if self._telling:
            said = {"work": self._name, "failures": self._failures}
            events.info(log, Code.BACKGROUND_WORKS, **said)
        self._failures, self._telling = 0, False


def _kind(error: Exception) -> str:
    """The same for two errors that are one trouble, though their words may differ."""
    if isinstance(error, LxcGpuError):
        return error.code
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} {place.filename}:{place.lineno}"
