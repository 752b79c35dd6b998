"""Weeks of use as a table for spreadsheets: CSV of RFC 4180, UTF-8, a text for each week. Pure."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence

from webui.monitor.past.records import Used
from webui.monitor.shown.people import People

CONTENT_TYPE = "text/csv; charset=utf-8; header=present"
"""RFC 4180, 3."""
NUMBERS = (
    "gpu_hours", "gpu_busy_hours", "gpu_memory_gib_hours", "memory_gib_hours", "cpu_hours",
    "gpu_reserved_hours", "gpu_reserved_unused_hours",
)  # fmt: skip
"""Fields of `Used`, and columns by the same names."""
COLUMNS = ("week", "server", "user", "name", *NUMBERS)
_FORMULA = re.compile(
    r"^(?=[\t\r\n])|(^|[;,|\t\r\n])(?=\s*[=+\-@\N{FULLWIDTH EQUALS SIGN}"
    r"\N{FULLWIDTH PLUS SIGN}\N{FULLWIDTH HYPHEN-MINUS}\N{FULLWIDTH COMMERCIAL AT}])"
)
"""Where a spreadsheet would begin to calculate instead of to show: where a cell begins, and behind
what some take for the end of one."""


def by_person(weeks: Iterable[Iterable[Used]], people: People) -> Iterator[str]:
    """A header, then a line for each week, server and user; no cell is a formula."""
    yield _lines([COLUMNS])
    for lines in weeks:
        yield _lines([*_words(each, people), *_numbers(each)] for each in lines)


def _words(each: Used, people: People) -> list[str]:
    words = (each.week, each.server, each.user, people.named(each.user).name)
    return [_text(word) for word in words]


def _numbers(each: Used) -> list[str]:
    return [f"{getattr(each, name):.3f}" for name in NUMBERS]


def _text(word: str) -> str:
    """`word` as a cell; a spreadsheet takes what follows an apostrophe for a text."""
    return _FORMULA.sub(r"\1'", word)


def _lines(rows: Iterable[Sequence[str]]) -> str:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue()
