"""Reservations for other programs' calendars (RFC 5545)."""

from __future__ import annotations

from reconciler.reservations.book import Reservation
from reconciler.reservations.calendar import calendar

GPUS = ("GPU-5a1bd0a3-9d4e-4d12-8b5e-2f6c1c6f0e01", "GPU-0c2de7b1-1f3a-4c55-9a77-b1d2e3f40502")


def test_lines_are_as_the_rfc_wants_them() -> None:
    text = calendar("gpu17", [Reservation("r5", "ann", GPUS, 1e9, 1e9 + 3600, 9e8)], 8e8)
    lines = text.split("\r\n")
    assert lines[-1] == ""
    assert lines[0] == "BEGIN:VCALENDAR"
    assert "DTSTART:20010909T014640Z" in lines
    assert "DTEND:20010909T024640Z" in lines
    assert "SUMMARY:2 GPUs of gpu17: ann" in lines
    assert max(len(line.encode()) for line in lines) <= 75
    unfolded = text.replace("\r\n ", "")
    assert f"DESCRIPTION:r5\\n{GPUS[0]}\\n{GPUS[1]}\r\n" in unfolded
    assert calendar("gpu17", [], 0).count("VEVENT") == 0


def test_a_name_can_not_become_a_line_of_its_own() -> None:
    hostile = "ann;x,\\\r\nBEGIN:VEVENT\x00é" * 9
    text = calendar("gpu17", [Reservation("r5", hostile, GPUS, 1e9, 1e9 + 3600, 9e8)], 8e8)
    assert text.count("\r\nBEGIN:VEVENT") == 1
    assert "ann\\;x\\,\\\\\\nBEGIN" in text.replace("\r\n ", "")
