"""The days of a fortnight as columns of a drawing. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, time, timedelta, tzinfo
from functools import cached_property

from webui.words import zone_words

DAYS = 15
"""Today, which is partly over, and the next fourteen days."""


@dataclass(frozen=True)
class Day:
    """One column."""

    left: float
    """In percent of the width, like all positions and widths."""
    width: float
    weekday: str
    number: int
    weekend: bool
    month: str = ""
    """The month's name, on its first day only."""


class Window:
    """The days that are drawn, from the midnight before `now`. A day may have 23 or 25 hours."""

    def __init__(self, now: float, zone: tzinfo | None = None) -> None:
        self.now, self.zone = now, zone
        today = datetime.fromtimestamp(now, zone).date()
        days = [today + timedelta(days=number) for number in range(DAYS + 1)]
        self._midnights = [datetime.combine(day, time(), zone).timestamp() for day in days]

    @property
    def begins(self) -> float:
        """Seconds since the epoch."""
        return self._midnights[0]

    @property
    def ends(self) -> float:
        """Seconds since the epoch."""
        return self._midnights[-1]

    def shows(self, begins: float, ends: float) -> bool:
        """Whether a part of this time is shown and not over. False if it ends before it begins."""
        return begins < ends and begins < self.ends and ends > self.now

    def place(self, moment: float) -> float:
        """The position of a moment in percent. Earlier and later ones are at the edges."""
        share = 100 * (moment - self.begins) / (self.ends - self.begins)
        return round(min(100.0, max(0.0, share)), 3)

    def zone_words(self) -> str:
        """The name of the time zone, CET (UTC+1), and when the clocks change, if they do."""
        words = zone_words(self.now, self.zone)
        for midnight in self._midnights:
            later = zone_words(midnight, self.zone)
            if midnight > self.now and later != words:
                # Clocks change in the night before the first day that begins with the new time.
                day = datetime.fromtimestamp(midnight - 43_200, self.zone)
                return f"{words}, from {day:%a} {day.day} {day:%b} on {later}"
        return words

    @cached_property
    def days(self) -> tuple[Day, ...]:
        """The columns, from left to right."""
        found = []
        for first, last in zip(self._midnights, self._midnights[1:], strict=False):
            left, date = self.place(first), datetime.fromtimestamp(first, self.zone)
            width = round(self.place(last) - left, 3)
            month = f"{date:%b}" if date.day == 1 else ""
            found.append(Day(left, width, f"{date:%a}", date.day, date.weekday() >= 5, month))
        return tuple(found)
