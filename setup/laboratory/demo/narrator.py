"""Tells a story on a terminal: what a person types, what comes back, what was checked."""

from __future__ import annotations

import os
import sys
from typing import TextIO

from state.errors import LxcGpuError

SHOWN_LINES = 24
"""Lines of one answer that are shown; the rest is counted."""


class StoryError(LxcGpuError):
    """Something in the story went wrong."""


class Narrator:
    """Prints the story, in colours on a terminal."""

    def __init__(self, out: TextIO = sys.stdout) -> None:
        self._out = out
        self._colours = out.isatty() and not os.environ.get("NO_COLOR")
        self.checks = 0

    def chapter(self, title: str) -> None:
        """Begin a chapter."""
        self._print(f"\n{self._paint(title, 1)}")

    def says(self, text: str) -> None:
        """Print a sentence about what happens."""
        self._print(f"  {text}")

    def typed(self, line: str, answer: str = "") -> None:
        """Print what a person types, and the answer."""
        for number, part in enumerate(line.splitlines()):
            self._print(f"  {self._paint('$' if number == 0 else '>', 36)} {part}")
        lines = answer.rstrip().splitlines()
        for part in lines[:SHOWN_LINES]:
            self._print(f"    {self._paint(part, 2)}")
        if len(lines) > SHOWN_LINES:
            self._print(f"    ... {len(lines) - SHOWN_LINES} more lines")

    def check(self, held: bool, what: str, seen: str = "") -> None:
        """Check one thing, and print it. StoryError with what was seen if it doesn't hold."""
        if not held:
            self._print(f"  {self._paint('✗', 31)} {what}")
            raise StoryError("story", f"Not as it should be: {what}", f"Seen: {seen}")
        self.checks += 1
        self._print(f"  {self._paint('✓', 32)} {what}")

    def _paint(self, text: str, colour: int) -> str:
        return f"\033[{colour}m{text}\033[0m" if self._colours else text

    def _print(self, text: str) -> None:
        print(text, file=self._out, flush=True)
