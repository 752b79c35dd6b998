"""Numbers as words with units, and as bars. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

NEARLY_FULL = 90.0
"""Percent in use above which a bar is marked as high."""
_UNITS = (("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20))


@dataclass(frozen=True)
class Bar:
    """A share as a bar and in words."""

    share: float
    """Percent."""
    words: str
    high: bool = False
    """Whether it is marked."""


def share_of(used: float, total: float) -> float:
    """`used` in percent of `total`, limited to 0 to 100."""
    return min(100.0, max(0.0, 100 * used / total)) if total else 0.0


def part(used: float, total: float) -> str:
    """`used` and `total` bytes in one unit: 12.4 / 80.0 GiB."""
    unit, bytes_ = next((each for each in _UNITS if total >= each[1]), _UNITS[-1])
    return f"{used / bytes_:.1f} / {total / bytes_:.1f} {unit}"


def memory_bar(used: float, total: float) -> Bar:
    """A bar of `used` against `total` bytes."""
    share = share_of(used, total)
    return Bar(share, part(used, total), share > NEARLY_FULL)


def ranges(numbers: Iterable[int]) -> str:
    """The numbers in order, with ranges: 0-3, 5."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs)
