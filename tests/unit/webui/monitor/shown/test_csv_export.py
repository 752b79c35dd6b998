"""Weeks of use as CSV, which no spreadsheet takes for formulas."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.unit.state.state_files import state
from tests.unit.webui.monitor.shown.test_usage import LINES, PEOPLE, WEEK, used
from webui.monitor.past.belonging import Belonging
from webui.monitor.past.records import Used
from webui.monitor.shown import csv_export

NOBODY = Belonging()
BELONGING = Belonging({"ann": [(WEEK, ("Robotics", "Vision"))], "lqchen": [(WEEK, ("Vision",))]})


def rows(text: str) -> list[list[str]]:
    return list(csv.reader(text.splitlines(keepends=True), strict=True))


@pytest.mark.parametrize(
    "name",
    ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", " =1", "\N{FULLWIDTH EQUALS SIGN}1"],
)
def test_no_cell_of_the_table_is_a_formula(name: str) -> None:
    text = "".join(csv_export.by_person([[used(name, name, 1.0)]], PEOPLE, NOBODY))
    _, row = rows(text)
    assert [cell[0] for cell in row[1:4]] == ["'"] * 3


@pytest.mark.parametrize("name", ["a;=1+1", "a,-1", "a\t@b", "a|+1", "a;=1;=2"])
def test_nor_is_what_another_reader_takes_for_a_cell(name: str) -> None:
    _, row = rows("".join(csv_export.by_person([[used(name, "ann", 1.0)]], PEOPLE, NOBODY)))
    for cell in row[1].replace("|", ";").replace(",", ";").replace("\t", ";").split(";")[1:]:
        assert cell.startswith("'")


def test_the_table_has_full_names_and_numbers() -> None:
    line = replace(LINES[2], gpu_reserved_hours=2.5, gpu_reserved_unused_hours=1.0)
    text = "".join(csv_export.by_person([[line]], PEOPLE, BELONGING))
    assert text.endswith("\r\n")
    header, row = rows(text)
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
        "gpu_reserved_hours": "2.500",
        "gpu_reserved_unused_hours": "1.000",
        "groups": "Vision",
    }


def test_a_table_of_groups_has_a_line_for_each_week_server_and_group() -> None:
    text = "".join(csv_export.by_group([LINES[:3], [used("gpu17", "x", 1.0)]], BELONGING))
    header, *lines = rows(text)
    assert header[:5] == ["week", "server", "group", "people", "gpu_hours"]
    assert [line[1:5] for line in lines] == [
        ["gpu17", "Robotics", "1", "10.000"],
        ["gpu17", "Vision", "2", "90.000"],
        ["gpu18", "Robotics", "1", "30.000"],
        ["gpu18", "Vision", "1", "30.000"],
        ["gpu17", "others", "1", "1.000"],
    ]
    _, *alone = rows("".join(csv_export.by_group([LINES[:3]], BELONGING, "Robotics")))
    assert [line[2] for line in alone] == ["Robotics", "Robotics"]


def test_commas_quotes_and_line_ends_of_names_stay_in_their_cells() -> None:
    name = 'a "b", c\r\nd'
    assert (
        rows("".join(csv_export.by_person([[used("gpu17", name, 1.0)]], PEOPLE, NOBODY)))[1][2]
        == name
    )


def test_a_week_is_read_when_the_one_before_it_was_sent() -> None:
    read = []

    def weeks() -> Iterator[list[Used]]:
        for week in ("2026-W47", "2026-W46"):
            read.append(week)
            yield [used("gpu17", "ann", 1.0, week)]

    texts = csv_export.by_person(weeks(), PEOPLE, NOBODY)
    assert (next(texts).count("\n"), read) == (1, [])
    assert (next(texts).count("\n"), read) == (1, ["2026-W47"])
