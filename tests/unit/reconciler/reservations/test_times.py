"""Times as people type them, in the server's time zone, also where the clocks change."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime

import pytest

from reconciler.reservations import times
from reconciler.reservations.parsing import parse_reserve
from state.errors import LxcGpuError


@pytest.fixture(autouse=True)
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Clocks change on 2026-10-25 (3:00 becomes 2:00) and on 2027-03-28 (2:00 becomes 3:00)."""
    monkeypatch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def at(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


NOW = "2026-11-26 15:07"
"""A Thursday."""


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("8h", 8 * 3600), ("90m", 5400), ("1d12h", 129600), ("1d 12h", 129600), ("2w", 14 * 86400),
        ("8 hours", 8 * 3600), ("90 min", 5400), ("1.5h", 5400), ("1,5 h", 5400), ("1 Day", 86400),
        ("8", None), ("", None), ("h", None), ("-8h", None), ("8x", None), ("8h!", None),
        ("٨h", None), ("8h 2", None), ("1e9h", None), ("9" * 40 + "h", None),
    ],
)  # fmt: skip
def test_lengths(text: str, seconds: int | None) -> None:
    assert times.seconds_of(text) == seconds


@pytest.mark.parametrize(
    ("text", "when"),
    [
        ("now", NOW),
        ("today", NOW),
        ("thursday", NOW),
        ("2026-11-26", NOW),
        ("today 9:00", "2026-11-26 09:00"),
        ("18:00", "2026-11-26 18:00"),
        ("9:00", "2026-11-27 09:00"),
        ("today 18:00", "2026-11-26 18:00"),
        ("tomorrow", "2026-11-27 00:00"),
        ("tomorrow 9:00", "2026-11-27 09:00"),
        ("9:00 tomorrow", "2026-11-27 09:00"),
        ("tomorrow at 9:00", "2026-11-27 09:00"),
        ("TOMORROW 9am", "2026-11-27 09:00"),
        ("tomorrow 12 am", "2026-11-27 00:00"),
        ("noon", "2026-11-27 12:00"),
        ("9:30pm", "2026-11-26 21:30"),
        ("friday", "2026-11-27 00:00"),
        ("mon 14:00", "2026-11-30 14:00"),
        ("14.30 monday", "2026-11-30 14:30"),
        ("thu 14:00", "2026-12-03 14:00"),
        ("thu 18:00", "2026-11-26 18:00"),
        ("next thursday 18:00", "2026-12-03 18:00"),
        ("2026-12-01", "2026-12-01 00:00"),
        ("2026-12-01 9:00", "2026-12-01 09:00"),
        ("2026-12-01T09:00", "2026-12-01 09:00"),
        ("1.12. 9:00", "2026-12-01 09:00"),
        ("24.1.", "2027-01-24 00:00"),
        ("24.12.2026", "2026-12-24 00:00"),
        ("in 2h", "2026-11-26 17:07"),
        ("+90m", "2026-11-26 16:37"),
    ],
)  # fmt: skip
def test_moments(text: str, when: str) -> None:
    assert times.moment(text, at(NOW)) == at(when)
    assert times.moment(times.typed(at(when), at(NOW)), at(NOW)) == at(when)


@pytest.mark.parametrize(
    "text",
    ["9", "2", "8h", "2026-02-31", "2026-13-01", "99999-01-01", "0000-01-01", "25:00", "9:60",
     "13pm", "someday", "tomorrow tomorrow", "mo", "", "\x1b[2J", "\u0669:\u0660\u0660", "12/1",
     "in", "9999-12-31 x"],
)  # fmt: skip
def test_what_is_no_moment(text: str) -> None:
    assert times.moment(text, at(NOW)) in (None, at(NOW) if not text else None)


def test_a_last_day_is_meant_to_its_end() -> None:
    assert times.moment("friday", at(NOW), end_of_day=True) == at("2026-11-28 00:00")
    assert times.moment("today", at(NOW), end_of_day=True) == at("2026-11-27 00:00")
    assert times.moment("fri 18:00", at(NOW), end_of_day=True) == at("2026-11-27 18:00")
    assert times.moment("9999-12-31", at(NOW), end_of_day=True) is None


def test_how_many_words_a_moment_has() -> None:
    assert times.moment_at_first(["tomorrow", "9:00", "2", "8h"], at(NOW)) == 2
    assert times.moment_at_first(["friday", "2", "8h"], at(NOW)) == 1
    assert times.moment_at_first(["2", "8h"], at(NOW)) == 0


def test_a_series_keeps_the_time_on_the_wall_when_clocks_change() -> None:
    autumn = times.weeks(at("2026-10-19 14:00"), at("2026-11-03 00:00"), 60)
    assert [times.in_words(each)[9:20] for each in autumn] == [
        "10-19 14:00", "10-26 14:00", "11-02 14:00",
    ]  # fmt: skip
    assert autumn[1] - autumn[0] == times.WEEK + times.HOUR
    spring = times.weeks(at("2027-03-22 14:00"), at("2027-03-30 00:00"), 60)
    assert spring[1] - spring[0] == times.WEEK - times.HOUR


def test_an_hour_that_is_left_out_or_comes_twice_is_one_moment() -> None:
    left_out = times.weeks(at("2027-03-21 02:30"), at("2027-04-05 00:00"), 60)
    assert [times.in_words(each)[4:20] for each in left_out] == [
        "2027-03-21 02:30", "2027-03-28 03:30", "2027-04-04 02:30",
    ]  # fmt: skip
    twice = times.moment("2026-10-25 2:30", at("2026-10-24 12:00"))
    assert twice is not None
    assert times.in_words(twice) == "Sun 2026-10-25 02:30 CEST"
    assert times.in_words(twice + times.HOUR) == "Sun 2026-10-25 02:30 CET"


@pytest.mark.parametrize("now", ["2026-10-24 12:00", "2026-10-25 02:10"])
def test_what_is_said_of_an_hour_that_comes_twice_means_that_one_of_both(now: str) -> None:
    first = at("2026-10-25 02:30")
    assert times.typed(first, at(now)) == "2026-10-25 02:30"
    second = times.typed(first + times.HOUR, at(now) + 31)
    assert second.startswith("in ")
    assert times.moment(second, at(now) + 31) == first + times.HOUR + 31
    later = at("2026-10-25 04:00")
    assert times.moment(times.typed(later, at(now)), at(now)) == later


def test_an_hour_that_comes_again_is_over_when_it_was_the_first() -> None:
    second = at("2026-10-25 02:40") + times.HOUR
    with pytest.raises(
        LxcGpuError, match="02:30 CEST is in the past: it is Sun 2026-10-25 02:40 CET"
    ):
        parse_reserve({"what": "1 8h", "from": "2026-10-25 02:30"}, second, ("GPU-a",))


def test_a_length_is_a_length_and_the_words_say_both_zones() -> None:
    begins = at("2026-10-24 20:00")
    assert times.until_in_words(begins, begins + times.DAY) == (
        "Sat 2026-10-24 20:00 CEST until Sun 2026-10-25 19:00 CET"
    )
    assert times.until_in_words(at(NOW), at(NOW) + 3600) == "Thu 2026-11-26 15:07 until 16:07 CET"


def test_a_series_has_an_end() -> None:
    assert len(times.weeks(at(NOW), at("2999-01-01"), 60)) == 61
    assert times.weeks(at(NOW), at("2026-01-01"), 60) == ()


def test_lengths_in_words_can_be_typed() -> None:
    for seconds in (60, 3600, 5400, 86400, 129600, 8 * 86400 + 3660):
        assert times.seconds_of(times.length_in_words(seconds)) == seconds
