"""Puts sizes, moments and tables into words, the same everywhere. Pure but for the time zone."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence

from state.sizes import size as size

DAY = 86400


def moment(when: float) -> str:
    """A moment, in seconds since the epoch, by the server's time zone: `2026-11-26 14:05`."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(when))


def moment_in_zone(when: float) -> str:
    """A moment with the day of the week and the time zone: `Thu 2026-11-26 14:05 CET`."""
    return time.strftime("%a %Y-%m-%d %H:%M %Z", time.localtime(when))


def since(started: float, now: float) -> str:
    """`since` and the time if it was today, the weekday within a week, else the date."""
    then, passed = time.localtime(started), now - started
    if passed < DAY and then.tm_yday == time.localtime(now).tm_yday:
        return time.strftime("since %H:%M", then)
    return time.strftime("since %a %H:%M" if passed < 6 * DAY else "since %Y-%m-%d", then)


def columns(
    rows: Sequence[Sequence[str]], *, right: Collection[int] = (), indent: int = 0
) -> list[str]:
    """Rows, all of one length, as aligned lines; the columns in `right` are aligned right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        " " * indent
        + "  ".join(
            f"{cell:>{width}}" if place in right else f"{cell:<{width}}"
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
