"""Weeks of use, added up for people: by person, by server, by week; and as CSV. Pure."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta

from state.wire.server_load import SYSTEM
from webui.monitor.past.records import Heard, Used
from webui.monitor.past.weeks import days_of
from webui.monitor.shown.amounts import Bar, share_of
from webui.monitor.shown.people import People, Person

WEEK_HOURS = 168.0
COLUMNS = (
    "week", "server", "user", "name", "gpu_hours", "gpu_busy_hours",
    "gpu_memory_gib_hours", "memory_gib_hours", "cpu_hours",
)  # fmt: skip
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
"""What makes a spreadsheet calculate instead of show."""


@dataclass(frozen=True)
class Sum:
    """What several lines come to, in hours, and in GiB x hours."""

    gpu: float = 0.0
    busy: float = 0.0
    gpu_memory: float = 0.0
    memory: float = 0.0
    cpu: float = 0.0

    @property
    def at_work(self) -> Bar:
        """The share of the hours held in which GPUs worked."""
        share = share_of(self.busy, self.gpu)
        return Bar(share, f"{share:.0f} %" if self.gpu else "")


@dataclass(frozen=True)
class Row:
    """One line of a table."""

    key: str
    """The user, the server or the week."""
    sum: Sum
    bar: Bar
    """GPU-hours, against those of the longest bar."""
    person: Person | None = None
    heard: Bar | None = None
    """Of a server: how much of the week was heard."""
    held: Bar | None = None
    """Of a server: how much of what could have been held was."""


def added(used: Iterable[Used]) -> Sum:
    """All of `used` together."""
    total = [0.0] * 5
    for each in used:
        total = [a + b for a, b in zip(total, _hours(each), strict=True)]
    return Sum(*total)


def by_person(used: Iterable[Used], people: People) -> tuple[Row, ...]:
    """A row for each person, who held GPUs longest first; what is nobody's is left out."""
    sums = _sums((each for each in used if each.user != SYSTEM), lambda each: each.user)
    rows = _rows(sums, lambda user: Row(user, sums[user], _NONE, people.named(user)))
    return tuple(sorted(rows, key=lambda row: (-row.sum.gpu, -row.sum.cpu, row.key)))


def by_week(used: Iterable[Used]) -> tuple[Row, ...]:
    """A row for each week, the newest first."""
    sums = _sums(used, lambda each: each.week)
    rows = _rows(sums, lambda week: Row(week, sums[week], _NONE))
    return tuple(sorted(rows, key=lambda row: row.key, reverse=True))


def by_server(
    used: Iterable[Used], heard: Iterable[Heard], week: str, now: float
) -> tuple[Row, ...]:
    """A row for each server that was heard in `week`, with how much of it was."""
    sums = _sums(used, lambda each: each.server)
    there = {each.server: each for each in heard}
    most = hours_so_far(week, now)

    def row(server: str) -> Row:
        of = there.get(server)
        total = sums.get(server, Sum())
        hours, gpu_hours = (of.hours, of.gpu_hours) if of else (0.0, 0.0)
        heard_of = share_of(hours, most)
        held = Bar(share_of(total.gpu, gpu_hours), f"{share_of(total.gpu, gpu_hours):.0f} %")
        return Row(
            server, total, _NONE, None,
            heard=Bar(heard_of, f"{heard_of:.0f} %"), held=held if gpu_hours else None,
        )  # fmt: skip

    return _rows(dict.fromkeys(sorted(sums.keys() | there.keys())), row)


def hours_so_far(week: str, now: float) -> float:
    """How many hours of `week` are over; none of a week that is none."""
    days = days_of(week)
    if days is None:
        return 0.0
    began = datetime.fromisoformat(days[0]).replace(tzinfo=UTC).timestamp()
    return min(WEEK_HOURS, max(0.0, (now - began) / 3600))


def days_in_words(week: str) -> str:
    """From when to when: 2026-W47 is 16 to 22 November 2026."""
    days = days_of(week)
    if days is None:
        return week
    first = date.fromisoformat(days[0])
    last = first + timedelta(days=6)
    month = "" if first.month == last.month else f" {first:%B}"
    return f"{first.day}{month} to {last.day} {last:%B %Y}"


def as_csv(used: Iterable[Used], people: People) -> str:
    """One line for each week, server and user; no cell is a formula for a spreadsheet."""
    text = io.StringIO()
    lines = csv.writer(text)
    lines.writerow(COLUMNS)
    for each in used:
        words = (each.week, each.server, each.user, people.named(each.user).name)
        lines.writerow([*map(_text, words), *(f"{number:.3f}" for number in _hours(each))])
    return text.getvalue()


def _text(word: str) -> str:
    """`word` as a cell; a spreadsheet takes what follows an apostrophe for a text."""
    return f"'{word}" if word.startswith(_FORMULA) else word


def _hours(each: Used) -> tuple[float, float, float, float, float]:
    return (
        each.gpu_hours, each.gpu_busy_hours, each.gpu_memory_gib_hours,
        each.memory_gib_hours, each.cpu_hours,
    )  # fmt: skip


_NONE = Bar(0.0, "")


def _sums(used: Iterable[Used], key: Callable[[Used], str]) -> dict[str, Sum]:
    found: dict[str, list[Used]] = {}
    for each in used:
        found.setdefault(key(each), []).append(each)
    return {name: added(lines) for name, lines in found.items()}


def _rows(keys: Iterable[str], row: Callable[[str], Row]) -> tuple[Row, ...]:
    """A row for each key, with a bar against the longest."""
    rows = [row(key) for key in keys]
    most = max((each.sum.gpu for each in rows), default=0.0)
    return tuple(
        replace(each, bar=Bar(share_of(each.sum.gpu, most), f"{each.sum.gpu:.1f}")) for each in rows
    )
