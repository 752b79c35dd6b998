"""Reads lengths of time and moments as people type them, and puts them into words.

Everything is by the server's clock and time zone. A length of `1d` is always 24 hours, also when
the clocks change. `9:00` is the time on the wall clock. An hour that occurs twice means the first
one; an hour that is skipped means the one after it (PEP 495, `fold`). Pure but for the time zone.
"""

from __future__ import annotations

import re
import time
from datetime import datetime, timedelta

MINUTE, HOUR, DAY = 60, 3600, 86400
WEEK = 7 * DAY
LONGEST = 366 * DAY
"""The longest length that is accepted, in seconds."""
_UNITS = {"m": MINUTE, "h": HOUR, "d": DAY, "w": WEEK}
_PART = re.compile(
    r"([0-9]{1,6}(?:[.,][0-9]{1,3})?) *"
    r"(minutes?|mins?|m|hours?|hrs?|h|days?|d|weeks?|w) *",
    re.ASCII | re.IGNORECASE,
)
_CLOCK = re.compile(
    r"(?:at )?(?:([0-9]{1,2})[:.]([0-9]{2})(?::00)? ?(am|pm)?|([0-9]{1,2}) ?(am|pm)|(noon))",
    re.ASCII | re.IGNORECASE,
)
_DATE = re.compile(r"([0-9]{4})-([0-9]{1,2})-([0-9]{1,2})", re.ASCII)
_DAY_FIRST = re.compile(r"([0-9]{1,2})\.([0-9]{1,2})\.([0-9]{4})?", re.ASCII)
_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
EXAMPLES = "`now`, `18:00`, `tomorrow 9:00`, `friday`, `mon 14:00`, `2026-12-01 9:00`, `in 2h`"
LENGTHS = "`90m`, `8h`, `1d`, `1d12h`, `2w`"


def seconds_of(text: str) -> int | None:
    """The seconds of `8h`, `1d12h` or `90 minutes`; None if it is not a length of time."""
    total, place, left = 0.0, 0, text.strip()
    while place < len(left):
        part = _PART.match(left, place)
        if part is None:
            return None
        total += float(part[1].replace(",", ".")) * _UNITS[part[2][0].lower()]
        place = part.end()
    return round(total) if left else None


def moment(text: str, now: float, *, end_of_day: bool = False) -> float | None:
    """The moment `tomorrow 9:00` in seconds since the epoch; None if it is not a moment.

    A day without a time means its beginning, today means now; with `end_of_day`, its end. A time
    without a day, or a day of the week, means the next one. Only a date or `today` can lead to the
    past.
    """
    words = " ".join(text.lower().split())
    if words in ("now", "", "today") and not end_of_day:
        return now
    if words.startswith(("in ", "+")):
        passed = seconds_of(words.removeprefix("in ").removeprefix("+"))
        return None if passed is None else now + passed
    for day, clock in _halves(words):
        at = _clock(clock)
        if clock and at is None:
            continue
        try:
            found = _on(day, at, now, end_of_day=end_of_day)
        except (ValueError, OverflowError, OSError):  # e.g. the 31st of February, the year 9999
            return None
        if found is not None:
            return found
    return None


def moment_at_first(words: list[str], now: float) -> int:
    """How many of these words, from the first on, make up a moment: as many as possible, or 0."""
    for count in range(min(4, len(words)), 0, -1):
        if moment(" ".join(words[:count]), now) is not None:
            return count
    return 0


def _halves(words: str) -> list[tuple[str, str]]:
    """All ways to split the words into a day and a time."""
    found = [(words, ""), ("", words)]
    for place in (place for place, letter in enumerate(words) if letter == " "):
        one, other = words[:place], words[place + 1 :]
        found += [(one, other), (other, one)]
    if "t" in words and _DATE.match(words):
        day, _, clock = words.partition("t")
        found.append((day, clock))
    return found


def _clock(text: str) -> tuple[int, int] | None:
    """The hour and minute of `9:00`, `9am`, `14.30`, `noon`."""
    match = _CLOCK.fullmatch(text)
    if match is None:
        return None
    if match[6]:
        return 12, 0
    hour, minute = int(match[1] or match[4]), int(match[2] or 0)
    half = match[3] or match[5]
    if half and not 1 <= hour <= 12:
        return None
    if half:
        hour = hour % 12 + (12 if half.lower() == "pm" else 0)
    return (hour, minute) if hour < 24 and minute < 60 else None


