"""Numbers as words with their unit, and as bars. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

NEARLY_FULL = 90.0
"""Percent of a file system in use that are worth a word."""
_UNITS = (("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20))


@dataclass(frozen=True)
class Bar:
    """A share, drawn, and in words."""

    share: float
    """Percent."""
    words: str
    high: bool = False
    """Whether it is worth a look."""


def share_of(used: float, total: float) -> float:
    """Percent of `total`, from 0 to 100, whatever a server says."""
    return min(100.0, max(0.0, 100 * used / total)) if total else 0.0


def part(used: float, total: float) -> str:
    """`used` of `total` bytes, in one unit: 12.4 / 80.0 GiB."""
    unit, bytes_ = next((each for each in _UNITS if total >= each[1]), _UNITS[-1])
    return f"{used / bytes_:.1f} / {total / bytes_:.1f} {unit}"


def memory_bar(used: float, total: float) -> Bar:
    """What is used of `total` bytes."""
    share = share_of(used, total)
    return Bar(share, part(used, total), share > NEARLY_FULL)


def ranges(numbers: Iterable[int]) -> str:
    """Numbers in order, neighbours together: 0-3, 5."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs)
