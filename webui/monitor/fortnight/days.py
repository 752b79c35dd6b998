"""The days of a fortnight, as columns. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, time, timedelta, tzinfo
from functools import cached_property

from webui.words import zone_words

DAYS = 15
"""Today, of which a part is over, and the fourteen days after it."""


@dataclass(frozen=True)
class Day:
    """One column."""

    left: float
    """Percent, as all that is called so."""
    width: float
    weekday: str
    number: int
    weekend: bool
    month: str = ""
    """Of the first day of a month."""


class Window:
    """The days that are drawn, from the midnight before `now`. Days may have 23 or 25 hours."""

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
        """The same."""
        return self._midnights[-1]

    def shows(self, begins: float, ends: float) -> bool:
        """Whether something of it is in these days and isn't over; nothing ends before it began."""
        return begins < ends and begins < self.ends and ends > self.now

    def place(self, moment: float) -> float:
        """Where a moment stands, in percent; what is before or after stands at the edge."""
        share = 100 * (moment - self.begins) / (self.ends - self.begins)
        return round(min(100.0, max(0.0, share)), 3)

    def zone_words(self) -> str:
        """What the time is called, and when that changes: CET (UTC+1)."""
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
        """One after the other."""
        found = []
        for first, last in zip(self._midnights, self._midnights[1:], strict=False):
            left, date = self.place(first), datetime.fromtimestamp(first, self.zone)
            width = round(self.place(last) - left, 3)
            month = f"{date:%b}" if date.day == 1 else ""
            found.append(Day(left, width, f"{date:%a}", date.day, date.weekday() >= 5, month))
        return tuple(found)