def _on(day: str, at: tuple[int, int] | None, now: float, *, end_of_day: bool) -> float | None:
    today = datetime.fromtimestamp(now).replace(hour=0, minute=0, second=0, microsecond=0)
    begin = _day(day, today)
    if begin is None:
        return None
    if at is None:
        if end_of_day:
            return (begin + timedelta(days=1)).timestamp()
        return now if begin == today else begin.timestamp()
    found = begin.replace(hour=at[0], minute=at[1]).timestamp()
    if found <= now and not day:
        found = (begin + timedelta(days=1)).replace(hour=at[0], minute=at[1]).timestamp()
    elif found <= now and begin == today and _is_day_of_the_week(day):
        found = (begin + timedelta(days=7)).replace(hour=at[0], minute=at[1]).timestamp()
    return found


def _day(text: str, today: datetime) -> datetime | None:
    """The beginning of the day that is named; of today if none is."""
    if text in ("", "today"):
        return today
    if text == "tomorrow":
        return today + timedelta(days=1)
    if date := _DATE.fullmatch(text):
        return datetime(int(date[1]), int(date[2]), int(date[3]))
    if date := _DAY_FIRST.fullmatch(text):
        found = datetime(int(date[3] or today.year), int(date[2]), int(date[1]))
        past = not date[3] and found < today
        return found.replace(year=today.year + 1) if past else found
    if not _is_day_of_the_week(text):
        return None
    name = text.removeprefix("next ").removeprefix("on ")
    wanted = next(place for place, each in enumerate(_DAYS) if each.startswith(name))
    days = (wanted - today.weekday()) % 7
    return today + timedelta(days=days or (7 if text.startswith("next ") else 0))


def _is_day_of_the_week(text: str) -> bool:
    name = text.removeprefix("next ").removeprefix("on ")
    return len(name) >= 3 and any(each.startswith(name) for each in _DAYS)


def weeks(begins: float, until: float, most: int) -> tuple[float, ...]:
    """The beginnings of a weekly series until `until`, at most `most` + 1 of them.

    Wall clocks show the same time each week, also when the clocks change in between.
    """
    first, found = datetime.fromtimestamp(begins), list[float]()
    while len(found) <= most:
        each = (first.replace(fold=0) + timedelta(weeks=len(found))).timestamp()
        if not found:
            each = begins
        if each >= until:
            break
        found.append(each)
    return tuple(found)


def in_words(when: float) -> str:
    """A moment with its day and the server's time zone: `Fri 2026-11-27 17:00 CET`."""
    return time.strftime("%a %Y-%m-%d %H:%M %Z", time.localtime(when))


def until_in_words(begins: float, ends: float) -> str:
    """Beginning and end in words: the zone once, and the day once if it is the same."""
    first, last = time.localtime(begins), time.localtime(ends)
    zone = "" if first.tm_zone == last.tm_zone else " %Z"
    day = "" if first[:3] == last[:3] else "%a %Y-%m-%d "
    begin, end = f"%a %Y-%m-%d %H:%M{zone}", f"{day}%H:%M %Z"
    return f"{time.strftime(begin, first)} until {time.strftime(end, last)}"


def length_in_words(seconds: float) -> str:
    """A length of time as people type it: `1d12h`."""
    left, said = round(seconds / MINUTE) * MINUTE, ""
    for unit, size in (("d", DAY), ("h", HOUR), ("m", MINUTE)):
        said += f"{left // size}{unit}" if left >= size else ""
        left %= size
    return said or "0m"


def typed(when: float, now: float) -> str:
    """A moment, in whole minutes, as it can now be typed after `--from`."""
    text = time.strftime("%Y-%m-%d %H:%M", time.localtime(when))
    if moment(text, now) == when // MINUTE * MINUTE:
        return text
    return f"in {length_in_words(when - now // MINUTE * MINUTE)}"  # an hour that comes twice
