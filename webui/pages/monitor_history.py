"""Past weeks: who used how much, as a page and as CSV."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain, islice
from threading import BoundedSemaphore

from flask import Blueprint, Response, render_template, request

from state.errors import LxcGpuError, Remedy
from webui.config import OTHERS
from webui.monitor.past.belonging import Belonging
from webui.monitor.past.records import Heard, Used
from webui.monitor.past.weeks import week_of
from webui.monitor.shown import csv_export, usage
from webui.monitor.shown.people import People
from webui.services import services

past = Blueprint("past", __name__)

SHOWN_WEEKS = 12
"""Weeks that are shown for one person or group."""
ALL = "all"
"""The value of `week` for all weeks, in CSV."""
LONGEST = 128
TABLES = 8
"""CSV files that are sent at a time. The other threads are for pages."""
_tables = BoundedSemaphore(TABLES)


@dataclass(frozen=True)
class UsageQuery:
    """What the page's address asks for; empty fields match everything."""

    week: str
    user: str
    server: str
    group: str
    belonging: Belonging
    """Which users count for which groups."""

    def on_server(self, each: Used | Heard) -> bool:
        """Whether `each` is about a server that is asked for."""
        return self.server in ("", each.server)

    def lets(self, each: Used) -> bool:
        """Whether the line `each` is asked for."""
        group = not self.group or self.group in self.belonging.counted(each)
        return group and self.user in ("", each.user) and self.on_server(each)


@past.get("/monitor/history")
def weeks() -> str:
    """One week by group, person and server; for one person or group, also the last weeks."""
    parts = services()
    reading, history, groups = parts.source.current(), parts.history, parts.config.usage.groups
    people = People(reading.state)
    known = history.weeks()
    asked = _asked(people, known)
    of_week = [each for each in history.used(asked.week) if asked.on_server(each)]
    used = [each for each in of_week if asked.lets(each)]
    total, all_used = usage.added(used), usage.added(of_week)
    heard = [each for each in history.heard(asked.week) if asked.on_server(each)]
    lately = [each for each in _lately(asked, known) if asked.lets(each)]
    return render_template(
        "usage.html",
        reading=reading,
        problem=history.problem,
        unasked=parts.memberships.problem,
        asked=asked,
        weeks=[(week, usage.days_in_words(week)) for week in known],
        days=usage.days_in_words(asked.week),
        servers=sorted({*reading.state.servers, *(each.server for each in heard)}),
        choices=[*sorted(groups, key=str.casefold), OTHERS] if groups else [],
        person=people.named(asked.user) if asked.user else None,
        total=total,
        share=usage.share_in_words(total.gpu, all_used.gpu),
        reserved=usage.added([*used, *lately]).reserved > 0,
        there=sum(each.gpu_hours for each in heard),
        groups=usage.by_group(used, asked.belonging, groups, all_used.gpu) if groups else (),
        people=usage.by_person(used, people, all_used.gpu),
        by_server=usage.by_server(used, heard, asked.week, parts.clock()),
        by_week=usage.by_week(lately),
        all_weeks=usage.added(lately),
    )


@past.get("/monitor/history.csv")
def as_table() -> Response:
    """The lines of one week, or of `week=all`, as CSV, by person or `by=group`.

    They are sent while they are read.
    """
    parts = services()
    people = People(parts.source.current().state)
    known = parts.history.weeks()
    everything = request.args.get("week") == ALL
    asked = _asked(people, known)
    weeks = known if everything else [week for week in known if week == asked.week]
    lines = (filter(asked.lets, each) for each in parts.history.lines(weeks))
    grouped = request.args.get("by") == "group"
    texts = (
        csv_export.by_group(lines, asked.belonging, asked.group)
        if grouped
        else csv_export.by_person(lines, people, asked.belonging)
    )
    with ExitStack() as place:
        _take_place(place)
        first = "".join(islice(texts, 2))  # so that an error comes before anything is sent
        answer = Response(chain([first], texts), content_type=csv_export.CONTENT_TYPE)
        answer.call_on_close(place.pop_all().close)
    name = f"{'groups-' * grouped}{ALL if everything else asked.week}"
    answer.headers["Content-Disposition"] = f'attachment; filename="gpu-hours-{name}.csv"'
    return answer


def _take_place(place: ExitStack) -> None:
    """Limit parallel CSV files: years of data occupy a thread and the disk for a while."""
    if not _tables.acquire(blocking=False):
        raise LxcGpuError(
            "tables-busy",
            "Too many people are downloading past weeks at the moment.",
            "Try again in a minute.",
            Remedy.WAIT,
        )
    place.callback(_tables.release)


def _lately(asked: UsageQuery, known: tuple[str, ...]) -> Iterable[Used]:
    """The last weeks of one person or group; without one, nothing."""
    history = services().history
    if asked.user:
        return history.used_by(asked.user, SHOWN_WEEKS)
    latest = known[:SHOWN_WEEKS] if asked.group else ()
    return (each for week in latest for each in history.used(week))


def this_week(now: float) -> str:
    """The week at the time `now`."""
    return week_of(datetime.fromtimestamp(now, UTC).date().isoformat())


def _asked(people: People, known: tuple[str, ...]) -> UsageQuery:
    given, groups = request.args, services().config.usage.groups
    week = given.get("week", "")
    return UsageQuery(
        week=week if week in known else (known[0] if known else ""),
        user=people.called(given.get("user", "").strip()[:LONGEST]),
        server=given.get("server", "").strip()[:LONGEST],
        group=given.get("group", "").strip()[:LONGEST] if groups else "",
        belonging=services().history.belonging() if groups else Belonging(),
    )
