"""Prints for people: results on stdout, progress and remarks on stderr.

On a terminal progress overwrites itself, in colours unless NO_COLOR is set. In a pipe it is plain
lines.
"""

from __future__ import annotations

import os
import sys

from state.errors import LxcGpuError

TYPE_CHECKING = False
"""For mypy it is true, which knows the name; typing's own would be loaded on the way of `help`."""
if TYPE_CHECKING:
    from typing import TextIO

    from state.wire.messages import Progress

_CLEAR_LINE = "\r\x1b[2K"
_COLORS = {"red": 31, "green": 32, "yellow": 33, "dim": 2, "bold": 1}


class Terminal:
    """stdout and stderr, and whether each is a terminal."""

    def __init__(self, out: TextIO = sys.stdout, err: TextIO = sys.stderr) -> None:
        self._out, self._err = out, err
        self._live = err.isatty() and os.environ.get("TERM") != "dumb"
        self._colors = self._live and not os.environ.get("NO_COLOR")
        self._told = ""

    def paint(self, text: str, color: str) -> str:
        """`text` in a colour, if colours are used."""
        return f"\x1b[{_COLORS[color]}m{text}\x1b[0m" if self._colors else text

    def progress(self, step: Progress) -> None:
        """Show one step; on a terminal it replaces the one before."""
        if self._live:
            share = "" if step.fraction is None else f" {step.fraction:4.0%}"
            self._err.write(f"{_CLEAR_LINE}{self.paint('·', 'dim')} {step.text}{share}")
            self._err.flush()
        elif step.text != self._told:
            print(f"- {step.text}", file=self._err, flush=True)
        self._told = step.text

    def result(self, text: str) -> None:
        """Print the result."""
        self._end_progress()
        print(text, file=self._out, flush=True)

    def error(self, error: LxcGpuError) -> None:
        """Print an error: what happened, what it means, what to type next."""
        self._end_progress()
        print(f"{self.paint('✗', 'red')} {error.message}", file=self._err)
        if error.hint:
            print(f"  {error.hint}", file=self._err)
        self._err.flush()

    def note(self, text: str) -> None:
        """Print a remark."""
        self._end_progress()
        print(text, file=self._err, flush=True)

    def agrees(self, question: str) -> bool:
        """Ask a question; True for a yes. False if nobody can be asked."""
        if not (sys.stdin.isatty() and self._err.isatty()):
            return False
        self.note(question)
        self._err.write("Go on? [y/N] ")
        self._err.flush()
        return sys.stdin.readline().strip().lower() in ("y", "yes")

    def _end_progress(self) -> None:
        if self._live and self._told:
            self._err.write(_CLEAR_LINE)
            self._err.flush()
        self._told = ""
