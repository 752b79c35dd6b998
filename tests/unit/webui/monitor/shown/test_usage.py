"""Weeks of use: sums and shares."""

from __future__ import annotations

from datetime import UTC, datetime

from tests.present import present
from tests.unit.state.state_files import state
from webui.monitor.past.belonging import Belonging
from webui.monitor.past.records import Heard, Used
from webui.monitor.shown import usage
from webui.monitor.shown.people import People

PEOPLE = People(state())
WEEK = "2026-W47"
MONDAY = datetime(2026, 11, 16, tzinfo=UTC).timestamp()


def used(server: str, user: str, gpu: float, week: str = WEEK, busy: float = 0.0) -> Used:
    return Used(week, server, user, gpu, busy, gpu * 2, 8.0, 3.0)


LINES = (
    used("gpu17", "ann", 10.0, busy=5.0),
    used("gpu18", "ann", 30.0, busy=15.0),
    used("gpu17", "lqchen", 80.0),
    used("gpu17", "system", 0.0),
)


def test_people_stand_by_their_names_with_shares_and_without_a_ranking() -> None:
    lines = (*LINES, used("gpu17", "Zoe", 0.0), used("gpu17", "bea", 120.0))
    ann, bea, lqchen, zoe = usage.by_person(lines, PEOPLE, 240.0)
    assert [row.key for row in (ann, bea, lqchen, zoe)] == ["ann", "bea", "lqchen", "Zoe"]
    assert (lqchen.sum.gpu, lqchen.bar.words, lqchen.share) == (80.0, "80.0", "33 %")
    assert (bea.bar.share, zoe.share) == (50.0, "0 %")
    assert (ann.sum.gpu, ann.share, ann.sum.at_work.words) == (40.0, "17 %", "50 %")
    assert (ann.sum.cpu, ann.sum.memory, ann.sum.gpu_memory) == (6.0, 16.0, 80.0)
    assert [row.share for row in usage.by_person(lines[3:5], PEOPLE, 0.0)] == [""]


def test_who_is_in_several_groups_counts_in_each_and_who_is_in_none_as_another() -> None:
    both: dict[str, list[tuple[str, tuple[str, ...]]]] = {
        "ann": [(WEEK, ("Robotics", "vision"))],
        "lqchen": [(WEEK, ("vision",))],
    }
    lines = (*LINES[:3], used("gpu17", "bea", 40.0))
    groups = ("vision", "Robotics", "Empty")
    rows = usage.by_group(lines, Belonging(both), groups, 160.0)
    assert [(row.key, row.sum.gpu, row.share, row.people) for row in rows] == [
        ("Empty", 0.0, "0 %", 0),
        ("Robotics", 40.0, "25 %", 1),
        ("vision", 120.0, "75 %", 2),
        ("others", 40.0, "25 %", 1),
    ]


def test_by_server_with_how_much_was_heard() -> None:
    heard = (Heard(WEEK, "gpu17", 42.0, 336.0), Heard(WEEK, "gpu19", 84.0, 0.0))
    rows = {row.key: row for row in usage.by_server(LINES, heard, WEEK, MONDAY + 84 * 3600)}
    assert list(rows) == ["gpu17", "gpu18", "gpu19"]
    assert (present(rows["gpu17"].heard).share, present(rows["gpu17"].held).words) == (50.0, "27 %")
    assert (present(rows["gpu18"].heard).share, rows["gpu18"].held) == (0.0, None)
    assert (present(rows["gpu19"].heard).share, rows["gpu19"].sum.gpu) == (100.0, 0.0)


def test_a_week_that_is_not_over_has_fewer_hours() -> None:
    assert usage.hours_so_far(WEEK, MONDAY + 7200) == 2.0
    assert usage.hours_so_far(WEEK, MONDAY + 90 * 86_400) == 168.0
    assert usage.hours_so_far(WEEK, MONDAY - 5) == 0.0
    assert usage.hours_so_far("nonsense", MONDAY) == 0.0


def test_by_week_the_newest_first() -> None:
    lines = (*LINES, used("gpu17", "ann", 1.0, "2026-W46"), used("gpu17", "ann", 1.0, "2025-W52"))
    assert [row.key for row in usage.by_week(lines)] == [WEEK, "2026-W46", "2025-W52"]


def test_a_week_in_words() -> None:
    assert usage.days_in_words(WEEK) == "16 to 22 November 2026"
    assert usage.days_in_words("2026-W49") == "30 November to 6 December 2026"
    assert usage.days_in_words("") == ""


def test_people_are_found_by_name_login_and_full_name() -> None:
    user = state().users["lqchen"]
    assert {PEOPLE.called(word) for word in ("lqchen", user.login, user.name.upper())} == {"lqchen"}
    assert PEOPLE.called("root") == "root"
