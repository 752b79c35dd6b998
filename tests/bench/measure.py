"""Figures: medians of several runs, always beside a floor that was measured in the same run."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """What something of ours took, and what the bare thing took."""

    what: str
    """In words; the same in every run, for results are compared by it."""
    ours: float
    """The median, in seconds where `unit` says nothing else."""
    floor: float
    """The same."""
    of_floor: str
    """What the floor is."""
    target: str
    """What we aim by; never asserted."""
    unit: str = "s"
    """Of both numbers, where they are no seconds."""

    @property
    def ratio(self) -> float:
        """How many times the floor ours took."""
        return self.ours / self.floor if self.floor else float("inf")


def seconds(act: Callable[[], object]) -> float:
    """How long `act` takes."""
    begun = time.perf_counter()
    act()
    return time.perf_counter() - begun


def in_turn(
    ours: Callable[[], float], floor: Callable[[], float], runs: int
) -> tuple[float, float]:
    """The medians of both, run in turn, so that a slow minute slows both. Each returns seconds."""
    pairs = [(ours(), floor()) for _ in range(runs)]
    return statistics.median(a for a, _ in pairs), statistics.median(b for _, b in pairs)
