"""Limits how often something is done while bytes pass: telling progress, checking the disk."""

from __future__ import annotations

import time
from dataclasses import dataclass

TELL_EVERY = 0.5
"""Seconds between two lines of progress."""


@dataclass
class Pace:
    """Says when it is time again. The first time is at once."""

    every: float = TELL_EVERY
    """Seconds."""
    _last: float = float("-inf")

    def due(self) -> bool:
        """Whether it is time; if so, the next time is `every` seconds from now."""
        now = time.monotonic()
        if now - self._last <= self.every:
            return False
        self._last = now
        return True
