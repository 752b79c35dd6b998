"""Whose GPU until when, in words and for programs; and what is written to terminals."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.reservations import telling
from reconciler.reservations.book import Reservation
from reconciler.reservations.overview import ReservationsOverview
from reconciler.reservations.watching import Intrusion, ReservationUse

NOW = 1_800_000_000.0
"""2027-01-15 08:00 UTC."""
GPUS = ("GPU-a", "GPU-b", "GPU-c")
HERS = Reservation("r1", "ann", ("GPU-b", "GPU-a"), NOW - 7200, NOW + 7200, NOW - 9000)
NEXT = replace(HERS, id="r2", user="bob", begins=NOW + 7200, ends=NOW + 10800)
SEEN = {"r1": ReservationUse("ann", 3600.0, {"lqchen": 60.0, "bob": 0.0})}
SIGHT = ReservationsOverview("gpu17", NOW, (HERS, NEXT), SEEN)


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(os.environ, "TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def test_below_a_gpu() -> None:
    assert SIGHT.of_gpu("GPU-a") == [
        "reserved by ann until Fri 2027-01-15 10:00 UTC (bob, lqchen are on it)",
        "reserved by bob from Fri 2027-01-15 10:00 UTC to Fri 2027-01-15 11:00 UTC",
    ]
    assert SIGHT.of_gpu("GPU-c") == []


def test_to_the_owner() -> None:
    assert SIGHT.lines("ann", GPUS) == [
        "GPU 0, 1: reserved for you until Fri 2027-01-15 10:00 UTC (bob, lqchen are on it).",
        "  You have used none of it since Fri 2027-01-15 07:00 UTC.",
        "  If you don't need it:  ssh gpu17-manage release r1",
    ]


def test_to_an_intruder_who_has_the_next_one() -> None:
    assert SIGHT.lines("bob", GPUS) == [
        "GPU 0, 1: reserved for you from Fri 2027-01-15 10:00 UTC to Fri 2027-01-15 11:00 UTC.",
        "GPU 0, 1: reserved by ann until Fri 2027-01-15 10:00 UTC.",
        "A program of yours is on GPU 0, 1, which ann has reserved:",
        "  please end it, or agree with them.",
    ]


def test_who_was_handed_one_over_reads_by_whom() -> None:
    for each, when in ((HERS, "until"), (NEXT, "from")):
        sight = ReservationsOverview("gpu17", NOW, (replace(each, maker="eve"),))
        assert f"reserved for you by eve {when} Fri" in sight.lines(each.user, GPUS)[0]
        assert sight.facts()[0]["made_by"] == "eve"


def test_a_gpu_that_is_not_known_to_be_there_has_its_uuid() -> None:
    (line,) = ReservationsOverview("gpu17", NOW, (HERS,)).lines("lqchen", ("GPU-a",))
    assert line == "GPU 0, GPU-b: reserved by ann until Fri 2027-01-15 10:00 UTC."


def test_for_programs() -> None:
    now, to_come = SIGHT.facts()
    assert (now["gpus"], now["intruders"]) == (["GPU-b", "GPU-a"], ["bob", "lqchen"])
    assert now["unused_since"] == NOW - 3600
    assert (to_come["intruders"], to_come["unused_since"]) == ([], None)
    assert [each["id"] for each in SIGHT.gpu_facts("GPU-a")] == ["r1", "r2"]


def test_what_a_terminal_shows_is_of_printable_letters() -> None:
    text = telling.words("gpu17", [Intrusion("bob", HERS, ("GPU-b",))], {"GPU-b": 1})
    assert text.splitlines()[1] == "  GPU 1 is ann's until Fri 2027-01-15 10:00 UTC."
    raw = telling.on_a_terminal("a\x1b[2Jé\nb")
    assert raw == b"\a\r\na?[2J?\r\nb\r\n"


def test_who_takes_no_messages_at_a_terminal_gets_none(tmp_path: Path) -> None:
    ours, theirs = os.openpty()
    try:
        for mode, takes in ((0o620, True), (0o600, False), (0o602, False)):
            os.fchmod(theirs, mode)
            assert telling.takes_messages(os.fstat(theirs)) is takes
    finally:
        os.close(ours)
        os.close(theirs)
    file = tmp_path / "0"
    file.touch()
    file.chmod(0o660)
    assert not telling.takes_messages(file.stat())
    assert not telling.takes_messages(Path(os.devnull).stat())
