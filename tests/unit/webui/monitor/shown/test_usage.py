"""Weeks of use: sums, and a table that no spreadsheet takes for formulas."""

from __future__ import annotations

import csv
from datetime import UTC, datetime

import pytest

from tests.unit.state.state_files import state
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


def test_by_person_the_most_first_and_nobody_s_left_out():
    first, second = usage.by_person(LINES, PEOPLE)
    assert (first.key, first.sum.gpu, first.bar.share, first.bar.words) == (
        "lqchen", 80.0, 100.0, "80.0",
    )  # fmt: skip
    assert (second.sum.gpu, second.bar.share, second.sum.at_work.words) == (40.0, 50.0, "50 %")
    assert (second.sum.cpu, second.sum.memory, second.sum.gpu_memory) == (6.0, 16.0, 80.0)


def test_by_server_with_how_much_was_heard():
    heard = (Heard(WEEK, "gpu17", 42.0, 336.0), Heard(WEEK, "gpu19", 84.0, 0.0))
    rows = {row.key: row for row in usage.by_server(LINES, heard, WEEK, MONDAY + 84 * 3600)}
    assert list(rows) == ["gpu17", "gpu18", "gpu19"]
    assert (rows["gpu17"].heard.share, rows["gpu17"].held.words) == (50.0, "27 %")
    assert (rows["gpu18"].heard.share, rows["gpu18"].held) == (0.0, None)
    assert (rows["gpu19"].heard.share, rows["gpu19"].sum.gpu) == (100.0, 0.0)


def test_a_week_that_is_not_over_has_fewer_hours():
    assert usage.hours_so_far(WEEK, MONDAY + 7200) == 2.0
    assert usage.hours_so_far(WEEK, MONDAY + 90 * 86_400) == 168.0
    assert usage.hours_so_far(WEEK, MONDAY - 5) == 0.0
    assert usage.hours_so_far("nonsense", MONDAY) == 0.0


def test_by_week_the_newest_first():
    lines = (*LINES, used("gpu17", "ann", 1.0, "2026-W46"), used("gpu17", "ann", 1.0, "2025-W52"))
    assert [row.key for row in usage.by_week(lines)] == [WEEK, "2026-W46", "2025-W52"]


def test_a_week_in_words():
    assert usage.days_in_words(WEEK) == "16 to 22 November 2026"
    assert usage.days_in_words("2026-W49") == "30 November to 6 December 2026"
    assert usage.days_in_words("") == ""


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1"])
def test_no_cell_of_the_table_is_a_formula(name):
    text = usage.as_csv([used(name, name, 1.0)], PEOPLE)
    _, row = list(csv.reader(text.splitlines(keepends=True), strict=True))[:2]
    assert row[1].startswith("'")
    assert row[2].startswith("'")
    assert row[3].startswith("'")


def test_the_table_has_full_names_and_numbers():
    header, row, *_ = csv.reader(usage.as_csv(LINES[2:3], PEOPLE).splitlines())
    assert dict(zip(header, row, strict=True)) == {
        "week": WEEK,
        "server": "gpu17",
        "user": "lqchen",
        "name": state().users["lqchen"].name,
        "gpu_hours": "80.000",
        "gpu_busy_hours": "0.000",
        "gpu_memory_gib_hours": "160.000",
        "memory_gib_hours": "8.000",
        "cpu_hours": "3.000",
    }


def test_people_are_found_by_name_login_and_full_name():
    user = state().users["lqchen"]
    assert {PEOPLE.called(word) for word in ("lqchen", user.login, user.name.upper())} == {"lqchen"}
    assert PEOPLE.called("root") == "root"
