"""The monitor's past: who used how much, week by week; as a page, and as CSV."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain, islice

from flask import Blueprint, Response, render_template, request

from webui.monitor.past.records import Used
from webui.monitor.past.weeks import week_of
from webui.monitor.shown import table, usage
from webui.monitor.shown.people import People
from webui.services import services

past = Blueprint("past", __name__)

SHOWN_WEEKS = 12
"""Of one person, so many weeks are shown."""
ALL = "all"
"""Instead of a week, for CSV: everything that is kept."""
LONGEST = 128


@dataclass(frozen=True)
class Asked:
    """What the address asks for; empty: no matter."""

    week: str
    user: str
    server: str

    def lets(self, each: Used) -> bool:
        """Whether a line is asked for."""
        return (not self.user or each.user == self.user) and (
            not self.server or each.server == self.server
        )


@past.get("/monitor/history")
def weeks() -> str:
    """One week: by person, by server; of one person, the last weeks."""
    parts = services()
    reading = parts.source.current()
    people = People(reading.state)
    known = parts.history.weeks()
    asked = _asked(people, known)
    of_week = [each for each in parts.history.used(asked.week) if asked.server in ("", each.server)]
    used = [each for each in of_week if asked.lets(each)]
    total, all_used = usage.added(used), usage.added(of_week)
    heard = [h for h in parts.history.heard(asked.week) if asked.server in ("", h.server)]
    ever = parts.history.used_by(asked.user, SHOWN_WEEKS) if asked.user else ()
    mine = [each for each in ever if asked.lets(each)]
    return render_template(
        "usage.html",
        reading=reading,
        problem=parts.history.problem,
        asked=asked,
        weeks=[(week, usage.days_in_words(week)) for week in known],
        days=usage.days_in_words(asked.week),
        servers=sorted({*reading.state.servers, *(each.server for each in heard)}),
        person=people.named(asked.user) if asked.user else None,
        total=total,
        share=usage.share_in_words(total.gpu, all_used.gpu),
        reserved=usage.added([*used, *mine]).reserved > 0,
        there=sum(each.gpu_hours for each in heard),
        people=usage.by_person(used, people, all_used.gpu),
        by_server=usage.by_server(used, heard, asked.week, parts.clock()),
        by_week=usage.by_week(mine),
        all_weeks=usage.added(mine),
    )


@past.get("/monitor/history.csv")
def as_table() -> Response:
    """The same lines as CSV: of one week, or of `week=all`, sent while they are read."""
    parts = services()
    people = People(parts.source.current().state)
    known = parts.history.weeks()
    everything = request.args.get("week") == ALL
    asked = _asked(people, known)
    weeks = known if everything else [week for week in known if week == asked.week]
    lines = (filter(asked.lets, each) for each in parts.history.lines(weeks))
    texts = table.by_person(lines, people)
    first = "".join(islice(texts, 2))  # what can't be read is told before anything is sent
    answer = Response(chain([first], texts), content_type=table.CONTENT_TYPE)
    name = ALL if everything else asked.week
    answer.headers["Content-Disposition"] = f'attachment; filename="gpu-hours-{name}.csv"'
    return answer


def this_week(now: float) -> str:
    """The week that the moment `now` is in."""
    return week_of(datetime.fromtimestamp(now, UTC).date().isoformat())


def _asked(people: People, known: tuple[str, ...]) -> Asked:
    given = request.args
    week = given.get("week", "")
    return Asked(
        week=week if week in known else (known[0] if known else ""),
        user=people.called(given.get("user", "").strip()[:LONGEST]),
        server=given.get("server", "").strip()[:LONGEST],
    )
