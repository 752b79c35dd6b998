"""How long tests wait for what happens: no test depends on how fast a machine is."""

from __future__ import annotations

import time
from collections.abc import Callable

HANGS = 60
"""Seconds after which something is taken to hang. What hangs in a test does so for longer."""


def eventually(held: Callable[[], object], seconds: float = HANGS) -> None:
    """Wait until something holds; AssertionError if it doesn't within some seconds."""
    deadline, pause = time.monotonic() + seconds, 0.02
    while not held():
        assert time.monotonic() < deadline, f"not within {seconds:g} s"
        time.sleep(pause)
        pause = min(0.3, 1.3 * pause)  # to ask takes the time of a core that others wait for


def cpu_seconds(work: Callable[[], object], times: int = 3) -> float:
    """Seconds of this process's CPU time that a piece of work takes: the least of a few times.

    To compare with those of another piece of work, never with a number.
    """
    took = []
    for _ in range(times):
        begun = time.process_time()
        work()
        took.append(time.process_time() - begun)
    return min(took)
