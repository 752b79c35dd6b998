"""Tables of past weeks: use by person, group, server and week. Pure.

They show shares, but no ranking: people are sorted by name.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta

from state.wire.server_load import SYSTEM
from webui.config import OTHERS
from webui.monitor.past.belonging import Belonging
from webui.monitor.past.records import Heard, Used
from webui.monitor.past.weeks import days_of
from webui.monitor.shown.amounts import Bar, share_of
from webui.monitor.shown.people import NamedPerson, People

WEEK_HOURS = 168.0


@dataclass(frozen=True)
class Sum:
    """The sum of several lines, in hours and in GiB x hours."""

    gpu: float = 0.0
    busy: float = 0.0
    gpu_memory: float = 0.0
    memory: float = 0.0
    cpu: float = 0.0
    reserved: float = 0.0
    unused: float = 0.0

    @property
    def at_work(self) -> Bar:
        """The share of the GPU-hours in which the GPUs worked."""
        share = share_of(self.busy, self.gpu)
        return Bar(share, f"{share:.0f} %" if self.gpu else "")


@dataclass(frozen=True)
class UsageRow:
    """One row of a table."""

    key: str
    """The user, the group, the server or the week."""
    sum: Sum
    bar: Bar
    """GPU-hours: for a person or group, compared to all; otherwise to the largest row."""
    person: NamedPerson | None = None
    people: int = 0
    """For a group: the number of people who used something."""
    share: str = ""
    """The share of all GPU-hours, in words."""
    heard: Bar | None = None
    """For a server: how much of the week it was heard."""
    held: Bar | None = None
    """For a server: how much of its possible GPU-hours were held."""


def added(used: Iterable[Used]) -> Sum:
    """The sum of all of `used`."""
    return Sum(*map(sum, zip(*map(_hours, used), strict=True)))


def by_person(used: Iterable[Used], people: People, held: float) -> tuple[UsageRow, ...]:
    """A row for each person, sorted by name, with the share of the `held` GPU-hours.

    The system's own use is left out.
    """
    sums = _sums((each for each in used if each.user != SYSTEM), lambda each: each.user)
    rows = (_part(UsageRow(user, sums[user], _NONE, people.named(user)), held) for user in sums)
    return tuple(sorted(rows, key=lambda row: (_name(row).casefold(), row.key)))


def by_group(
    used: Iterable[Used], belonging: Belonging, groups: Collection[str], held: float
) -> tuple[UsageRow, ...]:
    """A row for each group, sorted by name, the others last; also for `groups` without use.

    A person in several groups counts in each, so the sum may be more than `held`.
    """
    lines: dict[str, list[Used]] = {name: [] for name in groups}
    for each in used:
        for name in belonging.counted(each):
            lines.setdefault(name, []).append(each)
    rows = (
        _part(UsageRow(name, added(of), _NONE, people=len({each.user for each in of})), held)
        for name, of in lines.items()
    )
    return tuple(sorted(rows, key=lambda row: (row.key == OTHERS, row.key.casefold())))


def by_week(used: Iterable[Used]) -> tuple[UsageRow, ...]:
    """A row for each week, the newest first."""
    sums = _sums(used, lambda each: each.week)
    rows = _rows(sums, lambda week: UsageRow(week, sums[week], _NONE))
    return tuple(sorted(rows, key=lambda row: row.key, reverse=True))


def by_server(
    used: Iterable[Used], heard: Iterable[Heard], week: str, now: float
) -> tuple[UsageRow, ...]:
    """A row for each server that was heard in `week`."""
    sums = _sums(used, lambda each: each.server)
    there = {each.server: each for each in heard}
    most = hours_so_far(week, now)

    def row(server: str) -> UsageRow:
        of = there.get(server)
        total = sums.get(server, Sum())
        hours, gpu_hours = (of.hours, of.gpu_hours) if of else (0.0, 0.0)
        heard_of = share_of(hours, most)
        held = Bar(share_of(total.gpu, gpu_hours), f"{share_of(total.gpu, gpu_hours):.0f} %")
        return UsageRow(
            server, total, _NONE, None,
            heard=Bar(heard_of, f"{heard_of:.0f} %"), held=held if gpu_hours else None,
        )  # fmt: skip

    return _rows(dict.fromkeys(sorted(sums.keys() | there.keys())), row)


def share_in_words(gpu: float, held: float) -> str:
    """`gpu` GPU-hours as a share of the `held` ones; empty if none were held."""
    return f"{share_of(gpu, held):.0f} %" if held else ""


def hours_so_far(week: str, now: float) -> float:
    """How many hours of `week` are over; 0 if `week` isn't valid."""
    days = days_of(week)
    if days is None:
        return 0.0
    began = datetime.fromisoformat(days[0]).replace(tzinfo=UTC).timestamp()
    return min(WEEK_HOURS, max(0.0, (now - began) / 3600))


def days_in_words(week: str) -> str:
    """The days of `week`: 2026-W47 is 16 to 22 November 2026."""
    days = days_of(week)
    if days is None:
        return week
    first = date.fromisoformat(days[0])
    last = first + timedelta(days=6)
    month = "" if first.month == last.month else f" {first:%B}"
    return f"{first.day}{month} to {last.day} {last:%B %Y}"


def _hours(each: Used) -> tuple[float, ...]:
    return (
        each.gpu_hours, each.gpu_busy_hours, each.gpu_memory_gib_hours, each.memory_gib_hours,
        each.cpu_hours, each.gpu_reserved_hours, each.gpu_reserved_unused_hours,
    )  # fmt: skip


_NONE = Bar(0.0, "")


def _sums(used: Iterable[Used], key: Callable[[Used], str]) -> dict[str, Sum]:
    found: dict[str, list[Used]] = {}
    for each in used:
        found.setdefault(key(each), []).append(each)
    return {name: added(lines) for name, lines in found.items()}


def _name(row: UsageRow) -> str:
    return row.person.name if row.person else row.key


def _part(row: UsageRow, held: float) -> UsageRow:
    """`row` with its bar and share of the `held` GPU-hours."""
    bar = Bar(share_of(row.sum.gpu, held), f"{row.sum.gpu:.1f}")
    return replace(row, bar=bar, share=share_in_words(row.sum.gpu, held))


def _rows(keys: Iterable[str], row: Callable[[str], UsageRow]) -> tuple[UsageRow, ...]:
    """A row for each key, with bars compared to the largest."""
    rows = [row(key) for key in keys]
    most = max((each.sum.gpu for each in rows), default=0.0)
    return tuple(
        replace(each, bar=Bar(share_of(each.sum.gpu, most), f"{each.sum.gpu:.1f}")) for each in rows
    )
