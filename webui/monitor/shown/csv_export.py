"""Weeks of use as CSV (RFC 4180, UTF-8), one text for each week. Pure."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence

from webui.monitor.past.belonging import Belonging
from webui.monitor.past.records import Used
from webui.monitor.shown.people import People

CONTENT_TYPE = "text/csv; charset=utf-8; header=present"
"""RFC 4180, section 3."""
NUMBERS = (
    "gpu_hours", "gpu_busy_hours", "gpu_memory_gib_hours", "memory_gib_hours", "cpu_hours",
    "gpu_reserved_hours", "gpu_reserved_unused_hours",
)  # fmt: skip
"""Fields of `Used`, which are also names of columns."""
OF_PERSON = ("week", "server", "user", "name", *NUMBERS, "groups")
OF_GROUP = ("week", "server", "group", "people", *NUMBERS)
_FORMULA = re.compile(
    r"^(?=[\t\r\n])|(^|[;,|\t\r\n])(?=\s*[=+\-@\N{FULLWIDTH EQUALS SIGN}"
    r"\N{FULLWIDTH PLUS SIGN}\N{FULLWIDTH HYPHEN-MINUS}\N{FULLWIDTH COMMERCIAL AT}])"
)
"""The places at which a spreadsheet could read a formula: at the beginning of a cell, and after
characters that some programs take for the end of one."""


def by_person(
    weeks: Iterable[Iterable[Used]], people: People, belonging: Belonging
) -> Iterator[str]:
    """A header, then a line for each week, server and user. No cell is read as a formula."""
    yield _lines([OF_PERSON])
    for lines in weeks:
        yield _lines(
            [each.week, each.server, each.user, people.named(each.user).name, *_numbers([each]),
             "; ".join(belonging.of(each.user, each.week) or ())]
            for each in lines
        )  # fmt: skip


def by_group(
    weeks: Iterable[Iterable[Used]], belonging: Belonging, group: str = ""
) -> Iterator[str]:
    """A header, then a line for each week, server and group; of all groups if `group` is empty."""
    yield _lines([OF_GROUP])
    for lines in weeks:
        found: dict[tuple[str, str, str], list[Used]] = {}
        for each in lines:
            for name in belonging.counted(each):
                if group in ("", name):
                    found.setdefault((each.week, each.server, name), []).append(each)
        yield _lines([*place, str(len(of)), *_numbers(of)] for place, of in sorted(found.items()))


def _numbers(lines: Sequence[Used]) -> list[str]:
    return [f"{sum(getattr(each, name) for each in lines):.3f}" for name in NUMBERS]


def _text(word: str) -> str:
    """`word` as a cell. A spreadsheet reads it as a text after an apostrophe."""
    return _FORMULA.sub(r"\1'", word)


def _lines(rows: Iterable[Sequence[str]]) -> str:
    text = io.StringIO()
    csv.writer(text).writerows([_text(word) for word in row] for row in rows)
    return text.getvalue()
