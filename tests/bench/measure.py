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
    ours: float
    """Seconds, the median."""
    floor: float
    """Seconds, the median."""
    of_floor: str
    """What the floor is."""
    target: str
    """What we aim by; never asserted."""


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


def table(figures: list[Figure]) -> str:
    """The figures, for people."""
    lines = [f"{'':<46} {'ours':>8} {'floor':>8} {'ratio':>6}  target"]
    for f in figures:
        lines.append(
            f"{f.what:<46} {f.ours:>6.2f} s {f.floor:>6.2f} s {f.ours / f.floor:>6.1f}  {f.target}"
        )
        lines.append(f"    floor: {f.of_floor}")
    return "\n".join(lines)
