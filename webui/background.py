"""Work in a background thread, once or at intervals.

If a loop ended with its first error, the page would look well and do half of its work. So only
`stop` ends a loop, and errors go to the journal.
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
"""Seconds after which a lasting failure is logged again."""

Work = Callable[[], object]


def every(
    seconds: float, name: str, work: Work, stop: Event, at_end: Work = lambda: None
) -> Thread:
    """Do `work` in a thread `name`, with pauses of `seconds`, until `stop` is set; then `at_end`
    once.

    LxcGpuError if the thread can't be started. An Exception of `work` goes to the journal and
    doesn't end the loop; SystemExit and the like end it.
    """
    attempts = Attempts(name)

    def loop() -> None:
        while not stop.is_set():
            attempts.make(work)
            stop.wait(seconds)
        attempts.make(at_end)

    return start(name, loop)


def start(name: str, work: Work) -> Thread:
    """Do `work` once, in a daemon thread `name`.

    LxcGpuError if the thread can't be started; then nothing of `work` is done.
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
    """Attempts one piece of work again and again, and logs when it begins and ceases to fail.

    Each kind of failure is logged at most once in `SAY_AGAIN`, even if it worked in between.
    """

    def __init__(self, name: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._name = name
        self._clock = clock
        self._failures = 0
        self._telling = False
        """Whether the journal's last entry says that it fails."""
        self._told: dict[str, float] = {}

    def make(self, work: Work) -> None:
        """Do `work`. An Exception is logged, not raised."""
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
    """A key that is equal for errors with one cause, even if their words differ."""
    if isinstance(error, LxcGpuError):
        return error.code
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} {place.filename}:{place.lineno}"
