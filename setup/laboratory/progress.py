"""Prints what is being done, and for how long, for people and log files."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TextIO

NOTICED_AFTER = 1.0
"""Seconds after which a running step is printed."""
TICK = 0.2


@dataclass(eq=False)
class RunningStep:
    """A step that is being done. `note` is added to its line when it ends."""

    text: str
    since: float = field(default_factory=time.monotonic)
    note: str = ""
    announced: bool = False

    @property
    def seconds(self) -> float:
        """For how long it has been running."""
        return time.monotonic() - self.since


class ProgressLines:
    """Prints one line per finished step, and on a terminal what is running right now.

    Steps may run in several threads at once.
    """

    def __init__(self, out: TextIO | None = None, *, live: bool | None = None) -> None:
        self._out = sys.stdout if out is None else out
        self._live = self._out.isatty() if live is None else live
        self._colour = self._live and not os.environ.get("NO_COLOR")
        self._running: list[RunningStep] = []
        self._lock = threading.Lock()
        self._line_shown = False
        self._done = threading.Event()
        self._ticker: threading.Thread | None = None

    def __enter__(self) -> ProgressLines:
        self._ticker = threading.Thread(target=self._tick, daemon=True)
        self._ticker.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        if self._ticker is not None:
            self._ticker.join()
        with self._lock:
            self._clear()

    @contextmanager
    def step(self, text: str) -> Iterator[RunningStep]:
        """Do one step, and print how long it took, or that it failed."""
        step = RunningStep(text)
        with self._lock:
            self._running.append(step)
        try:
            yield step
        except BaseException:
            self._end(step, "FAILED")
            raise
        self._end(step, "")

    def say(self, text: str) -> None:
        """Print a line that isn't a step."""
        with self._lock:
            self._clear()
            print(text, file=self._out, flush=True)

    def _end(self, step: RunningStep, outcome: str) -> None:
        took = f"{step.seconds:.1f} s" if step.seconds >= NOTICED_AFTER / 10 else ""
        remarks = ", ".join(word for word in (outcome, step.note, took) if word)
        with self._lock:
            self._running.remove(step)
            self._clear()
            mark = "x" if outcome else "-"
            line = f"{mark} {step.text}" + (f" ({remarks})" if remarks else "")
            print(self._paint(line, failed=bool(outcome)), file=self._out, flush=True)

    def _paint(self, line: str, *, failed: bool) -> str:
        if not self._colour:
            return line
        return f"\033[{31 if failed else 32}m{line[0]}\033[0m{line[1:]}"

    def _tick(self) -> None:
        while not self._done.wait(TICK):
            with self._lock:
                slow = [step for step in self._running if step.seconds >= NOTICED_AFTER]
                if self._live:
                    self._clear()
                    self._show(slow)
                else:
                    self._announce(slow)

    def _show(self, slow: list[RunningStep]) -> None:
        if slow:
            line = "... " + "; ".join(f"{step.text} {step.seconds:.0f} s" for step in slow)
            width = os.get_terminal_size(self._out.fileno()).columns
            self._out.write(line[: width - 1])
            self._out.flush()
            self._line_shown = True

    def _announce(self, slow: list[RunningStep]) -> None:
        for step in slow:
            if not step.announced:
                step.announced = True
                print(f"... {step.text}", file=self._out, flush=True)

    def _clear(self) -> None:
        if self._line_shown:
            self._out.write("\r\033[K")
            self._line_shown = False
