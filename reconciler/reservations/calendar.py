"""Writes reservations as a calendar for other programs: iCalendar (RFC 5545). Pure."""

from __future__ import annotations

import time
from collections.abc import Iterable

from reconciler.reservations.book import Reservation
from state.words import plural, printable

_FOLD = 74
"""Bytes of a line before it is folded: 75 with the blank (RFC 5545, 3.1)."""


def calendar(server: str, reservations: Iterable[Reservation], now: float) -> str:
    """A calendar with an event for each reservation, in UTC."""
    lines = ["BEGIN:VCALENDAR", "VERSION:2.0", "PRODID:-//lxc-gpu//reservations//EN"]
    for each in reservations:
        gpus = plural(len(each.gpus), "GPU")
        lines += [
            "BEGIN:VEVENT",
            f"UID:{_text(each.id)}-{int(each.made)}@{_text(server)}",
            f"DTSTAMP:{_utc(now)}",
            f"DTSTART:{_utc(each.begins)}",
            f"DTEND:{_utc(each.ends)}",
            f"SUMMARY:{_text(f'{gpus} of {server}: {each.user}')}",
            f"DESCRIPTION:{_text(chr(10).join((each.id, *each.gpus)))}",
            "END:VEVENT",
        ]
    return "".join(f"{_folded(line)}\r\n" for line in [*lines, "END:VCALENDAR"])


def _utc(moment: float) -> str:
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(moment))


def _text(said: str) -> str:
    """A TEXT value (RFC 5545, 3.3.11): special letters are escaped, control characters left out."""
    for letter in "\\;,":
        said = said.replace(letter, f"\\{letter}")
    said = said.replace("\n", "\\n")
    return printable(said, "")


def _folded(line: str) -> str:
    """The line folded to at most 75 bytes each; no letter is cut in two."""
    parts, part = list[str](), ""
    for letter in line:
        if len((part + letter).encode()) > _FOLD:
            parts.append(part)
            part = ""
        part += letter
    return "\r\n ".join([*parts, part])
