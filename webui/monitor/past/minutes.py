"""The last days of one server, minute by minute, in memory. Plots are drawn from it."""

from __future__ import annotations

from array import array

from webui.monitor.past.accounting import Levels
from webui.monitor.past.records import Point

MINUTE = 60
_FIELDS = len(Levels().values())


class Minutes:
    """A ring buffer of `size` minutes, 28 bytes each. Minutes are counted since the epoch."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._last = -1
        self._sums = tuple(array("f", bytes(4 * size)) for _ in range(_FIELDS))

    def add(self, minute: int, levels: Levels) -> None:
        """Add `levels` to `minute`, unless it is too old for the ring."""
        if minute <= self._last - self._size:
            return
        for gone in range(max(self._last + 1, minute - self._size + 1), minute + 1):
            for sums in self._sums:
                sums[gone % self._size] = 0.0
        self._last = max(self._last, minute)
        for sums, value in zip(self._sums, levels.values(), strict=True):
            sums[minute % self._size] += value

    def point(self, first: int, count: int) -> Point:
        """The mean over the `count` minutes from `first` on."""
        at = float(first * MINUTE)
        begin = max(first, self._last - self._size + 1, 0)
        end = min(first + count, self._last + 1)
        if begin >= end:
            return Point(at)
        seconds, cpu, memory, gpu_seconds, gpu, held_seconds, held = (
            self._sum(sums, begin, end) for sums in self._sums
        )
        return Point(
            at,
            _mean(cpu, seconds),
            _mean(memory, seconds),
            _mean(gpu, gpu_seconds),
            _mean(held, held_seconds),
        )

    def _sum(self, sums: array[float], begin: int, end: int) -> float:
        a, b = begin % self._size, end % self._size
        if a < b:
            return sum(sums[a:b])
        return sum(sums[a:]) + sum(sums[:b])


def _mean(weighted: float, seconds: float) -> float | None:
    return min(weighted / seconds, 100.0) if seconds > 0 else None
